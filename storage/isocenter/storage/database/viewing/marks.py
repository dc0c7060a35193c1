"""Marks in the database: adapter of the port `Marks`."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.viewing.ports import Mark, MarkChoice, MarkKind
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, index_hint, json_list
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

#: A mark is of the study and series that the index has its image in.
_JOIN: Final = """
    JOIN instance USING (sop_instance_uid) JOIN series USING (series_pk)
    JOIN study USING (study_pk)
"""
_COLUMNS: Final = """
    mark_id, kind, form, sop_instance_uid, frame_number, author, content, version,
           view_mark.created_at AS created_at, changed_at, study_instance_uid,
           series_instance_uid, sop_class_uid
"""
_SELECT: Final = f"SELECT {_COLUMNS} FROM view_mark {_JOIN}"
#: Where it is known which images: from these to their marks, and not through all marks in order.
_OF_IMAGES: Final = f"FROM view_mark {index_hint('view_mark_of_image')} {_JOIN}"
_IN_ORDER: Final = f"FROM view_mark {index_hint('view_mark_in_order')} {_JOIN}"
_ADD: Final = """
    INSERT INTO view_mark (mark_id, kind, form, sop_instance_uid, frame_number, author, content,
                           version, created_at, changed_at)
    SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), sop_instance_uid,
           CAST(? AS INTEGER), CAST(? AS TEXT), CAST(? AS TEXT), 1, CAST(? AS REAL),
           CAST(? AS REAL)
    FROM instance WHERE sop_instance_uid = ?
"""
_CHANGE: Final = """
    UPDATE view_mark SET form = ?, frame_number = ?, content = ?, changed_at = ?,
                         version = version + 1
    WHERE mark_id = ? AND version = ?
"""


class DatabaseMarks:
    """See `isocenter.services.viewing.ports.Marks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, mark: Mark) -> Mark | None:
        """See `Marks.add`."""
        return await self._database.write(_add, mark)

    async def find(self, kind: MarkKind, mark_id: str) -> Mark | None:
        """See `Marks.find`."""
        return await self._database.read(_find, mark_id, kind)

    async def chosen(
        self,
        choice: MarkChoice,
        *,
        limit: int,
        offset: int = 0,
        after: tuple[float, str] | None = None,
    ) -> tuple[Sequence[Mark], int]:
        """See `Marks.chosen`."""
        return await self._database.read(_chosen, choice, limit, offset, after)

    async def change(self, mark: Mark) -> Mark | None:
        """See `Marks.change`."""
        return await self._database.write(_change, mark)

    async def remove(self, mark_id: str, version: int | None = None) -> bool:
        """See `Marks.remove`."""
        return await self._database.write(_remove, mark_id, version)


def forget_marks(
    connection: Connection, sop_instance_uids: Sequence[str], studies: Sequence[str]
) -> None:
    """Images are gone for good: those of them that are neither in the index nor in the trash."""
    connection.execute(
        f"DELETE FROM view_mark WHERE sop_instance_uid IN {TEXTS} "
        "AND NOT EXISTS (SELECT 1 FROM instance "
        "WHERE instance.sop_instance_uid = view_mark.sop_instance_uid) "
        "AND NOT EXISTS (SELECT 1 FROM trash "
        "WHERE trash.sop_instance_uid = view_mark.sop_instance_uid)",
        (json_list(sop_instance_uids),),
    )


def _add(connection: Connection, mark: Mark) -> Mark | None:
    values = (
        mark.mark_id, mark.kind.value, mark.form, mark.frame_number,
        replace_surrogates(mark.author), replace_surrogates(mark.content), mark.created_at,
        mark.created_at, mark.sop_instance_uid,
    )  # fmt: skip
    connection.execute(_ADD, values)
    return _find(connection, mark.mark_id, mark.kind)


def _find(connection: Connection, mark_id: str, kind: MarkKind | None = None) -> Mark | None:
    text, values = f"{_SELECT} WHERE mark_id = ?", [mark_id]
    if kind is not None:
        text, values = f"{text} AND kind = ?", [mark_id, kind.value]
    found = rows_as(Mark, connection.execute(text, values), kind=MarkKind)
    return found[0] if found else None


def _chosen(
    connection: Connection,
    choice: MarkChoice,
    limit: int,
    offset: int,
    after: tuple[float, str] | None,
) -> tuple[list[Mark], int]:
    conditions, values = ["kind = ?"], [choice.kind.value]
    for column, wanted in (
        ("form", choice.form),
        ("study_instance_uid", choice.study_instance_uid),
        ("series_instance_uid", choice.series_instance_uid),
        ("sop_instance_uid", choice.sop_instance_uid),
        ("author", choice.author),
    ):
        if wanted:
            conditions.append(f"{column} = ?")
            values.append(wanted)
    if choice.mark_ids:
        conditions.append(f"mark_id IN {TEXTS}")
        values.append(json_list(choice.mark_ids))
    where = f"WHERE {' AND '.join(conditions)}"
    is_of_images = (
        choice.study_instance_uid or choice.series_instance_uid or choice.sop_instance_uid
    )
    source = _OF_IMAGES if is_of_images else _IN_ORDER
    (total,) = connection.execute(f"SELECT count(*) {source} {where}", values).fetchone()
    if after is not None:
        where += " AND (view_mark.created_at, mark_id) > (?, ?)"
    rows = connection.execute(
        f"SELECT {_COLUMNS} {source} {where} "
        "ORDER BY view_mark.created_at, mark_id LIMIT ? OFFSET ?",
        (*values, *(after or ()), limit, offset),
    )
    return rows_as(Mark, rows, kind=MarkKind), total


def _change(connection: Connection, mark: Mark) -> Mark | None:
    values = (
        mark.form, mark.frame_number, replace_surrogates(mark.content), mark.changed_at,
        mark.mark_id, mark.version,
    )  # fmt: skip
    if not connection.execute(_CHANGE, values).rowcount:
        return None
    return _find(connection, mark.mark_id)


def _remove(connection: Connection, mark_id: str, version: int | None) -> bool:
    text, values = "DELETE FROM view_mark WHERE mark_id = ?", (mark_id,)
    if version is None:
        return bool(connection.execute(text, values).rowcount)
    return bool(connection.execute(f"{text} AND version = ?", (*values, version)).rowcount)
