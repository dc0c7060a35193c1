"""Parts that ``dcmtojson`` and ``dcmtoxml`` share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    STANDARD,
    FileToolError,
    InputFile,
    add_file_options,
    output_file,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import parse_attribute_path
from isocenter.services.dicom.bulk_data import (
    BulkValue,
    Parts,
    PlaceBulk,
    inline,
    left_out,
    little_endian_pieces,
)
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.model_writer import ModelWriter

_PIXEL_GROUP: Final = 0x7FE0


def add_model_output_options(parser: CommandParser, *, output: str) -> None:
    """The options of a command that writes data sets as text."""
    add_file_options(
        parser, what="DICOM files, folders with -r, - for standard input", output=output
    )
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--bulk-data",
        choices=("exclude", "inline", "uri"),
        default="exclude",
        help="pixel data, and binary values of more than 1,024 bytes: left out, in Base64, or by "
        "a URI (default: %(default)s)",
    )
    group.add_argument(
        "--bulk-data-uri",
        metavar="PREFIX",
        help="what URIs begin with (default: file://); implies --bulk-data uri",
    )
    group.add_argument(
        "--bulk-data-dir",
        type=Path,
        metavar="DIR",
        help="write bulk data to files in DIR, which the URIs name; without it, the URIs name "
        "bytes of the DICOM file; implies --bulk-data uri",
    )
    group.add_argument(
        "-t",
        "--tag",
        action="append",
        default=[],
        type=_tag,
        metavar="TAG",
        help="only this attribute, gggg,eeee or a keyword (repeatable)",
    )
    group.add_argument("--no-pixel", action="store_true", help="without group 7FE0")
    group.add_argument(
        "--no-meta", action="store_true", help="without the File Meta Information (group 0002)"
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse what is not as the standard has it, instead of saying what was forgiven",
    )


def _tag(text: str) -> int:
    try:
        path, tag = parse_attribute_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if path:
        raise argparse.ArgumentTypeError(f"{text!r} is within a sequence; name the sequence")
    return tag


def wants_of(arguments: argparse.Namespace) -> Callable[[int], bool] | None:
    """Which attributes are written; None: all."""
    tags = frozenset(arguments.tag)
    no_pixel: bool = arguments.no_pixel
    if not tags and not no_pixel:
        return None
    return lambda tag: (not tags or tag in tags) and not (no_pixel and tag >> 16 == _PIXEL_GROUP)


def write_models(
    arguments: argparse.Namespace,
    terminal: Terminal,
    file: InputFile,
    write: Callable[[DataSetFile, Mapping[str, Any]], ModelWriter],
) -> None:
    """Write the data set of *file*, and say what was forgiven.

    Args:
        write: gets the data set and the options of a `ModelWriter`.

    Raises:
        FileToolError, DataSetError, OSError: it cannot be read or written.
    """
    tolerance = Tolerance.STRICT if arguments.strict else Tolerance.SALVAGE
    with dicom_input(file, terminal, tolerance) as data_set:
        options = {
            "bulk": _bulk_of(arguments, file, data_set),
            "wants": wants_of(arguments),
            "tolerance": tolerance,
        }
        writer = write(data_set, options)
        data_set.forgiven |= writer.forgiven


# -- Bulk data ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ByUri:
    """URIs that name files in a folder, or bytes of the DICOM file."""

    prefix: str
    folder: Path | None
    stem: str
    data_set: DataSetFile
    path: str

    def __call__(self, value: BulkValue) -> str:
        if self.folder is None:
            if value.codec.big_endian:
                raise FileToolError(
                    "its numbers are in big endian, so bytes of it are no bulk data; "
                    "give --bulk-data-dir"
                )
            offset = self.data_set.head.data_set_offset + value.start
            query = f"?offset={offset}&length={value.end - value.start}"
            return f"{self.prefix}{quote(os.path.abspath(self.path))}{query}"
        name = f"{self.stem}.{value.path_text.replace('/', '.')}.bin"
        place = self.folder / name
        with output_file(str(place)) as target:
            for piece in little_endian_pieces(Parts(self.data_set.data), value):
                target.write(piece)
        return f"{self.prefix}{quote(str(place.absolute()))}"


def _bulk_of(arguments: argparse.Namespace, file: InputFile, data_set: DataSetFile) -> PlaceBulk:
    folder: Path | None = arguments.bulk_data_dir
    by_uri = arguments.bulk_data == "uri" or arguments.bulk_data_uri or folder is not None
    if not by_uri:
        return inline if arguments.bulk_data == "inline" else left_out
    if folder is None:
        if file.path == STANDARD:
            raise UsageError("what comes from standard input has no URI; give --bulk-data-dir")
        if data_set.is_inflated:
            raise FileToolError(
                "its data set is deflated, so no URI can name bytes of it; give --bulk-data-dir"
            )
    stem = "stdin" if file.path == STANDARD else file.relative.replace(os.sep, "_")
    prefix = "file://" if arguments.bulk_data_uri is None else arguments.bulk_data_uri
    return _ByUri(prefix, folder, stem, data_set, file.path)
