"""Matches of a C-FIND for people and programs: text, JSON, XML, CSV, tables, files.

What a peer sends is printed with control characters escaped and values cut to a bound.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from isocenter.engine.dataset import DataSetLimitError, Encoding, encoding_of, write_file_meta
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.cli.support.options import UsageError
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.dicom.uids import new_uid
from isocenter.services.dicom.xml_writer import xml_of
from isocenter.services.errors import text_of

if TYPE_CHECKING:
    import pydicom

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
#: Characters of a value that text and tables show.
_SHOWN: Final = 200
#: Rows that are held for one table.
_ROWS_PER_TABLE: Final = 1_000
_INDENT: Final = "  "
_DEEPEST: Final = 16


class Match:
    """A data set to show: as it came, and as pydicom has it, for those who want that."""

    def __init__(self, encoded: bytes, transfer_syntax_uid: str) -> None:
        self._encoded = encoded
        self._transfer_syntax_uid = transfer_syntax_uid

    @classmethod
    def of_dataset(cls, dataset: pydicom.Dataset) -> Match:
        """Of a pydicom data set.

        Raises:
            DataSetError: a value that cannot be encoded.
        """
        return cls.of_attributes(AttributeList.from_dataset(dataset))

    @classmethod
    def of_attributes(cls, attributes: AttributeList) -> Match:
        """Of an attribute list."""
        return cls(attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN)

    @cached_property
    def dataset(self) -> pydicom.Dataset:
        """As pydicom has it; DataSetError is raised where it cannot be read."""
        return read_identifier(self._encoded, self._transfer_syntax_uid)

    def elements(self) -> tuple[bytes, Encoding]:
        """The data set, inflated, and its encoding."""
        encoding = encoding_of(self._transfer_syntax_uid)
        data = self._encoded
        if len(data) > DEFAULT_LIMITS.identifier:
            raise DataSetLimitError("the data set is too long", len(data), "identifier")
        if encoding.deflated:
            data = b"".join(Inflater().feed(data))
        return data, encoding


class MatchWriter(Protocol):
    """Takes matches one after the other."""

    def write(self, match: Match) -> None:
        """One match."""
        ...

    def finish(self) -> None:
        """There are no more."""
        ...


def _element_of(dataset: pydicom.Dataset, tag: int) -> tuple[str, object]:
    """VR and value; what pydicom cannot read as its VR is text as it came."""
    try:
        element = dataset[tag]
    except Exception:  # whatever pydicom's parts raise: the peer chose the bytes
        raw = dataset.get_item(tag)
        value = getattr(raw, "value", b"") or b""
        return str(getattr(raw, "VR", None) or "UN"), bytes(value).decode("latin-1").strip("\0 ")
    return str(element.VR), element.value


def _text_of(value: object) -> str:
    from pydicom.multival import MultiValue

    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(map(str, value))
    return str(value)


def printable(text: str) -> str:
    """*text* with control characters, and what is no character, escaped."""
    escaped = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def shown(text: str) -> str:
    """*text* on one line, cut to a bound."""
    return printable(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


class TextWriter:
    """A line for each element, below the number of the match."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._count = 0

    def write(self, match: Match) -> None:
        """One match."""
        self._count += 1
        lines = [f"# {self._count}", *self._lines(match.dataset, 0)]
        self._out.write("\n".join(lines) + "\n")
        self._out.flush()

    def _lines(self, dataset: pydicom.Dataset, depth: int) -> list[str]:
        from pydicom.sequence import Sequence as ItemSequence

        lines: list[str] = []
        for tag in sorted(dataset.keys()):
            vr, value = _element_of(dataset, tag)
            name = keyword_for_tag(tag) or "?"
            head = f"{_INDENT * depth}({tag >> 16:04x},{tag & 0xFFFF:04x}) {vr} {name}"
            if not isinstance(value, ItemSequence):
                lines.append(f"{head}: {shown(_text_of(value))}".rstrip())
                continue
            lines.append(f"{head}: {len(value)} items")
            if depth < _DEEPEST:
                for item in value:
                    lines.append(f"{_INDENT * (depth + 1)}-")
                    lines += self._lines(item, depth + 1)
        return lines

    def finish(self) -> None:
        """Nothing to do."""


class JsonWriter:
    """An array of DICOM JSON objects (PS3.18 Annex F)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._count = 0

    def write(self, match: Match) -> None:
        """One match."""
        data, encoding = match.elements()
        text = json_of(data, encoding).decode()
        self._out.write((",\n" if self._count else "[\n") + text)
        self._count += 1

    def finish(self) -> None:
        """Close the array."""
        self._out.write("\n]\n" if self._count else "[]\n")


class XmlMatchWriter:
    """One XML document: Native DICOM Models (PS3.19 A.1) in an element of ours."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._has_begun = False

    def write(self, match: Match) -> None:
        """One match."""
        data, encoding = match.elements()
        _, _, model = xml_of(data, encoding, is_pretty=True).decode().partition("?>\n")
        self._begin()
        self._out.write(model)

    def finish(self) -> None:
        """Close the document."""
        self._begin()
        self._out.write("</matches>\n")

    def _begin(self) -> None:
        if not self._has_begun:
            self._out.write('<?xml version="1.0" encoding="UTF-8"?>\n<matches>\n')
            self._has_begun = True


