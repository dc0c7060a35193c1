"""``isocenter mppsscp``: takes performed procedure steps, and nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli.server.single_service import add_scp_options, serve_only

DESCRIPTION: Final = """\
Take modality performed procedure steps (N-CREATE, N-SET, N-GET), and nothing else; each change is
a line of the log with -v.  isocenter mpps --data-dir DIR lists and shows what came.
In the clear; isocenter serve takes them, too, with everything around it."""
EXAMPLES: Final = """\
examples:
  isocenter mppsscp --data-dir ./steps 11112 -v
  isocenter mpps list --data-dir ./steps

exit codes: 0 stopped by a signal, 1 wrong configuration, 2 arguments, or it cannot start"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where steps are kept, and what every single service has."""
    add_scp_options(parser, aet="MPPSSCP")
    parser.add_argument(
        "--data-dir", type=Path, required=True, metavar="DIR", help="where steps are kept"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    return serve_only(arguments, "mpps", {"storage.data_dir": str(arguments.data_dir.absolute())})
