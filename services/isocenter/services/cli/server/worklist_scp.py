"""``isocenter worklistscp``: a folder of worklist files, as a worklist."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.server.single_service import add_scp_options, serve_only
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.sections.storage import IN_MEMORY

DESCRIPTION: Final = """\
Offer the files of a folder as a modality worklist, as DCMTK's wlmscpfs does, and nothing else:
JSON, DICOM files (*.wl), text dumps.  Files that come, change or go count within seconds.
In the clear; isocenter serve has the worklist, too, with everything around it."""
EXAMPLES: Final = """\
examples:
  isocenter worklistscp --folder ./planned 11112
  isocenter worklistscp -dfp /srv/worklist 11112 -v

exit codes: 0 stopped by a signal, 1 wrong configuration, 2 arguments, or it cannot start"""

_LOOK_SECONDS: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and what every single service has."""
    add_scp_options(parser, aet="WORKLISTSCP")
    parser.add_argument(
        "-dfp",
        "--folder",
        "--data-files-path",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the files are",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    if not arguments.folder.is_dir():
        Terminal.of(arguments).error(f"{arguments.folder} is no folder")
        return EXIT_USAGE
    return serve_only(
        arguments,
        "worklist",
        {
            "storage.data_dir": IN_MEMORY,
            "worklist.folder": str(arguments.folder.absolute()),
            "worklist.folder_seconds": _LOOK_SECONDS,
        },
    )
