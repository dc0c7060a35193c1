"""Rows of queries as values, by the names of their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from isocenter.storage.database.database import Cursor

T = TypeVar("T")


def named_rows(cursor: Cursor) -> Iterator[dict[str, Any]]:
    """Each row by the names of its columns."""
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)


def rows_as(kind: Callable[..., T], cursor: Cursor, /, **read: Callable[[Any], object]) -> list[T]:
    """Each row as a *kind*, whose fields are called as the columns are.

    Args:
        read: by column, what makes the field's value of the column's.
    """
    return [
        kind(**{name: read[name](value) if name in read else value for name, value in row.items()})
        for row in named_rows(cursor)
    ]
