"""``isocenter dcmconv``: DICOM files in other transfer syntaxes, lengths and character sets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli.files.codec_tasks import CodecTasks, with_codecs
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    STANDARD,
    FileToolError,
    InputFile,
    OtherFileKindError,
    Plan,
    add_file_options,
    for_each,
    input_files,
    output_file,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError, whole_number
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_file import is_directory
from isocenter.services.dicom.pixels.conversion import ConversionOptions, convert
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    BY_KEYWORD,
    JPEG_XL_RECOMPRESSION,
    PIXEL_SYNTAXES,
    Codec,
)

DESCRIPTION: Final = """\
Convert DICOM files: to another transfer syntax, with or without compression; to a data set without
File Meta Information, and back; to UTF-8; to other lengths.  All other bytes of the data set stay.
Without a transfer syntax, uncompressed files become Explicit VR Little Endian, and compressed ones
stay as they are."""
EXAMPLES: Final = """\
examples:
  isocenter dcmconv ct.dcm implicit.dcm --implicit
  isocenter dcmconv ct.dcm ct.j2k.dcm --jpeg2000 --verify
  isocenter dcmconv xa.dcm small.dcm --jpeg-baseline -q 85
  isocenter dcmconv -r /media/cdrom plain/ --explicit --to-utf8
  isocenter dcmconv ct.dcm ct.dataset -F
  isocenter dcmconv --list-syntaxes

The lossy ones need -q, from 1 to 100 (JPEG's quality; near is (100 - Q) / 5, the compression ratio
101 - Q, the distance of JPEG XL (100 - Q) / 10), or --near, --ratio or --distance.