class _Columns:
    """Columns of a table: the attributes that were asked for, or those of the first match."""

    def __init__(self, tags: Sequence[int]) -> None:
        self.tags = list(tags)

    def names(self, match: Iterable[int]) -> list[str]:
        if not self.tags:
            self.tags = sorted(map(int, match))
        return [keyword_for_tag(tag) or f"{tag >> 16:04X},{tag & 0xFFFF:04X}" for tag in self.tags]

    def values(self, match: pydicom.Dataset) -> list[str]:
        return [self._value(match, tag) for tag in self.tags]

    @staticmethod
    def _value(match: pydicom.Dataset, tag: int) -> str:
        from pydicom.sequence import Sequence as ItemSequence

        if tag not in match:
            return ""
        _, value = _element_of(match, tag)
        if isinstance(value, ItemSequence):
            return f"{len(value)} items"
        return printable(_text_of(value))


class CsvWriter:
    """Comma-separated values below their keywords: RFC 4180, but lines end as other text's."""

    def __init__(self, out: TextIO, tags: Sequence[int]) -> None:
        self._rows = csv.writer(out, lineterminator="\n")
        self._columns = _Columns(tags)
        self._is_first = True

    def write(self, match: Match) -> None:
        """One row."""
        if self._is_first:
            self._rows.writerow(self._columns.names(match.dataset.keys()))
            self._is_first = False
        self._rows.writerow(self._columns.values(match.dataset))

    def finish(self) -> None:
        """A header is there also when nothing matched."""
        if self._is_first and self._columns.tags:
            self._rows.writerow(self._columns.names([]))


class TableWriter:
    """A table for people; a long answer makes several."""

    def __init__(self, out: TextIO, tags: Sequence[int]) -> None:
        self._out = out
        self._columns = _Columns(tags)
        self._names: list[str] = []
        self._rows: list[list[str]] = []

    def write(self, match: Match) -> None:
        """One row."""
        if not self._names:
            self._names = self._columns.names(match.dataset.keys())
        self._rows.append([shown(value) for value in self._columns.values(match.dataset)])
        if len(self._rows) >= _ROWS_PER_TABLE:
            self.finish()

    def finish(self) -> None:
        """Print the rows that are left."""
        if not self._rows:
            return
        print_table(self._out, self._names, self._rows)
        self._rows.clear()


def print_table(out: TextIO, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people, as wide as the terminal; in a file or a pipe, as wide as it needs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if out.isatty() else _width(names, rows)
    Console(file=out, width=width, highlight=False).print(table)


def _width(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of a table in a file or a pipe: nothing is folded."""
    from rich.cells import cell_len

    columns = zip(names, *rows, strict=True)
    return sum(max(map(cell_len, column)) + 3 for column in columns) + 1


def prepare_stdout(output_format: str) -> TextIO:
    """Standard output, so that no character of a peer can fail to be written."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        if output_format in ("json", "csv", "xml"):
            out.reconfigure(encoding="utf-8", newline="", errors="backslashreplace")
        else:
            out.reconfigure(errors="backslashreplace")
    return out


@contextmanager
def output_to(path: str, output_format: str) -> Iterator[TextIO]:
    """What ``--output-file`` names; ``-``: standard output."""
    if path == "-":
        out = prepare_stdout(output_format)
        yield out
        out.flush()
        return
    try:
        file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"--output-file {path}: {text_of(error)}") from error
    with file:
        yield file


def writer_of(output_format: str, out: TextIO, tags: Sequence[int]) -> MatchWriter:
    """The writer for ``-o``."""
    match output_format:
        case "json":
            return JsonWriter(out)
        case "xml":
            return XmlMatchWriter(out)
        case "csv":
            return CsvWriter(out, tags)
        case "table":
            return TableWriter(out, tags)
        case _:
            return TextWriter(out)


def extract(
    folder: Path, number: int, match: bytes, sop_class_uid: str, transfer_syntax_uid: str
) -> Path:
    """Write one match as a Part 10 file; existing files are kept."""
    head = write_file_meta(sop_class_uid, new_uid(), transfer_syntax_uid)
    path = folder / f"rsp{number:05d}.dcm"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with io.FileIO(os.open(path, flags, 0o666), "w") as file:
        file.write(head + match)
    return path
