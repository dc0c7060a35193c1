"""Options for received objects that become Part 10 files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from isocenter.services.cli.support.options import UsageError
from isocenter.services.errors import text_of
from isocenter.services.service_classes.storage.object_folder import (
    FLAT,
    HIERARCHICAL,
    ObjectFolder,
    ReceivedCounts,
    check_pattern,
)

STRUCTURES: Final = {"hierarchical": HIERARCHICAL, "flat": FLAT}


def add_receiving_options(
    parser: argparse.ArgumentParser, *, names: Sequence[str] = (), default: Path = Path()
) -> None:
    """``-od`` and how files are named.

    Args:
        names: of the folder, beside ``-od``.
        default: the folder, when none is given.
    """
    group = parser.add_argument_group("files")
    group.add_argument(
        *names,
        "-od",
        "--output-directory",
        "--output-dir",
        dest="output_directory",
        type=Path,
        default=default,
        metavar="DIR",
        help="where objects go; it is made when it is missing (default: %(default)s)",
    )
    group.add_argument(
        "--structure",
        choices=tuple(STRUCTURES),
        default="hierarchical",
        help="a folder for each study and series, or none (default: %(default)s)",
    )
    group.add_argument(
        "--output-format",
        type=_pattern,
        metavar="P",
        help="names of files from {study}, {series}, {instance} and {class}, which are UIDs "
        "(default: " + STRUCTURES["hierarchical"] + ")",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace files that are there (default: keep them)"
    )
    group.add_argument(
        "+B", "--bit-preserving", action="store_true", help="data sets as they come (always so)"
    )


def _pattern(text: str) -> str:
    try:
        check_pattern(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def folder_of(
    arguments: argparse.Namespace, on_progress: Callable[[ReceivedCounts], None]
) -> ObjectFolder:
    """What takes the objects, as the options say.

    Raises:
        UsageError: the folder cannot be made or written.
    """
    folder = arguments.output_directory
    try:
        return ObjectFolder(
            folder,
            arguments.output_format or STRUCTURES[arguments.structure],
            overwrite=arguments.overwrite,
            on_progress=on_progress,
        )
    except OSError as error:
        raise UsageError(f"{folder}: {text_of(error)}; choose another folder with -od") from error
