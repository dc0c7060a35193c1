"""Matches of a C-FIND for people and programs: text, JSON, CSV, tables, files.

What a peer sends is printed with control characters escaped and values cut to a bound.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, TextIO

import orjson
import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement

from isocenter.engine.dataset import write_file_meta
from isocenter.services.logs import escape

#: Characters of a value that text and tables show.
_SHOWN: Final = 200
#: Rows that are held for one table.
_ROWS_PER_TABLE: Final = 1_000
_INDENT: Final = "  "
_DEEPEST: Final = 16


class MatchWriter(Protocol):
    """Takes matches one after the other."""

    def write(self, match: pydicom.Dataset) -> None:
        """One match."""
        ...

    def finish(self) -> None:
        """There are no more."""
        ...


def _text_of(element: DataElement) -> str:
    value = element.value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if element.VM > 1:
        return "\\".join(str(one) for one in value)
    return str(value)


def shown(text: str) -> str:
    """*text* on one line, cut to a bound."""
    return escape(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


class TextWriter:
    """A line for each element, below the number of the match."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._count = 0

    def write(self, match: pydicom.Dataset) -> None:
        """One match."""
        self._count += 1
        lines = [f"# {self._count}", *self._lines(match, 0)]
        self._out.write("\n".join(lines) + "\n")
        self._out.flush()

    def _lines(self, dataset: pydicom.Dataset, depth: int) -> list[str]:
        lines: list[str] = []
        for element in dataset:
            tag = f"({element.tag.group:04x},{element.tag.element:04x})"
            name = keyword_for_tag(element.tag) or "?"
            head = f"{_INDENT * depth}{tag} {element.VR} {name}"
            if element.VR != "SQ":
                lines.append(f"{head}: {shown(_text_of(element))}".rstrip())
                continue
            lines.append(f"{head}: {len(element.value)} items")
            if depth < _DEEPEST:
                for item in element.value:
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

    def write(self, match: pydicom.Dataset) -> None:
        """One match."""
        model = match.to_json_dict(suppress_invalid_tags=True)
        self._out.write(",\n" if self._count else "[\n")
        self._out.write(orjson.dumps(model, default=str).decode())
        self._count += 1

    def finish(self) -> None:
        """Close the array."""
        self._out.write("\n]\n" if self._count else "[]\n")


class _Columns:
    """Columns of a table: the attributes that were asked for, or those of the first match."""

    def __init__(self, tags: Sequence[int]) -> None:
        self.tags = list(tags)

    def names(self, match: pydicom.Dataset) -> list[str]:
        if not self.tags:
            self.tags = [int(element.tag) for element in match if element.VR != "SQ"]
        return [keyword_for_tag(tag) or f"{tag >> 16:04X},{tag & 0xFFFF:04X}" for tag in self.tags]

    def values(self, match: pydicom.Dataset) -> list[str]:
        return [
            escape(_text_of(match[tag])) if tag in match and match[tag].VR != "SQ" else ""
            for tag in self.tags
        ]


class CsvWriter:
    """Comma-separated values (RFC 4180) with a line of keywords before them."""

    def __init__(self, out: TextIO, tags: Sequence[int]) -> None:
        self._rows = csv.writer(out, lineterminator="\r\n")
        self._columns = _Columns(tags)
        self._is_first = True

    def write(self, match: pydicom.Dataset) -> None:
        """One row."""
        if self._is_first:
            self._rows.writerow(self._columns.names(match))
            self._is_first = False
        self._rows.writerow(self._columns.values(match))

    def finish(self) -> None:
        """A header is there also when nothing matched."""
        if self._is_first and self._columns.tags:
            self._rows.writerow(self._columns.names(pydicom.Dataset()))


class TableWriter:
    """A table for people; a long answer makes several."""

    def __init__(self, out: TextIO, tags: Sequence[int]) -> None:
        self._out = out
        self._columns = _Columns(tags)
        self._names: list[str] = []
        self._rows: list[list[str]] = []

    def write(self, match: pydicom.Dataset) -> None:
        """One row."""
        if not self._names:
            self._names = self._columns.names(match)
        self._rows.append([shown(value) for value in self._columns.values(match)])
        if len(self._rows) >= _ROWS_PER_TABLE:
            self.finish()

    def finish(self) -> None:
        """Print the rows that are left."""
        if not self._rows:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for name in self._names:
            table.add_column(name, overflow="fold")
        for row in self._rows:
            table.add_row(*map(Text, row))
        width = None if self._out.isatty() else _width(self._names, self._rows)
        Console(file=self._out, width=width, highlight=False).print(table)
        self._rows.clear()


def _width(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of a table in a file or a pipe: nothing is folded."""
    from rich.cells import cell_len

    columns = zip(names, *rows, strict=True)
    return sum(max(map(cell_len, column)) + 3 for column in columns) + 1


def writer_of(output_format: str, out: TextIO, tags: Sequence[int]) -> MatchWriter:
    """The writer for ``-o``."""
    match output_format:
        case "json":
            return JsonWriter(out)
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
    from pydicom.uid import generate_uid

    head = write_file_meta(sop_class_uid, generate_uid(prefix=None), transfer_syntax_uid)
    path = folder / f"rsp{number:05d}.dcm"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with io.FileIO(os.open(path, flags, 0o666), "w") as file:
        file.write(head + match)
    return path
