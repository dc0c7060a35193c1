"""States of viewers, and studies that people looked at, in the database."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.viewing.ports import RecentStudy, ViewerState
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_SELECT: Final = """
    SELECT state_id, study_instance_uid, author, content, created_at
    FROM viewer_state JOIN study USING (study_instance_uid)
"""
_ADD: Final = """
    INSERT INTO viewer_state (state_id, study_instance_uid, author, content, created_at)
    SELECT CAST(? AS TEXT), study_instance_uid, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS REAL)
    FROM study WHERE study_instance_uid = ?
"""
_FORGET_OLD: Final = """
    DELETE FROM viewer_state WHERE author = ? AND state_id NOT IN (
        SELECT state_id FROM viewer_state WHERE author = ?
        ORDER BY created_at DESC, state_id DESC LIMIT ?
    )
"""
_NOTE: Final = """
    INSERT INTO recent_study (user_name, study_instance_uid, accessed_at) VALUES (?, ?, ?)
    ON CONFLICT (user_name, study_instance_uid) DO UPDATE SET accessed_at = excluded.accessed_at
    WHERE excluded.accessed_at > recent_study.accessed_at
"""
_FORGET_LAST: Final = """
    DELETE FROM recent_study WHERE user_name = ? AND study_instance_uid NOT IN (
        SELECT study_instance_uid FROM recent_study WHERE user_name = ?
        ORDER BY accessed_at DESC, study_instance_uid LIMIT ?
    )
"""


class DatabaseViewerStates:
    """See `isocenter.services.viewing.ports.ViewerStates`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, state: ViewerState, *, most: int) -> bool:
        """See `ViewerStates.add`."""
        return await self._database.write(_add, state, most)

    async def find(self, state_id: str) -> ViewerState | None:
        """See `ViewerStates.find`."""
        found = await self._database.read(_states, f"{_SELECT} WHERE state_id = ?", (state_id,))
        return found[0] if found else None

    async def chosen(
        self, *, author: str, study_instance_uid: str = "", limit: int
    ) -> Sequence[ViewerState]:
        """See `ViewerStates.chosen`."""
        where, values = "author = ?", [author]
        if study_instance_uid:
            where, values = f"{where} AND study_instance_uid = ?", [author, study_instance_uid]
        return await self._database.read(
            _states,
            f"{_SELECT} WHERE {where} ORDER BY created_at DESC, state_id DESC LIMIT ?",
            (*values, limit),
        )

    async def remove(self, state_id: str) -> bool:
        """See `ViewerStates.remove`."""
        return await self._database.write(_remove, state_id)


class DatabaseRecentStudies:
    """See `isocenter.services.viewing.ports.RecentStudies`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, seen: Sequence[tuple[str, RecentStudy]], *, most: int) -> None:
        """See `RecentStudies.note`."""
        await self._database.write(_note, seen, most)

    async def of(self, user: str, *, limit: int) -> Sequence[RecentStudy]:
        """See `RecentStudies.of`."""
        return await self._database.read(_recent, user, limit)


def forget_studies_seen(
    connection: Connection, sop_instance_uids: Sequence[str], study_instance_uids: Sequence[str]
) -> None:
    """Studies are gone for good: those of them that are neither in the index nor in the trash."""
    for table in ("viewer_state", "recent_study"):
        connection.execute(
            f"DELETE FROM {table} WHERE study_instance_uid IN {TEXTS} "
            "AND NOT EXISTS (SELECT 1 FROM study "
            f"WHERE study.study_instance_uid = {table}.study_instance_uid) "
            "AND NOT EXISTS (SELECT 1 FROM trash "
            f"WHERE trash.study_instance_uid = {table}.study_instance_uid)",
            (json_list(study_instance_uids),),
        )


def _add(connection: Connection, state: ViewerState, most: int) -> bool:
    author = replace_surrogates(state.author)
    values = (
        state.state_id, author, replace_surrogates(state.content), state.created_at,
        state.study_instance_uid,
    )  # fmt: skip
    if not connection.execute(_ADD, values).rowcount:
        return False
    connection.execute(_FORGET_OLD, (author, author, most))
    return True


def _states(connection: Connection, statement: str, values: Sequence[object]) -> list[ViewerState]:
    return rows_as(ViewerState, connection.execute(statement, values))


def _remove(connection: Connection, state_id: str) -> bool:
    found = connection.execute("DELETE FROM viewer_state WHERE state_id = ?", (state_id,))
    return bool(found.rowcount)


def _note(connection: Connection, seen: Sequence[tuple[str, RecentStudy]], most: int) -> None:
    rows = [
        (replace_surrogates(user), one.study_instance_uid, one.accessed_at) for user, one in seen
    ]
    connection.executemany(_NOTE, rows)
    for user in dict.fromkeys(row[0] for row in rows):
        connection.execute(_FORGET_LAST, (user, user, most))


def _recent(connection: Connection, user: str, limit: int) -> list[RecentStudy]:
    return rows_as(
        RecentStudy,
        connection.execute(
            "SELECT study_instance_uid, accessed_at FROM recent_study "
            "JOIN study USING (study_instance_uid) WHERE user_name = ? "
            "ORDER BY accessed_at DESC, study_instance_uid LIMIT ?",
            (user, limit),
        ),
    )
