"""``isocenter mppsscp``: takes performed procedure steps, and nothing else."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.server.service_statistics import ServiceStatistics
from isocenter.services.cli.server.single_service import (
    add_scp_options,
    add_scp_tls_options,
    serve_only,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.errors import text_of
from isocenter.services.settings.loading import load_settings

DESCRIPTION: Final = """\
Take modality performed procedure steps (N-CREATE, N-SET, N-GET), and nothing else; each change is
a line of the log with -v, and a JSON file where that is asked for.  isocenter mpps --data-dir DIR
lists and shows what came.  isocenter serve takes them, too, with everything around it."""
EXAMPLES: Final = """\
examples:
  isocenter mppsscp --data-dir ./steps 11112 -v
  isocenter mpps list --data-dir ./steps
  isocenter mppsscp 11112 MPPS_SCP --output-dir ./json

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""


def add_arguments(parser: CommandParser) -> None:
    """Where steps are kept, and what every single service has."""
    add_scp_options(parser, aet="MPPSSCP")
    group = parser.add_argument_group("steps")
    group.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where steps are kept (needed unless one of the next two is given; then the default "
        "is a directory that is gone at the end)",
    )
    group.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="each step also as a JSON file here"
    )
    group.add_argument(
        "--output-file", type=Path, metavar="F", help="all steps also as a list in this JSON file"
    )
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    folder, file = arguments.output_dir, arguments.output_file
    with ExitStack() as stack:
        data_dir: Path | None = arguments.data_dir
        if data_dir is None:
            if folder is None and file is None:
                Terminal.of(arguments).error(
                    "where shall steps be kept? Give --data-dir, --output-dir or --output-file"
                )
                return EXIT_USAGE
            made = tempfile.TemporaryDirectory(prefix="isocenter-mpps-")
            data_dir = Path(stack.enter_context(made))
        settings = {"storage.data_dir": str(data_dir.absolute()), "mpps.enabled": True}
        if folder is None and file is None:
            return serve_only(arguments, settings)
        # Late: it needs all that a server needs.
        from isocenter.services.cli.server.step_files import StepFiles

        files = StepFiles(load_settings(environ={}, overrides=settings, changes={}), folder, file)
        try:
            stack.enter_context(files.writing())
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = text_of(error) if isinstance(error, OSError) else "holds no steps of ours"
            Terminal.of(arguments).error(f"{folder or file}: {what}")
            return EXIT_USAGE
        return serve_only(arguments, settings, ServiceStatistics(also=files.hear))
