"""``isocenter dcmdump``: what is in DICOM files, element by element."""

from __future__ import annotations

import argparse
import codecs
import os
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli.files.dcminfo import print_folder
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    InputFile,
    add_file_options,
    for_each,
    input_files,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError, whole_number
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.bulk_data import left_out
from isocenter.services.dicom.data_dictionary import name_for_tag
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.dump_names import Quoting, element_name
from isocenter.services.dicom.dump_writer import (
    ANSI,
    LONGEST_WHOLE,
    PLAIN,
    DumpOptions,
    DumpWriter,
    Wanted,
)
from isocenter.services.dicom.file_summary import FolderSummary, summarize
from isocenter.services.dicom.json_writer import JsonWriter
from isocenter.services.dicom.scope import Scope, is_private
from isocenter.services.dicom.scoped_walk import ItemPath
from isocenter.services.dicom.tag_pattern import TagPattern, parse_tag_pattern
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.dicom.xml_writer import XmlWriter

DESCRIPTION: Final = """\
Show what is in DICOM files: tag, VR, value, length, number of values and name of each element, in
the columns of DCMTK's dcmdump.  Damaged files are shown as far as they can be read; what was
forgiven is on standard error."""
EXAMPLES: Final = f"""\
examples:
  isocenter dcmdump ct.dcm
  isocenter dcmdump ct.dcm +P PatientID +P 0028,0010
  isocenter dcmdump ct.dcm -t "RequestAttributesSequence[0].ScheduledProcedureStepID"
  isocenter dcmdump ct.dcm -s date
  isocenter dcmdump -r /media/cdrom +F +P Modality
  isocenter dcmdump ct.dcm -f json | jq .

A tag or keyword is searched in all sequences; a path, in the items that it names ([0] is the
first, [*] all).  Control characters are shown as \\xNN.

exit codes: 0 all is shown, 1 arguments, 2 a file is not there or no DICOM

Values longer than {LONGEST_WHOLE >> 20} MiB are shortened always; dcmtojson writes them whole."""


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmdump."""
    add_file_options(
        parser,
        what="DICOM files, folders with -r, - for standard input",
        output="",
        debug=("--debug",),
    )
    _add_selection(parser.add_argument_group("which elements"))
    _add_appearance(parser.add_argument_group("how they are shown"))
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--strict", "-E", "--stop-on-error", dest="strict", action="store_true",
        help="stop at what is not as the standard has it, instead of saying what was forgiven",
    )  # fmt: skip
    group.add_argument(
        "+E", "--ignore-errors", dest="strict", action="store_false",
        help="show damaged files as far as they can be read (default)",
    )  # fmt: skip
    group.add_argument(
        "+sd", "--scan-directories", dest="recursive", action="store_true", help="as -r"
    )
    group.add_argument(
        "+sp", "--scan-pattern", metavar="PATTERN", help="in folders only files of such names"
    )
    for flags in (("+f", "--read-file"), ("+M", "--load-all"), ("-M", "--load-short"),
                  ("+U8", "--convert-to-utf8")):  # fmt: skip
        # Always so: any file is read, no value is loaded, all text is decoded.
        group.add_argument(*flags, action="store_true", help=argparse.SUPPRESS)


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-t", "--tag", "+P", action="append", default=[], type=_pattern, metavar="TAG",
        help="only this one, with what is in it: tag, keyword or path (repeatable)",
    )  # fmt: skip
    group.add_argument(
        "--tags", action="append", default=[], type=_patterns, metavar="TAG,TAG",
        help="the same, several keywords",
    )  # fmt: skip
    group.add_argument("-s", "--search", metavar="TEXT", help="only those with TEXT in their names")
    group.add_argument(
        "+s", "--search-all", dest="first_only", action="store_false", default=False,
        help="all of one tag that are found (default)",
    )  # fmt: skip
    group.add_argument(
        "--search-first", dest="first_only", action="store_true", help="the first one of each tag"
    )
    group.add_argument(
        "+p", "--prepend", action="store_true",
        help="put the sequences that hold it before each one that is found",
    )  # fmt: skip
    group.add_argument(
        "-p", "--no-prepend", dest="prepend", action="store_false", help=argparse.SUPPRESS
    )
    group.add_argument(
        "-d", "--depth", type=whole_number(0, 10_000), metavar="N",
        help="open sequences only up to this depth; 0: none",
    )  # fmt: skip
    group.add_argument(
        "--pixel-info", action="store_true", help="behind it how the pixels are laid out"
    )
    group.add_argument(
        "--summary", action="store_true",
        help="in place of elements, how many files there are of what; see dcminfo",
    )  # fmt: skip
    group.add_argument("--no-pixel", action="store_true", help="without group 7FE0")
    group.add_argument(
        "--no-meta", action="store_true", help="without the File Meta Information (group 0002)"
    )
    group.add_argument(
        "--show-private", dest="has_private", action="store_true", default=True,
        help="with private elements (default)",
    )  # fmt: skip
    group.add_argument(
        "--no-private", dest="has_private", action="store_false", help="without private elements"
    )
    group.add_argument(
        "+st", "--stop-after-elem", type=_top_level, metavar="TAG", help="end behind this element"
    )
    group.add_argument(
        "+sb", "--stop-before-elem", type=_top_level, metavar="TAG", help="end before it"
    )


def _add_appearance(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-f", "--format", choices=("text", "json", "xml"), default="text",
        help="text, DICOM JSON (PS3.18 F) or Native DICOM Model (PS3.19 A.1), both without bulk "
        "data (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--charset", type=_charset, default="utf-8", metavar="NAME",
        help="encoding of the text (default: UTF-8)",
    )  # fmt: skip
    group.add_argument(
        "+L", "--print-all", dest="is_whole", action="store_true", help="long values whole"
    )
    group.add_argument(
        "-L", "--print-short", dest="is_whole", action="store_false",
        help="long values shortened (default)",
    )  # fmt: skip
    group.add_argument(
        "+T", "--print-tree", dest="is_tree", action="store_true", help="names in a simple tree"
    )
    group.add_argument(
        "-T", "--print-indented", dest="is_tree", action="store_false", help=argparse.SUPPRESS
    )
    group.add_argument(
        "+F", "--print-filename", dest="has_filename", action="store_true",
        help="the name before each file (default, where several are given)",
    )  # fmt: skip
    group.add_argument(
        "+Fs", "--print-file-search", dest="has_filename_if_found", action="store_true",
        help="the name only before files in which something was found",
    )  # fmt: skip
    group.add_argument(
        "+Un", "--map-uid-names", dest="has_uid_names", action="store_true", default=True,
        help="well-known UIDs by name (default)",
    )  # fmt: skip
    group.add_argument(
        "-Un", "--no-uid-names", dest="has_uid_names", action="store_false",
        help="UIDs as they are",
    )  # fmt: skip
    for flags, quoting in (
        (("+Qn", "--quote-nonascii"), Quoting.MARKUP),
        (("+Qo", "--quote-as-octal"), Quoting.OCTAL),
        (("-Qn", "--print-nonascii"), Quoting.PRINTED),
    ):
        group.add_argument(
            *flags, dest="quoting", action="store_const", const=quoting, default=Quoting.PRINTED,
            help=quoting.value + (" (default)" if quoting is Quoting.PRINTED else ""),
        )  # fmt: skip
    group.add_argument(
        "+C", "--print-color", dest="color", action="store_true", default=None,
        help="with colours (default, on a terminal)",
    )  # fmt: skip
    group.add_argument(
        "-C", "--no-color", dest="color", action="store_false", help="without colours"
    )


def _pattern(text: str) -> TagPattern:
    try:
        pattern = parse_tag_pattern(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if pattern.item is not None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is an item; name an attribute in it, after a dot, or the whole sequence"
        )
    return pattern


def _patterns(text: str) -> list[TagPattern]:
    return [_pattern(part.strip()) for part in text.split(",") if part.strip()]


def _top_level(text: str) -> int:
    pattern = _pattern(text)
    if pattern.steps:
        raise argparse.ArgumentTypeError(f"{text!r} is within a sequence; name the sequence")
    return pattern.tag


def _charset(text: str) -> str:
    try:
        "\u00e9".encode(text, "backslashreplace")
        return codecs.lookup(text).name
    except (LookupError, UnicodeError, TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding that Python knows") from None


def run(arguments: argparse.Namespace) -> int:
    """Show the files; the exit code."""

    def work(terminal: Terminal) -> int:
        patterns = [*arguments.tag, *(each for some in arguments.tags for each in some)]
        if arguments.format != "text":
            _check_for_models(arguments, patterns)
        dump = _Dump(arguments, terminal, _wanted_of(arguments, patterns))
        files = input_files(arguments.paths, recursive=arguments.recursive)
        wants_bar = not arguments.no_progress and not sys.stdout.isatty()
        code = for_each(
            terminal, _named_like(files, arguments.scan_pattern), dump.show, title="reading",
            progress=wants_bar,
        )  # fmt: skip
        sys.stdout.buffer.flush()
        if arguments.summary and dump.folder.files:
            print_folder(dump.folder)
        return code

    return run_file_tool(arguments, work)


def _named_like(files: Iterator[InputFile], pattern: str | None) -> Iterator[InputFile]:
    for file in files:
        if (
            pattern is None
            or not file.is_found
            or fnmatchcase(os.path.basename(file.path), pattern)
        ):
            yield file


def _check_for_models(arguments: argparse.Namespace, patterns: list[TagPattern]) -> None:
    if arguments.search is not None or any(
        each.steps or each.item is not None for each in patterns
    ):
        raise UsageError(
            f"with -f {arguments.format} name whole attributes of the data set, with -t; "
            "what is in them comes along"
        )


def _wanted_of(arguments: argparse.Namespace, patterns: list[TagPattern]) -> Wanted | None:
    text = arguments.search
    if not patterns and text is None:
        return None
    tags = frozenset(each.tag for each in patterns if not each.steps)
    paths = [each for each in patterns if each.steps]
    part = None if text is None else _squeezed(text)

    def is_wanted(path: ItemPath, tag: int, scope: Scope) -> bool:
        if tag in tags or any(each.matches(path, tag) for each in paths):
            return True
        if part is None:
            return False
        return part in _squeezed(element_name(tag, scope)) or part in _squeezed(name_for_tag(tag))

    return is_wanted


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


class _Dump:
    def __init__(
        self, arguments: argparse.Namespace, terminal: Terminal, wanted: Wanted | None
    ) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._wanted = wanted
        self._number = 0
        #: What --summary counts.
        self.folder = FolderSummary()
        color = arguments.color
        if color is None:
            color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._options = DumpOptions(
            wanted=wanted,
            first_only=arguments.first_only,
            has_path=arguments.prepend,
            deepest=arguments.depth,
            has_private=arguments.has_private,
            has_pixels=not arguments.no_pixel,
            is_tree=arguments.is_tree,
            is_whole=arguments.is_whole,
            has_uid_names=arguments.has_uid_names,
            quoting=arguments.quoting,
            colors=ANSI if color else PLAIN,
            stop_before=arguments.stop_before_elem,
            stop_after=arguments.stop_after_elem,
        )

    def _print(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode(self._arguments.charset, "backslashreplace"))

    def show(self, file: InputFile) -> None:
        tolerance = Tolerance.STRICT if self._arguments.strict else Tolerance.SALVAGE
        with dicom_input(file, self._terminal, tolerance) as data_set:
            self._number += 1
            size = len(data_set.head_bytes) + len(data_set.data)
            if self._arguments.summary:
                self.folder.add(summarize(data_set, file.path, size))
            elif self._arguments.format != "text":
                self._model(data_set, tolerance)
            else:
                self._text(file, data_set, tolerance)

    def _text(self, file: InputFile, data_set: DataSetFile, tolerance: Tolerance) -> None:
        arguments = self._arguments
        write: Callable[[str], None] = self._print
        if arguments.has_filename_if_found:
            write = self._with_name_if_found(file)
        writer = DumpWriter(write, self._options, tolerance=tolerance)
        is_named = arguments.has_filename or file.is_found or len(arguments.paths) > 1
        if is_named and not arguments.has_filename_if_found:
            self._name(file)
        is_selection = self._wanted is not None
        meta = data_set.head.meta
        if not is_selection:
            self._print("\n")
            if meta is not None:
                writer.heading("Dicom-File-Format")
                self._print("\n")
        if meta is not None and not arguments.no_meta:
            if not is_selection:
                writer.heading("Dicom-Meta-Information-Header")
                writer.heading(f"Used TransferSyntax: {name_of(_META_SYNTAX)}")
            writer.meta(meta.elements)
            if not is_selection:
                self._print("\n")
        if not is_selection:
            writer.heading("Dicom-Data-Set")
            writer.heading(
                f"Used TransferSyntax: {_shown(name_of(data_set.head.transfer_syntax_uid))}"
            )
        try:
            offset = data_set.head.data_set_offset
            writer.data_set(data_set.data, data_set.encoding, offset)
        finally:
            data_set.forgiven |= writer.forgiven
        if arguments.pixel_info:
            size = len(data_set.head_bytes) + len(data_set.data)
            self._print("\n")
            for name, value in summarize(data_set, file.path, size).sections["Image"].items():
                writer.heading(f"{name}: {_shown(str(value))}")

    def _name(self, file: InputFile) -> None:
        heading = f"dcmdump ({self._number}): {_shown(file.path)}"
        if self._number > 1:
            self._print("\n")
        DumpWriter(self._print, self._options).heading(heading)

    def _with_name_if_found(self, file: InputFile) -> Callable[[str], None]:
        is_named = False

        def write(text: str) -> None:
            nonlocal is_named
            if not is_named:
                self._name(file)
                is_named = True
            self._print(text)

        return write

    def _model(self, data_set: DataSetFile, tolerance: Tolerance) -> None:
        arguments = self._arguments
        tags = frozenset(
            each.tag for each in (*arguments.tag, *(one for some in arguments.tags for one in some))
        )

        def wants(tag: int) -> bool:
            return (
                (not tags or tag in tags)
                and (arguments.has_private or not is_private(tag))
                and not (arguments.no_pixel and tag >> 16 == 0x7FE0)
            )

        kind = JsonWriter if arguments.format == "json" else XmlWriter
        writer = kind(self._print, bulk=left_out, wants=wants, tolerance=tolerance, is_pretty=True)
        meta = data_set.head.meta
        has_meta = meta is not None and not arguments.no_meta
        writer.data_set(
            data_set.data, data_set.encoding, meta.elements if meta and has_meta else None
        )
        self._print("\n")
        data_set.forgiven |= writer.forgiven


_META_SYNTAX: Final = "1.2.840.10008.1.2.1"


def _shown(text: str) -> str:
    """A path, or a UID of a file, on one line."""
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in text
    )
