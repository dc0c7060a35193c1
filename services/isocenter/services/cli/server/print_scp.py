"""``isocenter printscp``: a DICOM printer that makes files, and nothing else."""

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
from isocenter.services.cli.support.options import whole_number
from isocenter.services.dicom.film.film import FILM_SIZES

DESCRIPTION: Final = """\
Be a DICOM printer (PS3.4 Annex H), gray and colour: films become PDF or PNG files, or go to a
print queue of CUPS.  isocenter serve does it, too (print.enabled), with everything around it."""
EXAMPLES: Final = """\
examples:
  isocenter printscp 10005 --output-dir ./films -v
  isocenter printscp 10005 --output png --output-dir ./films --dpi 300
  isocenter printscp 10005 --output queue --queue office

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""

_OUTPUTS: Final = ("pdf", "png", "queue")


def add_arguments(parser: CommandParser) -> None:
    """Where films go, and what every single service has."""
    add_scp_options(parser, aet="PRINTSCP")
    group = parser.add_argument_group("films")
    group.add_argument(
        "--output",
        action="append",
        choices=_OUTPUTS,
        help="pdf: a file for each job; png: one for each film; queue: a queue of CUPS "
        "(repeatable; default: pdf)",
    )
    group.add_argument(
        "--output-dir", type=Path, default=Path("."), metavar="DIR", help="for files (default: .)"
    )
    group.add_argument("--queue", default="", metavar="NAME", help="of CUPS (default: its own)")
    group.add_argument(
        "--dpi", type=whole_number(36, 600), default=150, metavar="N",
        help="how fine films are (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--film-size", choices=tuple(FILM_SIZES), default="8INX10IN", metavar="SIZE",
        help="where nobody says (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where jobs are kept (default: a directory that is gone at the end)",
    )
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    with ExitStack() as stack:
        data_dir: Path | None = arguments.data_dir
        if data_dir is None:
            made = tempfile.TemporaryDirectory(prefix="isocenter-print-")
            data_dir = Path(stack.enter_context(made))
        settings: dict[str, object] = {
            "storage.data_dir": str(data_dir.absolute()),
            "print.enabled": True,
            "print.outputs": arguments.output or ["pdf"],
            "print.directory": str(arguments.output_dir.absolute()),
            "print.queue": arguments.queue,
            "print.dots_per_inch": arguments.dpi,
            "print.film_size": arguments.film_size,
        }
        return serve_only(arguments, settings)
