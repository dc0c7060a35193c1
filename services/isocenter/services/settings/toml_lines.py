"""On which line of a TOML file a setting stands: `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

#: How a line looks that can begin a table or a value; what goes on in the next line does not.
_STARTS: Final = re.compile(r"""\s*(?:\[|(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')\s*[.=])""")
#: A key of ours is a section and a name.
_DEPTH: Final = 2


def lines_of(text: str) -> dict[str, int]:
    """Of a document that is TOML: ``section.name``, or ``peers, no. 2`` → its line, from 1."""
    found: dict[str, int] = {}
    table: tuple[str, ...] = ()
    tables: Counter[str] = Counter()
    for number, content, is_header in _statements(text):
        path, is_list = _path(content)
        if is_header:
            table = path
            if is_list:
                name = ".".join(path)
                tables[name] += 1
                found[f"{name}, no. {tables[name]}"] = number
        path = path if is_header else (*table, *path)
        for depth in range(1, min(len(path), _DEPTH) + 1):
            found.setdefault(".".join(path[:depth]), number)
    return found


def _statements(text: str) -> Iterator[tuple[int, Mapping[str, object], bool]]:
    """Each header and each value: its first line, what it comes to by itself, which it is."""
    lines = text.replace("\r\n", "\n").split("\n")
    begun = 0
    chunk: list[str] = []
    for number, line in enumerate(lines, 1):
        if not chunk:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            begun = number
        chunk.append(line)
        if number < len(lines) and lines[number].strip() and not _STARTS.match(lines[number]):
            continue
        try:
            content = tomllib.loads("\n".join(chunk))
        except (ValueError, RecursionError):
            continue  # it goes on
        yield begun, content, chunk[0].lstrip().startswith("[")
        chunk = []


def _path(content: object) -> tuple[tuple[str, ...], bool]:
    """The keys down to a value or an array, as far as each table has one only; whether it is an
    array of tables."""
    path: list[str] = []
    while isinstance(content, dict) and len(content) == 1:
        (key, content) = next(iter(content.items()))
        path.append(key)
    return tuple(path), content == [{}]