exit codes: 0 all is written, 1 arguments, 2 a file is not there, is no DICOM or cannot be
converted, or its output is there already"""

#: DCMTK's spelling of some.
_SHORT: Final = {"implicit": "+ti", "explicit": "+te", "explicit-be": "+tb", "deflated": "+td"}
_LONGEST_PADDING: Final = 1 << 20


class _ListSyntaxes(argparse.Action):
    """Prints which transfer syntaxes there are, and ends."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        rows = [("option", "UID", "decoded", "encoded", "name")]
        for each in PIXEL_SYNTAXES.values():
            option = f"--{each.keyword}" if each.is_encoded else f"-t {each.keyword}"
            rows.append((option, each.uid, each.decoding.value, each.encoding.value, each.name))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            print("  ".join([*cells, row[-1]]))
        print("\nOthers are unknown: such files are kept as they are, and not converted.")
        parser.exit()


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmconv."""
    add_file_options(
        parser,
        what="DICOM file, folder with -r, or - for standard input; then the file, or folder, to "
        "write",
        output="the converted files",
        quiet=("--quiet",),
    )
    _add_syntaxes(parser.add_argument_group("transfer syntax"))
    _add_losses(parser.add_argument_group("losses"))
    _add_encoding(parser.add_argument_group("encoding"))
    group = parser.add_argument_group("writing")
    group.add_argument("--overwrite", action="store_true", help="replace files that are there")
    group.add_argument(
        "--verify", action="store_true",
        help="read what was made and compare it, pixel by pixel where nothing may be lost",
    )  # fmt: skip
    group.add_argument(
        "--strict", action="store_true", help="refuse damaged files instead of repairing them"
    )


def _add_syntaxes(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-t", "--transfer-syntax", dest="syntax", type=_syntax, metavar="SYNTAX",
        help="a keyword, or the UID, of one of --list-syntaxes",
    )  # fmt: skip
    for each in PIXEL_SYNTAXES.values():
        if not each.is_encoded:
            continue
        flags = [f"--{each.keyword}"]
        if each.keyword in _SHORT:
            flags.append(_SHORT[each.keyword])
        group.add_argument(
            *flags, dest="syntax", action="store_const", const=each.uid,
            help=each.name + (", lossy" if each.is_lossy else ""),
        )  # fmt: skip
    group.add_argument(
        "+t=", "--write-xfer-same", dest="is_same", action="store_true",
        help="that of the file, also where it is uncompressed",
    )  # fmt: skip
    group.add_argument(
        "--list-syntaxes", action=_ListSyntaxes, nargs=0,
        help="print all, with what is decoded and encoded here, and end",
    )  # fmt: skip


def _add_losses(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-q", "--quality", "+q", type=whole_number(1, 100), metavar="N",
        help="of all lossy ones: 1 (smallest) to 100",
    )  # fmt: skip
    group.add_argument(
        "--near", type=whole_number(1, 255), metavar="N",
        help="of JPEG-LS near-lossless: the most that a sample may differ by",
    )  # fmt: skip
    group.add_argument(
        "--ratio", type=_positive, metavar="R", help="of JPEG 2000 and HTJ2K: compression ratio"
    )
    group.add_argument(
        "--distance", type=_positive, metavar="D",
        help="of JPEG XL: 1 is what an observer does not see",
    )  # fmt: skip


def _add_encoding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--to-utf8", "+U8", "--convert-to-utf8", dest="utf8", action="store_true",
        help="convert all texts to UTF-8",
    )  # fmt: skip
    for flags, what, text in (
        (("+Fm", "--write-new-meta-info"), "new", "new File Meta Information (default)"),
        (("+F", "--write-file"), "kept", "File Meta Information with all that it had"),
        (("-F", "--write-dataset"), "none", "the data set alone"),
    ):
        group.add_argument(
            *flags, dest="meta", action="store_const", const=what, default="new", help=text
        )
    for flags, lengths, text in (
        (("+e", "--length-explicit"), "defined",
         "sequences and items with defined lengths (default where they are encoded anew)"),
        (("-e", "--length-undefined"), "undefined", "sequences and items with undefined lengths"),
    ):  # fmt: skip
        group.add_argument(*flags, dest="lengths", action="store_const", const=lengths, help=text)
    group.add_argument(
        "+g", "--group-length-create", dest="group_lengths", action="store_const", const=True,
        help="put in group lengths",
    )  # fmt: skip
    group.add_argument(
        "-g", "--group-length-remove", dest="group_lengths", action="store_const", const=False,
        help="leave out group lengths",
    )  # fmt: skip
    group.add_argument(
        "+p", "--padding-create", dest="padding", nargs=2, type=whole_number(0, _LONGEST_PADDING),
        metavar=("FILE", "ITEM"),
        help="fill up the file to a multiple of FILE bytes (ITEM has to be 0)",
    )  # fmt: skip
    group.add_argument(
        "-p", "--padding-off", dest="padding", action="store_const", const=[0, 0],
        help="leave out padding",
    )  # fmt: skip
    for flags in (("+g=", "--group-length-recalc"), ("-p=", "--padding-retain"),
                  ("+f", "--read-file")):  # fmt: skip
        group.add_argument(*flags, action="store_true", help=argparse.SUPPRESS)


def _syntax(text: str) -> str:
    known = BY_KEYWORD.get(text.lower()) or PIXEL_SYNTAXES.get(text)
    if known is None:
        raise argparse.ArgumentTypeError(
            f"the transfer syntax {text[:64]!r} is unknown; --list-syntaxes shows the known ones"
        )
    return known.uid


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Convert the files; the exit code."""

    def work(terminal: Terminal) -> int:
        options = _options(arguments)
        made = _plan(arguments)

        def convert_all(tasks: CodecTasks) -> int:
            conversion = _Conversion(arguments, terminal, options, made, tasks)
            files = input_files(made.paths, recursive=arguments.recursive)
            return for_each(
                terminal, files, conversion.convert, title="converting",
                progress=not arguments.no_progress,
            )  # fmt: skip

        return with_codecs(convert_all)

    return run_file_tool(arguments, work)


