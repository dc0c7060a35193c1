"""Dialect: the few things that databases write differently, and how statements here write them.

Statements are written once, as SQLite writes them, with what it and PostgreSQL share: named or
positional parameters, ``ON CONFLICT (columns)``, ``RETURNING``, ``CASE``.  What they do not share
is written by the names in here and nowhere else, so that the driver of another database finds
each by its text and puts its own in the place (a statement is a constant: once for each).

| here | SQLite | PostgreSQL |
|---|---|---|
| ``IN`` `TEXTS`, `texts` | ``(SELECT value FROM json_each(?) AS texts)`` | ``= ANY(?::text[])`` |
| ``IN`` `NUMBERS`, `numbers` | the same, ``AS numbers`` | ``= ANY(?::bigint[])`` |
| `IN_ORDER` | ``json_each(?) AS wanted`` | ``unnest(?::bigint[]) WITH ORDINALITY …`` |
| `LOOKED_UP` | ``CROSS JOIN``, which keeps the order of tables | ``JOIN`` |
| `matches_pattern` | ``GLOB ?`` | ``LIKE ?``, with the wild cards of that |
| `smaller`, `larger` | ``min(a, b)``, ``max(a, b)`` | ``least``, ``greatest`` |
| `joined` | ``group_concat(a, char(92))`` | ``string_agg(a, chr(92))`` |
| `index_hint` | ``INDEXED BY name`` | nothing |
| `unique_index` | ``sqlite_autoindex_table_1`` | ``table_column_key`` |
| `CLOCK` | ``(julianday('now') - 2440587.5) * 86400.0`` | ``clock_timestamp()``, as a number |
| `last_number` | ``sqlite_sequence`` | ``max`` of the rows that there are |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

#: A list of texts as one parameter (`json_list`), for ``IN``.
TEXTS: Final = "(SELECT value FROM json_each(?) AS texts)"
#: A list of numbers as one parameter.
NUMBERS: Final = "(SELECT value FROM json_each(?) AS numbers)"
#: FROM: a list of row numbers as one parameter, with their places in it (``wanted.key``).
IN_ORDER: Final = "json_each(?) AS wanted"
#: After `IN_ORDER`: JOIN of the table in which each of them is looked up.
LOOKED_UP: Final = "CROSS JOIN"

#: Seconds since 1970 by the clock of the database, which all processes share.
CLOCK: Final = "((julianday('now') - 2440587.5) * 86400.0)"

#: After LIMIT: all rows.
NO_LIMIT: Final = 2**63 - 1


def texts(name: str) -> str:
    """`TEXTS` with a parameter that has a name."""
    return TEXTS.replace("?", f":{name}")


def numbers(name: str) -> str:
    """`NUMBERS` with a parameter that has a name."""
    return NUMBERS.replace("?", f":{name}")


def json_list(values: Iterable[str] | Iterable[int]) -> str:
    """What is bound to a list."""
    return orjson.dumps(list(values)).decode()


def matches_pattern(value: str) -> str:
    """Whether *value* matches the pattern that is bound: ``*``, ``?``, and ``[[]`` for itself."""
    return f"{value} GLOB ?"


def smaller(one: str, other: str) -> str:
    """The smaller of two values of a row."""
    return f"min({one}, {other})"


def larger(one: str, other: str) -> str:
    """The larger of two values of a row."""
    return f"max({one}, {other})"


def joined(column: str) -> str:
    """The values of *column*, in the order of the rows, with backslashes between them."""
    return f"group_concat({column}, char(92))"


def index_hint(name: str) -> str:
    """After a table: the index to find its rows by."""
    return f"INDEXED BY {name}"


def unique_index(table: str) -> str:
    """The name of the index that the first UNIQUE column of *table* has, for `index_hint`."""
    return f"sqlite_autoindex_{table}_1"


def last_number(table: str) -> str:
    """The highest number that a row of *table* has, or had; no row: there is none.

    Rows that are gone count where the database knows of them.
    """
    return f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'"  # noqa: S608  (a constant)
