"""Studies and conflicts that synchronisation remembers, in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from isocenter.services.workflow.synchronization.comparison import (
    ConflictKind,
    KnownStudy,
    Resolution,
)
from isocenter.services.workflow.synchronization.ports import Conflict
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_NOTE: Final = """
    INSERT INTO sync_study (task, study_instance_uid, here, there, was_alike, is_left)
    VALUES (:task, :study, :here, :there, :was_alike, :is_left)
    ON CONFLICT (task, study_instance_uid) DO UPDATE SET here = :here, there = :there,
        was_alike = :was_alike, is_left = :is_left
"""
_SETTLED: Final = """
    UPDATE sync_conflict SET resolution = 'gone'
    WHERE task = :task AND study_instance_uid = :study AND resolution = ''
"""
_FORGET: Final = f"""
    DELETE FROM sync_study WHERE task = :task AND study_instance_uid IN {texts("studies")}
"""  # noqa: S608 - constants
_REPORT: Final = """
    INSERT INTO sync_conflict (task, node, study_instance_uid, kind, here, there, found_at)
    VALUES (:task, :node, :study, :kind, :here, :there, :at)
    ON CONFLICT (task, study_instance_uid) WHERE resolution = '' DO NOTHING
"""
_CONFLICTS: Final = """
    SELECT sync_conflict_pk AS number, task, node, study_instance_uid, kind, here, there, found_at,
        resolution, resolved_by, resolved_at
    FROM sync_conflict
"""
_RESOLVE: Final = """
    UPDATE sync_conflict SET resolution = :resolution, resolved_by = :by, resolved_at = :at
    WHERE sync_conflict_pk = :number AND resolution = ''
"""


class DatabaseSync:
    """See `isocenter.services.workflow.synchronization.ports.SyncBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, task: str) -> Mapping[str, KnownStudy]:
        """See `SyncBook.known`."""
        found = await self._database.read(_known, replace_surrogates(task))
        return {study.study_instance_uid: study for study in found}

    async def note(self, task: str, studies: Sequence[KnownStudy]) -> None:
        """See `SyncBook.note`."""
        await self._database.write(_note, replace_surrogates(task), studies)

    async def forget(self, task: str, study_instance_uids: Sequence[str]) -> None:
        """See `SyncBook.forget`."""
        values = {"task": replace_surrogates(task), "studies": json_list(study_instance_uids)}
        await self._database.write(_change, _FORGET, values)

    async def report(self, conflict: Conflict) -> bool:
        """See `SyncBook.report`."""
        values = {
            "task": replace_surrogates(conflict.task),
            "node": replace_surrogates(conflict.node),
            "study": replace_surrogates(conflict.study_instance_uid),
            "kind": conflict.kind.value,
            "here": conflict.here,
            "there": conflict.there,
            "at": conflict.found_at,
        }
        return await self._database.write(_change, _REPORT, values)

    async def conflicts(self, *, task: str = "", is_open: bool, limit: int) -> Sequence[Conflict]:
        """See `SyncBook.conflicts`."""
        conditions = ["resolution = ''"] if is_open else []
        if task:
            conditions.append("task = :task")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        values = {"task": replace_surrogates(task), "limit": limit}
        statement = f"{_CONFLICTS} {where} ORDER BY sync_conflict_pk DESC LIMIT :limit"
        return await self._database.read(_conflicts, statement, values)

    async def conflict(self, number: int) -> Conflict | None:
        """See `SyncBook.conflict`."""
        statement = f"{_CONFLICTS} WHERE sync_conflict_pk = :number"
        found = await self._database.read(_conflicts, statement, {"number": number})
        return found[0] if found else None

    async def resolve(self, number: int, resolution: Resolution, by: str, at: float) -> bool:
        """See `SyncBook.resolve`."""
        values = {
            "number": number,
            "resolution": resolution.value,
            "by": replace_surrogates(by),
            "at": at,
        }
        return await self._database.write(_change, _RESOLVE, values)


def _change(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _known(connection: Connection, task: str) -> list[KnownStudy]:
    cursor = connection.execute(
        "SELECT study_instance_uid, here, there, was_alike, is_left FROM sync_study WHERE task = ?",
        (task,),
    )
    return rows_as(KnownStudy, cursor, was_alike=bool, is_left=bool)


def _note(connection: Connection, task: str, studies: Sequence[KnownStudy]) -> None:
    for study in studies:
        values = {
            "task": task,
            "study": study.study_instance_uid,
            "here": study.here,
            "there": study.there,
            "was_alike": int(study.was_alike),
            "is_left": int(study.is_left),
        }
        connection.execute(_NOTE, values)
        if study.was_alike:
            connection.execute(_SETTLED, values)


def _conflicts(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[Conflict]:
    return rows_as(
        Conflict, connection.execute(statement, values), kind=ConflictKind, resolution=_resolution
    )


def _resolution(text: str) -> Resolution | None:
    known = {each.value: each for each in Resolution}
    return known.get(text, Resolution.LEAVE if text else None)


def forget_task(connection: Connection, task: str) -> None:
    """A task is gone: what it remembers goes, too."""
    connection.execute("DELETE FROM sync_study WHERE task = ?", (task,))
    connection.execute("DELETE FROM sync_conflict WHERE task = ?", (task,))