def _plan(arguments: argparse.Namespace) -> Plan:
    """The last path is the output, if -o names none."""
    paths: list[str] = list(arguments.paths)
    target: str | None = arguments.output
    if target is None and len(paths) > 1:
        target = paths.pop()
    if target is None:
        raise UsageError("where to? Name the output behind the input, or with -o")
    folders = [path for path in paths if path != STANDARD and os.path.isdir(path)]
    if folders and not arguments.recursive:
        raise UsageError(f"{folders[0]} is a folder; -r goes through folders")
    many = len(paths) > 1 or bool(folders)
    if target == STANDARD and many:
        raise UsageError("several files need a folder; name one as the last path, or with -o")
    is_folder = target != STANDARD and (many or os.path.isdir(target))
    if is_folder and os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"{target} is a file; several results need a folder")
    return Plan(tuple(paths), target, is_folder, "", many)


def _options(arguments: argparse.Namespace) -> ConversionOptions:
    syntax: str = arguments.syntax or ""
    padding: list[int] | None = arguments.padding
    if padding is not None and padding[1]:
        raise UsageError("items are not filled up; give 0 as the second number of +p")
    encoding = _encoding(arguments, syntax)
    return ConversionOptions(
        transfer_syntax_uid=syntax,
        explicit=not arguments.is_same,
        transcoding=TranscodingOptions(
            lossy=encoding is not None, encoding=encoding or EncodingOptions()
        ),
        lengths=arguments.lengths,
        group_lengths=arguments.group_lengths,
        padding=None if padding is None else padding[0],
        utf8=arguments.utf8,
        meta=arguments.meta,
        verify=arguments.verify,
        strict=arguments.strict,
    )


def _encoding(arguments: argparse.Namespace, syntax: str) -> EncodingOptions | None:
    """How much may be lost; None: nothing."""
    known = PIXEL_SYNTAXES.get(syntax)
    may_lose = known is not None and known.is_lossy and known.is_encoded
    if known is None or not may_lose or syntax == JPEG_XL_RECOMPRESSION:
        return None
    quality: int | None = arguments.quality
    match known.codec:
        case Codec.JPEG:
            option, value = "-q", quality
        case Codec.JPEG_LS:
            option, value = "--near", arguments.near
        case Codec.JPEG_XL:
            option, value = "--distance", arguments.distance
        case _:
            option, value = "--ratio", arguments.ratio
    if value is None and quality is None:
        also = "" if option == "-q" else f" or {option}"
        raise UsageError(f"{known.name} loses something of the pixels; say how much with -q{also}")
    lost = 100 - (quality or 0)
    return EncodingOptions(
        quality=quality or 90,
        near=arguments.near or max(1, lost // 5),
        ratio=arguments.ratio or float(lost + 1),
        distance=arguments.distance or max(0.1, lost / 10),
    )


class _Conversion:
    def __init__(
        self,
        arguments: argparse.Namespace,
        terminal: Terminal,
        options: ConversionOptions,
        made: Plan,
        tasks: CodecTasks,
    ) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._options = options
        self._made = made
        self._tasks = tasks

    def convert(self, file: InputFile) -> None:
        place = self._made.output_of(file)
        if not self._arguments.overwrite and place != STANDARD and os.path.isfile(place):
            if not self._made.is_folder:
                raise FileToolError(f"{place} is there already; --overwrite replaces it")
            self._terminal.note(f"{place} is there already, and stays; --overwrite replaces it")
            return
        tolerance = Tolerance.STRICT if self._options.strict else Tolerance.SALVAGE
        with dicom_input(file, self._terminal, tolerance) as source:
            if is_directory(source):
                raise OtherFileKindError(
                    "is a DICOMDIR, whose records point to each other by byte; dcmdir makes one"
                )
            with output_file(place) as target:
                made = self._tasks.run(
                    partial(convert, source, target, self._options, self._tasks.pool)
                )
        for note in made.notes:
            self._terminal.note(f"{file.path}: {note}")
        self._terminal.detail(
            f"{file.path}: written to {place} in {PIXEL_SYNTAXES[made.transfer_syntax_uid].name}"
            if made.transfer_syntax_uid in PIXEL_SYNTAXES
            else f"{file.path}: written to {place}"
        )
