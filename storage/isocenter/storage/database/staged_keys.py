"""Staged keys in the database: where a store may have what the index lacks."""

# ruff: noqa: S608  (statements are made of constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.services.archive.object_keys import sop_instance_uid_of
from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord, StoredInstance
from isocenter.services.archive.sweeping.ports import Announced
from isocenter.services.archive.tiers.tier import Tier, tier_of
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list, texts
from isocenter.storage.database.index.lookup import (
    SELECT_INSTANCES,
    ask_rows,
    stored_instance,
)

_BEGIN: Final = """
    INSERT INTO staged_object (object_key, state, noted_at, node) VALUES (?, 'staged', ?, ?)
    ON CONFLICT (object_key) DO NOTHING
"""
_LEAVES: Final = """
    INSERT INTO staged_object (object_key, state, noted_at) VALUES (?, 'leaving', ?)
    ON CONFLICT (object_key) DO UPDATE SET state = 'leaving', noted_at = excluded.noted_at
"""
_ADDED: Final = f"DELETE FROM staged_object WHERE state = 'staged' AND object_key IN {TEXTS}"
_END: Final = f"DELETE FROM staged_object WHERE object_key IN {TEXTS}"
#: Also what an earlier sweep has claimed and not brought to its end.
_OVERDUE: Final = """
    SELECT object_key FROM staged_object WHERE noted_at < ? ORDER BY noted_at LIMIT ?
"""
_CLAIM: Final = f"UPDATE staged_object SET state = 'sweeping' WHERE object_key IN {TEXTS}"
#: Of keys those under which there is something that somebody names; the index is asked by UIDs.
_NAMED: Final = (
    f"SELECT object_key FROM instance WHERE sop_instance_uid IN {texts('uids')} "
    "UNION ALL SELECT original_key FROM corrected_instance "
    f"WHERE is_corrected = 1 AND original_key IN {texts('keys')} "
    "UNION ALL SELECT made_key FROM corrected_instance "
    f"WHERE made_key <> '' AND made_key IN {texts('keys')} "
    "UNION ALL SELECT object_key FROM trash "
    f"WHERE state = 'leaving' AND object_key IN {texts('keys')} "
    "UNION ALL SELECT target_key FROM trash "
    f"WHERE state = 'returning' AND target_key IN {texts('keys')}"
)


class DatabaseStagedKeys:
    """See `isocenter.services.archive.sweeping.ports.StagedKeys`.

    Its hooks write in the transactions of others.

    Args:
        node: whose notes they are.
    """

    def __init__(
        self, database: Database, *, node: str = "", now: Callable[[], float] = time
    ) -> None:
        self._database = database
        self._node = node
        self._now = now

    async def begin(self, keys: Sequence[str]) -> Sequence[bool]:
        """See `StagedKeys.begin`; one transaction."""
        values = [(key, self._now(), self._node) for key in keys]
        return await self._database.note(_begin, values)

    async def announce(self, wanted: Sequence[tuple[str, str, str]]) -> Sequence[Announced]:
        """See `StagedKeys.announce`; one transaction."""
        return await self._database.note(_announce, wanted, self._now(), self._node)

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
    ) -> Callable[[], None]:
        """What becomes findable has its note taken away; what it replaces is noted (an `AddHook`).

        What it gives raises `StorageError` when somebody is removing one of the objects, since it
        took too long.
        """
        keys = [record.object_key for record, _ in added]
        taken = connection.execute(_ADDED, (json_list(keys),))
        for record, result in added:
            previous = result.previous
            if (
                result.outcome is AddOutcome.REPLACED
                and previous is not None
                and previous.object_key != record.object_key
            ):
                self.leaves(connection, [previous.object_key])

        def check() -> None:
            if taken.rowcount != len(keys):
                raise StorageError(
                    "an object took so long to be stored that it was swept away meanwhile; its "
                    "sender is to send it again",
                    out_of_resources=True,
                    comment="it took too long to be stored; send it again",
                )

        return check

    def exchanged(
        self, connection: Connection, before: StoredInstance, after: StoredInstance
    ) -> None:
        """The same of one object that is kept in another form or tier (an `ExchangeHook`).

        Raises:
            StorageError: somebody is removing what was made, since it took too long.
        """
        self.made(connection, after.object_key)
        if before.object_key != after.object_key:
            self.leaves(connection, [before.object_key])

    def made(self, connection: Connection, key: str) -> None:
        """The same of another form that is kept beside what the index names.

        Raises:
            StorageError: as of `exchanged`.
        """
        noted = connection.execute(_ADDED, (json_list([key]),)).rowcount
        # Of keys in other tiers there are no notes.
        if not noted and tier_of(key) is Tier.HOT:
            raise StorageError(
                "what was made of an object took so long that it was swept away meanwhile; the "
                "object stays as it is, and it is tried again"
            )

    def leaves(self, connection: Connection, keys: Sequence[str]) -> None:
        """The index forgets objects."""
        connection.executemany(_LEAVES, [(key, self._now()) for key in keys])


def _begin(connection: Connection, values: Sequence[tuple[str, float, str]]) -> list[bool]:
    noted = [connection.execute(_BEGIN, each) for each in values]  # all in one message
    return [bool(each.rowcount) for each in noted]


def _announce(
    connection: Connection, wanted: Sequence[tuple[str, str, str]], now: float, node: str
) -> list[Announced]:
    # All in one message, also what is taken back: that an object is there hardly happens.
    found = ask_rows(connection, SELECT_INSTANCES, [uid for _, uid, _ in wanted])
    noted = [connection.execute(_BEGIN, (key, now, node)) for key, _, _ in wanted]
    known = {row[0]: stored_instance(row) for cursor in found for row in cursor}
    announced, in_vain = [], []
    for (key, uid, digest), cursor in zip(wanted, noted, strict=True):
        stored, is_noted = known.get(uid), bool(cursor.rowcount)
        if is_noted and stored and digest in (stored.digest, stored.received_digest):
            in_vain.append(key)
            is_noted = False
        announced.append(Announced(stored, is_noted))
    if in_vain:
        connection.execute(_END, (json_list(in_vain),))
    return announced


def _execute(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    connection.execute(statement, values)


def _claim(connection: Connection, before: float, limit: int) -> list[str]:
    """What is named, and what is claimed, is one decision: nothing comes in between."""
    while keys := [row[0] for row in connection.execute(_OVERDUE, (before, limit)).fetchall()]:
        uids = [uid for uid in map(sop_instance_uid_of, keys) if uid is not None]
        values = {"uids": json_list(uids), "keys": json_list(keys)}
        found = {row[0] for row in connection.execute(_NAMED, values).fetchall()}
        named = [key for key in keys if key in found]
        if named:
            connection.execute(_END, (json_list(named),))
        if claimed := [key for key in keys if key not in found]:
            connection.execute(_CLAIM, (json_list(claimed),))
            return claimed
    return []


def _count(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM staged_object").fetchone()[0])
