"""The command line: `isocenter COMMAND …`.

One table names the commands.  The module of a command is imported when it is
asked for, so that `--help` answers at once.  It offers

    def add_arguments(parser: argparse.ArgumentParser) -> None
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
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

#: What every tool of the field answers: 0 done, 1 the work failed, 2 wrong arguments or settings.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
#: Ended by Ctrl-C, as shells count it.
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its module below `isocenter.services.cli`, and one line of help."""

    name: str
    module: str
    help: str


COMMANDS: Final = (
    Command("serve", "server.serve", "run the archive"),
    Command("certs", "security.certs", "issue, sign, list, renew and revoke certificates"),
    Command(
        "ae", "security.ae", "access policy: who may associate, and for what; who was rejected"
    ),
    Command("user", "security.user", "users of the access policy, with passcode or token"),
    Command("reload", "server.reload", "let the running server read its configuration again"),
    Command("config", "server.config", "show and explain the effective settings"),
    Command("conformance", "server.conformance", "print the conformance statement (PS3.2)"),
    Command("db", "archive.db", "statistics of the archive; verify it; rebuild its index"),
    Command(
        "backup",
        "archive.backup",
        "back up the whole archive while the server runs; verify backups",
    ),
    Command("restore", "archive.restore", "restore an archive from a backup"),
    Command("audit", "security.audit", "verify, show, follow and export the audit trail"),
    Command("import", "archive.import_files", "import a folder of DICOM files into the archive"),
    Command("delete", "archive.delete", "delete studies, series or instances from the archive"),
    Command("hold", "archive.hold", "protect studies from deletion: add, remove, list"),
    Command("retention", "archive.retention", "show what rules of retention would delete"),
    Command("trash", "archive.trash", "deleted objects: list, restore, purge"),
    Command("echoscu", "scu.echoscu", "verify a peer (C-ECHO)"),
    Command("storescu", "scu.storescu", "send files and folders to a peer (C-STORE)"),
    Command("findscu", "scu.findscu", "query a peer (C-FIND)"),
    Command("movescu", "scu.movescu", "have a peer send objects to a destination (C-MOVE)"),
    Command("getscu", "scu.getscu", "fetch objects from a peer (C-GET)"),
    Command("worklistscu", "scu.worklist_scu", "query the modality worklist of a peer"),
    Command("mppsscu", "scu.mpps_scu", "report performed procedure steps to a peer (MPPS)"),
    Command("commitscu", "scu.commit_scu", "request storage commitment from a peer"),
    Command(
        "hl7send", "scu.hl7_send", "send HL7 messages over MLLP, and show their acknowledgements"
    ),
    Command(
        "worklist", "archive.worklist", "list, add, import, update and remove worklist entries"
    ),
    Command("worklistscp", "server.worklist_scp", "serve a folder of files as a modality worklist"),
    Command(
        "mppsscp", "server.mpps_scp", "receive performed procedure steps (MPPS), and nothing else"
    ),
    Command("mpps", "archive.mpps", "list and show the archive's performed procedure steps"),
    Command(
        "commitments", "archive.commitments", "list and show the archive's storage commitments"
    ),
    Command("events", "archive.events", "events: list, deliver again; open and complete studies"),
    Command("queue", "archive.queue", "forwarding queue: list, retry, purge"),
    Command("rules", "archive.rules", "list the rules, and test what they would do with a file"),
    Command("dcmtojson", "files.dcmtojson", "write DICOM files as DICOM JSON"),
    Command("jsontodcm", "files.jsontodcm", "write DICOM files from DICOM JSON"),
    Command("dcmtoxml", "files.dcmtoxml", "write DICOM files as XML (Native DICOM Model)"),
    Command("xmltodcm", "files.xmltodcm", "write DICOM files from XML (Native DICOM Model)"),
    Command("dissect", "diagnose.dissect", "analyse DICOM associations in a network capture"),
    Command("health", "server.health", "health of the server on this machine"),
    Command("doctor", "diagnose.doctor", "find problems of this installation, or of a peer"),
)


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
    try:
        # The import takes a second on a slow machine, in which Ctrl-C may come, too.
        module, parser = parser_of(command)
        code: int = module.run(parser.parse_args(arguments[1:]))
        return code
    except IsocenterError as error:
        # Late: the table of settings is large, and most commands end well.
        from isocenter.services.settings.loading import SettingsError

        print(f"isocenter {command.name}: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, SettingsError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: be silent, as other programs are.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)


def parser_of(command: Command) -> tuple[ModuleType, argparse.ArgumentParser]:
    """The module of a command, and what reads its arguments."""
    # All that is made while modules are read stays: the collector would look, and find nothing.
    gc.disable()
    try:
        module = import_module(f"isocenter.services.cli.{command.module}")
    finally:
        gc.enable()
    parser = argparse.ArgumentParser(
        prog=f"isocenter {command.name}",
        description=module.DESCRIPTION,
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # DCMTK's spelling: -aet, +tls.
        prefix_chars="-+",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"isocenter {program_version()}")
    module.add_arguments(parser)
    return module, parser


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
    try:
        return version("isocenter")
    except PackageNotFoundError:
        return "(not installed)"
