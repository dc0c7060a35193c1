"""``isocenter worklistscp``: files of worklist entries, as a worklist."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.server.single_service import (
    add_scp_options,
    add_scp_tls_options,
    serve_only,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import whole_number
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.sections.storage import IN_MEMORY

DESCRIPTION: Final = """\
Offer a file, or the files of a folder, as a modality worklist, as DCMTK's wlmscpfs does, and
nothing else: JSON, DICOM files (*.wl), text dumps.  Files that come, change or go count within
seconds.  isocenter serve has the worklist, too, with everything around it."""
EXAMPLES: Final = """\
examples:
  isocenter worklistscp --folder ./planned 11112
  isocenter worklistscp -dfp /srv/worklist 11112 -v
  isocenter worklistscp 11112 WORKLIST --worklist-file planned.json --max-results 100

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""

_LOOK_SECONDS: Final = 1.0
_MOST_RESULTS: Final = 1_000_000_000


def add_arguments(parser: CommandParser) -> None:
    """The files, and what every single service has."""
    add_scp_options(parser, aet="WORKLISTSCP")
    group = parser.add_argument_group("entries")
    where = group.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "-dfp",
        "--folder",
        "--data-files-path",
        "--worklist-dir",
        type=Path,
        metavar="DIR",
        help="where the files are",
    )
    where.add_argument("--worklist-file", type=Path, metavar="F", help="one file of entries")
    group.add_argument(
        "--max-results",
        type=whole_number(0, _MOST_RESULTS),
        default=0,
        metavar="N",
        help="maximum number of responses to a query; 0: no limit (default)",
    )
    group.add_argument(
        "--reload", action="store_true", help="read changed files again (it always does)"
    )
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    folder: Path | None = arguments.folder
    with ExitStack() as stack:
        if folder is None:
            file: Path = arguments.worklist_file
            if not file.is_file():
                Terminal.of(arguments).error(f"{file} is no file")
                return EXIT_USAGE
            # A folder of its own: what lies beside the file is not meant.
            made = tempfile.TemporaryDirectory(prefix="isocenter-worklist-")
            folder = Path(stack.enter_context(made))
            (folder / file.name).symlink_to(file.absolute())
        elif not folder.is_dir():
            Terminal.of(arguments).error(f"{folder} is no folder")
            return EXIT_USAGE
        return serve_only(
            arguments,
            {
                "storage.data_dir": IN_MEMORY,
                "worklist.enabled": True,
                "worklist.folder": str(folder.absolute()),
                "worklist.folder_seconds": _LOOK_SECONDS,
                "worklist.max_results": arguments.max_results,
            },
        )
