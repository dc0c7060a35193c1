"""Statements as PostgreSQL reads them, made of those of `isocenter.storage.database.dialect`.

Each text is translated once.  What is not written by the names of the dialect stays as it is.
"""

# ruff: noqa: S608  (patterns of statements, no statements)

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.database import Values

#: Statements that are kept; queries of peers are of endless variety.
_KEPT: Final = 2_000

_MARK: Final = r"(?P<{0}>\?|:[a-z_]+)"
_TOKEN: Final = re.compile(
    "|".join(
        (
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
            r"(?P<percent>%)",
        )
    )
)
#: What SQLite means by them.
_TYPES: Final = {"INTEGER": "bigint", "REAL": "double precision", "BLOB": "bytea"}
_SCALAR: Final = re.compile(r"\b(min|max)\(")

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with the marks of psycopg.

    Attributes:
        positional: what makes the value of each question mark; None: it is bound as it is.
        named: marks of the text that are other forms of a named value: its name, and how.
    """

    text: str
    positional: tuple[Convert | None, ...] = ()
    named: tuple[tuple[str, str, Convert], ...] = ()

    @property
    def converts(self) -> bool:
        """Whether values are bound in another form."""
        return bool(self.named) or any(self.positional)

    def bind(self, values: Values) -> Values:
        """*values* as they are bound."""
        if not self.converts:
            return values
        if isinstance(values, Mapping):
            return dict(values) | {mark: make(values[name]) for mark, name, make in self.named}
        pairs = zip(self.positional, values, strict=True)
        return tuple(value if make is None else make(value) for make, value in pairs)


class _Translation:
    def __init__(self) -> None:
        self.positional: list[Convert | None] = []
        self.named: dict[str, tuple[str, str, Convert]] = {}

    def mark(self, mark: str, form: str = "", convert: Convert | None = None) -> str:
        """The mark of a value that is bound in a *form*."""
        if mark == "?":
            self.positional.append(convert)
            return "%s"
        name = mark[1:]
        if convert is not None:
            # The same value may stand elsewhere as it is.
            name, origin = f"{name}.{form}", name
            self.named[name] = (name, origin, convert)
        return f"%({name})s"

    def replace(self, match: re.Match[str]) -> str:
        """What stands in the place of one part of the text."""
        found = match.groupdict()
        if found["literal"] is not None:
            return match[0].replace("%", "%%")
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
        if found["percent"] is not None:
            return "%%"
        return "" if found["hint"] is not None else match[0]


def _as_it_is(value: object) -> object:
    return value


@lru_cache(_KEPT)
def translate(text: str) -> Statement:
    """*text* for psycopg."""
    translation = _Translation()
    translated = _TOKEN.sub(translation.replace, text)
    return Statement(
        _least_and_greatest(translated),
        tuple(translation.positional),
        tuple(translation.named.values()),
    )


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
