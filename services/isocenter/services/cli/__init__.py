"""The command line: `isocenter COMMAND …`.

One table (`isocenter.services.cli.commands`) names the commands. The module of a command is
imported when it is asked for, so that `--help` answers at once. It offers

    def add_arguments(parser: CommandParser) -> None
    def run(arguments: argparse.Namespace) -> int        # the exit code

and, as attributes, ``DESCRIPTION`` and ``EXAMPLES`` for its help.  ``_`` and ``-``
in names are optional: ``store_scu``, ``store-scu`` and ``storescu`` are one command.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Final, NoReturn

from isocenter.services.cli.commands import COMMANDS, Command
from isocenter.services.cli.support.argument_parser import CommandParser

#: What every tool of the field answers: 0 done, 1 the work failed, 2 wrong arguments or settings.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
#: Ended by Ctrl-C, as shells count it.
EXIT_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_OK if arguments else EXIT_USAGE
    if arguments[0] in ("--version", "-V"):
        print(f"isocenter {program_version()}")
        return EXIT_OK
    command = _find(arguments[0])
    if command is None:
        print(_unknown(arguments[0]), file=sys.stderr)
        return EXIT_USAGE
    # Late, as all that the overview can do without.
    from isocenter.engine.errors import IsocenterError

    try:
        # The import takes a second on a slow machine, in which Ctrl-C may come, too.
        module, parser = parser_of(command)
        code: int = module.run(parser.parse_args(arguments[1:]))
        return code
    except IsocenterError as error:
        # Late: the table of settings is large, and most commands end well.
        from isocenter.services.errors import fault_text
        from isocenter.services.settings.errors import SettingsError

        print(f"isocenter {command.name}: {fault_text(error)}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, SettingsError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: be silent, as other programs are.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)


def parser_of(command: Command) -> tuple[ModuleType, CommandParser]:
    """The module of a command, and what reads its arguments."""
    module = read_module(f"isocenter.services.cli.{command.module}")
    parser = CommandParser(
        prog=f"isocenter {command.name}",
        description=module.DESCRIPTION,
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # DCMTK's spelling: -aet, +tls.
        prefix_chars="-+",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show program's version number and exit"
    )
    module.add_arguments(parser)
    return module, parser


def read_module(name: str) -> ModuleType:
    """A module and all that it imports."""
    # All that is made while modules are read stays: the collector would look, and find nothing.
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.enable()


class _Version(argparse.Action):
    """``--version`` of a command; who asks for it waits until it is looked up, nobody else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"isocenter {program_version()}")
        parser.exit()


def _find(name: str) -> Command | None:
    wanted = name.replace("-", "").replace("_", "").lower()
    for command in COMMANDS:
        if command.name == wanted:
            return command
    return None


def _overview() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join(
        (
            "usage: isocenter COMMAND [OPTIONS]",
            "",
            "A DICOM server and toolkit.",
            "",
            *lines,
            "",
            "isocenter COMMAND --help tells the options of a command, with examples.",
        )
    )


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    hint = f"did you mean {near[0]}?" if near else "isocenter --help lists the commands"
    return f"isocenter: there is no command {name!r}; {hint}"


def program_version() -> str:
    """Of the distribution that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("isocenter")
    except PackageNotFoundError:
        return "(not installed)"
