"""Statements as PostgreSQL reads them, made of those of `isocenter.storage.database.dialect`.

Each text is translated once.  What is not written by the names of the dialect stays as it is.
"""

# ruff: noqa: S608  (patterns of statements, no statements)

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.database import Values
from isocenter.storage.database.dialect import CLOCK

#: Statements that are kept; queries of peers are of endless variety.
_KEPT: Final = 2_000

_MARK: Final = r"(?P<{0}>\?|:[a-z_]+)"
_TOKEN: Final = re.compile(
    "|".join(
        (
            r"(?P<clock>" + re.escape(CLOCK) + ")",
            r"(?P<literal>'(?:[^']|'')*')",
            r"(?P<among>\b(?:NOT )?IN )\(SELECT value FROM json_each\("
            + _MARK.format("list")
            + r"\) AS (?P<kind>texts|numbers)\)",
            r"json_each\(" + _MARK.format("wanted") + r"\) AS wanted",
            r"(?P<hint> INDEXED BY \w+)",
            r"(?P<looked_up>\bCROSS JOIN\b)",
            r"\bGLOB " + _MARK.format("glob"),
            r"(?P<joined>\bgroup_concat\((?P<column>[\w.\"]+), char\(92\)\))",
            r"(?P<last>SELECT seq FROM sqlite_sequence WHERE name = '(?P<table>\w+)')",
            r"(?P<cast>::)",
            r"\bWHEN " + _MARK.format("truth") + r"(?= THEN\b)",
            r"\bAS (?P<type>INTEGER|REAL|BLOB)(?=\))",
            r"(?P<asked>:[a-z_]+)(?= IS (?:NOT )?NULL)",
            _MARK.format("value"),
        )
    )
)
#: What SQLite means by them.
_TYPES: Final = {"INTEGER": "bigint", "REAL": "double precision", "BLOB": "bytea"}
#: A literal, or the number of a mark.
_MARKED: Final = re.compile(r"'(?:[^']|'')*'|\$([0-9]+)")
_SCALAR: Final = re.compile(r"\b(min|max)\(")

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with the marks of PostgreSQL.

    Attributes:
        message: its text as it is sent.
        marks: of each mark, the name of its value (none: they are in order), and what makes that;
            None: it is bound as it is.
        converts: some are bound in another form.
    """

    message: bytes
    marks: tuple[tuple[str, Convert | None], ...] = ()
    converts: bool = False

    @property
    def text(self) -> str:
        """As one reads it."""
        return self.message.decode()

    def bind(self, values: Values) -> Sequence[Any]:
        """*values* as they are bound, in the order of the marks.

        Raises:
            ValueError: there are more or fewer than marks.
        """
        # Of tuples and lists it is known at once that they are no mappings.
        if not isinstance(values, (tuple, list)) and isinstance(values, Mapping):
            return [
                values[name] if make is None else make(values[name]) for name, make in self.marks
            ]
        if not self.converts and len(values) == len(self.marks):
            return values
        pairs = zip(self.marks, values, strict=True)
        return [value if make is None else make(value) for (_, make), value in pairs]


class _Translation:
    def __init__(self) -> None:
        self.marks: list[tuple[str, Convert | None]] = []
        #: The number of each form of a named value.
        self._numbers: dict[tuple[str, str], int] = {}

    def mark(self, mark: str, form: str = "", convert: Convert | None = None) -> str:
        """The mark of a value that is bound in a *form*."""
        if mark == "?":
            self.marks.append(("", convert))
            return f"${len(self.marks)}"
        # The same value may stand elsewhere in another form.
        key = mark[1:], form
        if key not in self._numbers:
            self.marks.append((key[0], convert))
            self._numbers[key] = len(self.marks)
        return f"${self._numbers[key]}"

    def replace(self, match: re.Match[str]) -> str:
        """What stands in the place of one part of the text."""
        found = match.groupdict()
        if found["clock"] is not None:
            return "extract(epoch FROM clock_timestamp())::double precision"
        if found["literal"] is not None:
            return match[0]
        if found["list"] is not None:
            kind = "text" if found["kind"] == "texts" else "bigint"
            operator = "<> ALL" if found["among"].startswith("NOT") else "= ANY"
            return f"{operator}({self.mark(found['list'], kind, orjson.loads)}::{kind}[])"
        if found["wanted"] is not None:
            mark = self.mark(found["wanted"], "bigint", orjson.loads)
            return f"unnest({mark}::bigint[]) WITH ORDINALITY AS wanted (value, key)"
        if found["glob"] is not None:
            return f"LIKE {self.mark(found['glob'], 'like', like_of_glob)}"
        if found["joined"] is not None:
            return f"string_agg({found['column']}, chr(92))"
        if found["last"] is not None:
            table = found["table"]
            # A sequence is ahead of what is committed, and whoever read it would miss what comes
            # between.
            return f"SELECT max({table}_pk) FROM {table} HAVING max({table}_pk) IS NOT NULL"
        if found["asked"] is not None:
            # By itself it has no type.
            return f"{self.mark(found['asked'], 'asked', _as_it_is)}::text"
        if found["truth"] is not None:
            return f"WHEN {self.mark(found['truth'])} <> 0"
        if found["type"] is not None:
            return f"AS {_TYPES[found['type']]}"
        if found["value"] is not None:
            return self.mark(found["value"])
        if found["looked_up"] is not None:
            return "JOIN"
        return "" if found["hint"] is not None else match[0]


def _as_it_is(value: object) -> object:
    return value


@lru_cache(_KEPT)
def translate(text: str) -> Statement:
    """*text* for PostgreSQL."""
    translation = _Translation()
    translated = _TOKEN.sub(translation.replace, text)
    marks = tuple(translation.marks)
    converts = any(make is not None for _, make in marks)
    return Statement(_least_and_greatest(translated).encode(), marks, converts)


@lru_cache(_KEPT)
def join(texts: tuple[str, ...]) -> Statement:
    """Statements that each write a table of their own as one; their values follow each other.

    All see the tables as they were before; PostgreSQL does each once, in an order of its own.
    """
    marks: list[tuple[str, Convert | None]] = []
    parts = []
    for statement in map(translate, texts):
        parts.append(_moved(statement.text, len(marks)))
        marks += statement.marks
    *before, last = parts
    together = ", ".join(f"part_{number} AS ({part})" for number, part in enumerate(before))
    return Statement(f"WITH {together} {last}".encode(), tuple(marks))


def _moved(text: str, count: int) -> str:
    """*text* with marks that stand behind so many of others."""
    return _MARKED.sub(lambda found: f"${int(found[1]) + count}" if found[1] else found[0], text)


def like_of_glob(pattern: str) -> str:
    """A pattern of GLOB (``*``, ``?``, ``[[]``) as one of LIKE."""
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern.replace("[[]", "["))
    return escaped.replace("*", "%").replace("?", "_")


def _least_and_greatest(text: str) -> str:
    """``min`` and ``max`` of several values; those of one are of many rows."""
    for match in reversed(list(_SCALAR.finditer(text))):
        if "," in _outermost(text, match.end()):
            name = "least" if match[1] == "min" else "greatest"
            text = f"{text[: match.start()]}{name}{text[match.end() - 1 :]}"
    return text


def _outermost(text: str, begin: int) -> Iterator[str]:
    """The characters of a call's arguments that stand in no brackets of their own."""
    depth = 0
    for character in text[begin:]:
        if character == ")":
            if not depth:
                return
            depth -= 1
        elif character == "(":
            depth += 1
        elif not depth:
            yield character
