"""Staged keys in the database: where a store may have what the index lacks."""

# ruff: noqa: S608  (statements are made of constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord, StoredInstance
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list

_BEGIN: Final = """
    INSERT INTO staged_object (object_key, state, noted_at) VALUES (?, 'staged', ?)
    ON CONFLICT (object_key) DO NOTHING
"""
_LEAVES: Final = """
    INSERT INTO staged_object (object_key, state, noted_at) VALUES (?, 'leaving', ?)
    ON CONFLICT (object_key) DO UPDATE SET state = 'leaving', noted_at = excluded.noted_at
"""
_ADDED: Final = f"DELETE FROM staged_object WHERE state = 'staged' AND object_key IN {TEXTS}"
_END: Final = f"DELETE FROM staged_object WHERE object_key IN {TEXTS}"
#: What an earlier sweep has claimed and not brought to its end is claimed again.
_CLAIM: Final = """
    UPDATE staged_object SET state = 'sweeping' WHERE object_key IN (
        SELECT object_key FROM staged_object WHERE noted_at < ? ORDER BY noted_at LIMIT ?
    ) RETURNING object_key
"""


class DatabaseStagedKeys:
    """See `isocenter.services.archive.sweeping.ports.StagedKeys`.

    Its hooks write in the transactions of others.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    async def begin(self, keys: Sequence[str]) -> Sequence[bool]:
        """See `StagedKeys.begin`; one transaction."""
        return await self._database.write(_begin, keys, self._now())

    async def end(self, keys: Sequence[str]) -> None:
        """See `StagedKeys.end`."""
        await self._database.write(_execute, _END, (json_list(keys),))

    async def claim_overdue(self, before: float, limit: int) -> Sequence[str]:
        """See `StagedKeys.claim_overdue`."""
        return await self._database.write(_claim, before, limit)

    async def count(self) -> int:
        """See `StagedKeys.count`."""
        return await self._database.read(_count)

    def added(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """What becomes findable has its note taken away; what it replaces is noted (an `AddHook`).

        Raises:
            StorageError: somebody is removing one of the objects, since it took too long.
        """
        keys = [record.object_key for record, _ in added]
        if connection.execute(_ADDED, (json_list(keys),)).rowcount != len(keys):
            raise StorageError(
                "an object took so long to be stored that it was swept away meanwhile; its sender "
                "is to send it again",
                out_of_resources=True,
                comment="it took too long to be stored; send it again",
            )
        for record, result in added:
            previous = result.previous
            if (
                result.outcome is AddOutcome.REPLACED
                and previous is not None
                and previous.object_key != record.object_key
            ):
                self.leaves(connection, [previous.object_key])

    def exchanged(
        self, connection: Connection, before: StoredInstance, after: StoredInstance
    ) -> None:
        """The same of one object that is kept in another form (an `ExchangeHook`)."""
        connection.execute(_ADDED, (json_list([after.object_key]),))
        if before.object_key != after.object_key:
            self.leaves(connection, [before.object_key])

    def leaves(self, connection: Connection, keys: Sequence[str]) -> None:
        """The index forgets objects."""
        connection.executemany(_LEAVES, [(key, self._now()) for key in keys])


def _begin(connection: Connection, keys: Sequence[str], now: float) -> list[bool]:
    return [bool(connection.execute(_BEGIN, (key, now)).rowcount) for key in keys]


def _execute(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    connection.execute(statement, values)


def _claim(connection: Connection, before: float, limit: int) -> list[str]:
    return [row[0] for row in connection.execute(_CLAIM, (before, limit)).fetchall()]


def _count(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM staged_object").fetchone()[0])
