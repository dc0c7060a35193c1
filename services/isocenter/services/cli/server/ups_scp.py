"""``isocenter upsscp``: keeps unified procedure steps, and nothing else."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from isocenter.services.cli.server.single_service import (
    add_scp_options,
    add_scp_tls_options,
    serve_only,
)
from isocenter.services.cli.support.argument_parser import CommandParser

DESCRIPTION: Final = """\
Keep unified procedure steps (PS3.4 Annex CC): created, found, performed under a lock, cancelled,
subscribed to; subscribers are told of each change.  isocenter serve does it, too, with everything
around it."""
EXAMPLES: Final = """\
examples:
  isocenter upsscp --data-dir ./workitems 11112 -v
  isocenter upsscp 11112 --peer AI@localhost:11113

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""


def add_arguments(parser: CommandParser) -> None:
    """Where workitems are kept, who is told, and what every single service has."""
    add_scp_options(parser, aet="UPSSCP")
    group = parser.add_argument_group("workitems")
    group.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where they are kept (default: a directory that is gone at the end)",
    )
    group.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="AET@HOST:PORT",
        help="who may subscribe, and listens there (repeatable)",
    )
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    with ExitStack() as stack:
        data_dir: Path | None = arguments.data_dir
        if data_dir is None:
            made = tempfile.TemporaryDirectory(prefix="isocenter-ups-")
            data_dir = Path(stack.enter_context(made))
        settings: dict[str, object] = {
            "storage.data_dir": str(data_dir.absolute()),
            "ups.enabled": True,
        }
        if arguments.peer:
            settings["peers"] = arguments.peer
        return serve_only(arguments, settings)
