"""``isocenter storescp``: takes objects, and nothing else (PS3.4 Annex B)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.archive.object_keys import NamingScheme
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.server.service_statistics import ServiceStatistics
from isocenter.services.cli.server.single_service import (
    add_scp_options,
    add_scp_tls_options,
    serve_only,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.database import INDEX_FILE
from isocenter.services.dicom.sop_class_families import storage_sop_classes

DESCRIPTION: Final = """\
Take objects (C-STORE), each durable before it is answered, and nothing else.  They are below
DIR/objects as DICOM files, byte for byte; DIR is a data directory like any other: isocenter
serve --data-dir DIR serves it, isocenter export and the others read it."""
EXAMPLES: Final = """\
examples:
  isocenter storescp 11112 --storage-dir ./received
  isocenter storescp 11112 STORE_SCP --storage-dir ./received --accept CT,MR --naming date
  isocenter storescp 2762 --storage-dir ./received --tls --tls-cert scp.crt --tls-key scp.key

A line for each object goes to standard output, totals to standard error at the end.

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""

#: In other programs' words.
_NAMING: Final = {
    "hierarchical": NamingScheme.UID,
    "date": NamingScheme.DATE,
    "flat": NamingScheme.FLAT,
}


def add_arguments(parser: CommandParser) -> None:
    """Where objects are kept, which, and what every single service has."""
    add_scp_options(parser, aet="STORE_SCP")
    group = parser.add_argument_group("objects")
    group.add_argument(
        "--storage-dir",
        "--data-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="where objects and their index are kept",
    )
    group.add_argument(
        "--index-db",
        type=Path,
        metavar="F",
        help=f"where the index is: {INDEX_FILE} of that directory, and nowhere else",
    )
    group.add_argument(
        "--accept",
        type=_sop_classes,
        default=(),
        metavar="LIST",
        help="what to accept, by modality, UID or keyword, with commas (default: everything)",
    )
    group.add_argument(
        "--naming",
        choices=tuple(_NAMING),
        default="hierarchical",
        help="folders by study and series, by study date, or none (default: %(default)s)",
    )
    group.add_argument(
        "--duplicate",
        choices=tuple(policy.value for policy in DuplicatePolicy),
        default=DuplicatePolicy.IGNORE.value,
        help="another object with the same SOP Instance UID: reject it (0111H), replace the old "
        "one, or keep the old one (default: %(default)s)",
    )
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    index: Path | None = arguments.index_db
    if index is not None and index.absolute() != (arguments.storage_dir / INDEX_FILE).absolute():
        Terminal.of(arguments).error(
            f"the index is {arguments.storage_dir / INDEX_FILE}; leave --index-db out"
        )
        return EXIT_USAGE
    show = None if arguments.quiet else _show
    return serve_only(
        arguments,
        {
            "storage.data_dir": str(arguments.storage_dir.absolute()),
            "storage.accept": True,
            "storage.sop_classes": list(arguments.accept),
            "storage.naming": _NAMING[arguments.naming].value,
            "storage.duplicates": arguments.duplicate,
        },
        ServiceStatistics(show),
    )


def _show(line: str) -> None:
    print(line, flush=True)


def _sop_classes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    try:
        storage_sop_classes(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return names
