"""``isocenter pacsserver``: `isocenter serve` by the options of other PACS servers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.server import serve
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.settings.options import overrides_from

DESCRIPTION: Final = """\
isocenter serve, with the options that other PACS servers have for the same things beside its own.
A configuration in YAML may have their keys, too."""
EXAMPLES: Final = """\
examples:
  isocenter pacsserver --port 11112 --ae-title MY_PACS --storage-dir ./archive
  isocenter pacsserver --config pacs.yaml --check-config

exit codes: 0 it was stopped, 2 wrong arguments or settings, or it cannot start,
130 Ctrl-C while it started or closed"""

_DATA_DIR: Final = "storage.data_dir"


def add_arguments(parser: CommandParser) -> None:
    """The options of serve, and more names of them."""
    serve.add_arguments(parser)
    parser.set_defaults(prog=parser.prog)
    group = parser.add_argument_group("other names")
    group.add_argument(
        "--storage-dir", dest=_DATA_DIR, metavar="DIR", help="the same as --data-dir"
    )
    group.add_argument(
        "--db-path",
        type=Path,
        metavar="F",
        help="where the index is: index.db of the data directory, and nowhere else",
    )
    group.add_argument(
        "--max-associations",
        dest="server.max_associations",
        metavar="N",
        help="associations at once",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    index: Path | None = arguments.db_path
    if index is not None:
        folder = overrides_from(arguments).get(_DATA_DIR)
        if folder is None or index.absolute() != (Path(str(folder)) / "index.db").absolute():
            from isocenter.services.cli.support.terminal import Terminal

            Terminal(arguments.prog, quiet=False, verbose=False, debug=False).error(
                "the index is index.db in the data directory, which --storage-dir names; leave "
                "--db-path out"
            )
            return EXIT_USAGE
    return serve.run(arguments)
