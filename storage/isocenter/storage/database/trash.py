"""Records of deleted objects in the database: adapter of the port `TrashBook`."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import time
from typing import Final

from isocenter.services.archive.deletion.ports import (
    OF_TRASH,
    DeletionRecord,
    DeletionRefusedError,
    DeletionSummary,
    Obstacles,
    TrashChoice,
    TrashedInstance,
    TrashStatistics,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.ports import AddResult, InstanceRecord, StoredInstance
from isocenter.services.workflow.events.stored_events import events_of_return
from isocenter.storage.database import trash_rows
from isocenter.storage.database.corrections.standing import restored
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.deletion import DeleteHook, delete_within
from isocenter.storage.database.events.outbox import insert_events
from isocenter.storage.database.index.lookup import get_records
from isocenter.storage.database.index.records import (
    AddHook,
    add_records,
    call_add_hooks,
)
from isocenter.storage.database.text import replace_surrogates
from isocenter.storage.database.trash_rows import in_parts, insert_trash, marks, selected

_PATIENT_ID, _PATIENT_NAME = 0x00100020, 0x00100010
#: Called with the SOP and Study Instance UIDs of objects.
ForgetHook = Callable[[Connection, Sequence[str], Sequence[str]], None]
_GIVEN_UP: Final = "it was deleted before it was sent"
#: What was quarantined when it came: whoever is told of what comes was not told of it.
_NEVER_TOLD: Final = (
    "SELECT trash_pk FROM trash JOIN deletion USING (deletion_id) "
    "WHERE cause = 'quarantined' AND deletion.actor = '' AND trash_pk IN"
)


class DatabaseTrash:
    """See `isocenter.services.archive.deletion.ports.TrashBook`.

    Args:
        on_delete: called in the transactions that delete, with what they have deleted.
        on_return: called in those that give back, with what they have given back.
        on_arrival: called in those that release what came into quarantine, as when it is added.
        on_forget: called in the transactions that end records of objects, which are back or gone
            for good.
        tells: whether what is restored is an event, too.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_delete: Sequence[DeleteHook] = (),
        on_return: Sequence[AddHook] = (),
        on_arrival: Sequence[AddHook] = (),
        on_forget: Sequence[ForgetHook] = (),
        tells: bool = True,
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._on_delete = on_delete
        self._on_return = on_return
        self._on_arrival = on_arrival
        self._on_forget = on_forget
        self._tells = tells
        self._now = now

    async def obstacles(self, instances: Sequence[StoredInstance]) -> Obstacles:
        """See `TrashBook.obstacles`."""
        return await self._database.read(find_obstacles, instances)

    async def take(
        self, deletion: DeletionRecord, instances: Sequence[StoredInstance], *, overrule: bool
    ) -> int:
        """See `TrashBook.take`."""
        return await self._database.write(
            _take, deletion, instances, overrule, self._on_delete, self._now()
        )

    async def unfinished(self, limit: int) -> Sequence[TrashedInstance]:
        """See `TrashBook.unfinished`."""
        return await self._database.read(
            trash_rows.rows,
            f"{trash_rows.SELECT} WHERE state <> 'kept' ORDER BY trash_pk LIMIT ?",
            (limit,),
        )

    async def chosen(
        self, choice: TrashChoice, *, after: int = 0, limit: int
    ) -> Sequence[TrashedInstance]:
        """See `TrashBook.chosen`."""
        condition, values = trash_rows.condition(choice)
        return await self._database.read(
            trash_rows.rows,
            f"{trash_rows.SELECT} WHERE state = 'kept' AND trash_pk > ?{condition} "
            "ORDER BY trash_pk LIMIT ?",
            (after, *values, limit),
        )

    async def purge(self, numbers: Sequence[int], actor: str) -> None:
        """See `TrashBook.purge`."""
        await self._database.write(
            _change, "UPDATE trash SET state = 'purging', actor = ? WHERE", (actor,), numbers
        )

    async def discard(self, deletion: DeletionRecord) -> int:
        """See `TrashBook.discard`."""
        return await self._database.write(_discard, deletion, self._now())

    async def begin_return(self, targets: Mapping[int, str], actor: str) -> None:
        """See `TrashBook.begin_return`."""
        rows = [(target, actor, number) for number, target in targets.items()]
        await self._database.write(_begin_return, rows)

    async def give_back(self, records: Mapping[int, InstanceRecord]) -> Sequence[int]:
        """See `TrashBook.give_back`."""
        numbers = {record.sop_instance_uid: number for number, record in records.items()}
        returned: list[int] = []

        def beside(
            connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
        ) -> None:
            returned.extend(numbers[record.sop_instance_uid] for record, _ in added)
            restored(connection, [record for record, _ in added], self._now())
            new = set(selected(connection, _NEVER_TOLD, returned))
            old = [number for number in returned if number not in new]
            _returned(connection, old, self._tells, self._now())
            _returned(connection, sorted(new), False, self._now())
            call_add_hooks(self._on_return, connection, added)
            if new:
                come = [each for each in added if numbers[each[0].sop_instance_uid] in new]
                call_add_hooks(self._on_arrival, connection, come)

        await self._database.write(add_records, list(records.values()), False, [beside])
        return returned

    async def settle(self, numbers: Sequence[int]) -> None:
        """See `TrashBook.settle`."""
        await self._database.write(
            _change, "UPDATE trash SET state = 'kept', target_key = '' WHERE", (), numbers
        )

    async def forget(self, numbers: Sequence[int]) -> Sequence[str]:
        """See `TrashBook.forget`."""
        return await self._database.write(_forget, numbers, self._on_forget)

    async def adopt(self, deletion: DeletionRecord, records: Sequence[InstanceRecord]) -> int:
        """See `TrashBook.adopt`."""
        return await self._database.write(_adopt, deletion, records)

    async def rows(self, causes: Sequence[DeletionCause] = OF_TRASH) -> Sequence[DeletionSummary]:
        """See `TrashBook.rows`."""
        return await self._database.read(trash_rows.deletion_rows, causes)

    async def statistics(self) -> TrashStatistics:
        """See `TrashBook.statistics`."""
        return await self._database.read(trash_rows.statistics)


def find_obstacles(connection: Connection, instances: Sequence[StoredInstance]) -> Obstacles:
    """What is against deleting instances; for a transaction of whoever deletes."""
    uids = [stored.sop_instance_uid for stored in instances]
    by_study: dict[str, int] = defaultdict(int)
    for stored in instances:
        by_study[stored.study_instance_uid] += 1
    held = selected(
        connection,
        "SELECT study_instance_uid FROM study_hold WHERE study_instance_uid IN",
        list(by_study),
    )

    def count(statement: str) -> int:
        return len(set(selected(connection, statement, uids)))

    return Obstacles(
        held=sum(by_study[study] for study in held),
        asked=count(
            "SELECT sop_instance_uid FROM commitment_reference JOIN commitment "
            "USING (commitment_pk) WHERE state = 'pending' AND sop_instance_uid IN"
        ),
        promised=count(
            "SELECT sop_instance_uid FROM commitment_reference "
            "WHERE failure_reason = 0 AND sop_instance_uid IN"
        ),
        queued=count(
            "SELECT sop_instance_uid FROM forward "
            "WHERE state IN ('due', 'sent', 'committing', 'failed') AND sop_instance_uid IN"
        ),
    )


def _take(
    connection: Connection,
    deletion: DeletionRecord,
    instances: Sequence[StoredInstance],
    overrule: bool,
    on_delete: Sequence[DeleteHook],
    now: float,
) -> int:
    obstacles = find_obstacles(connection, instances)
    withholds = deletion.cause.withholds
    if obstacles.forbid_withholding() if withholds else obstacles.forbid(overrule=overrule):
        raise DeletionRefusedError(obstacles)
    known = get_records(connection, [each.sop_instance_uid for each in instances])
    going = [each for each in instances if _is_same(known, each)]
    if not going:
        return 0
    uids = [each.sop_instance_uid for each in going]
    deleted = delete_within(connection, uids, deletion.cause, on_delete)
    studies = {study.study_instance_uid: study for study in deleted.studies}
    insert_trash(
        connection,
        deletion,
        "leaving",
        [
            (
                each,
                studies[each.study_instance_uid].remaining,
                studies[each.study_instance_uid].patient_id,
                studies[each.study_instance_uid].patient_name,
            )
            for each in going
        ],
    )
    if deletion.cause is not DeletionCause.QUARANTINED:  # what is released is sent on, too
        _give_up_sending(connection, uids, now)
    return len(going)


def _give_up_sending(connection: Connection, uids: Sequence[str], now: float) -> None:
    for some in in_parts(uids):
        connection.execute(
            "UPDATE forward SET state = 'failed', ended_at = ?, last_fault = ?, "
            "claimed_until = 0 WHERE state = 'due' AND sop_instance_uid IN "
            f"({marks(some)})",
            (now, _GIVEN_UP, *some),
        )


def _discard(connection: Connection, deletion: DeletionRecord, now: float) -> int:
    rows = trash_rows.rows(
        connection,
        f"{trash_rows.SELECT} WHERE deletion_id = ? AND state = 'kept' "
        "AND cause IN ('quarantined', 'rejected')",
        (deletion.deletion_id,),
    )
    if not rows:
        return 0
    instances = [row.stored for row in rows]
    obstacles = find_obstacles(connection, instances)
    obstacles = replace(obstacles, queued=0)  # it is what nobody shall be sent
    if obstacles:
        raise DeletionRefusedError(obstacles)
    connection.execute(
        "UPDATE deletion SET cause = ?, at = ?, purge_at = ?, actor = ?, reason = ? "
        "WHERE deletion_id = ?",
        (
            deletion.cause.value,
            deletion.at,
            deletion.purge_at,
            replace_surrogates(deletion.actor),
            replace_surrogates(deletion.reason),
            deletion.deletion_id,
        ),
    )
    connection.execute(
        "UPDATE trash SET state = 'leaving', actor = ? WHERE deletion_id = ? AND state = 'kept'",
        (replace_surrogates(deletion.actor), deletion.deletion_id),
    )
    known = get_records(connection, [each.sop_instance_uid for each in instances])
    uids = [each.sop_instance_uid for each in instances if each.sop_instance_uid not in known]
    _give_up_sending(connection, uids, now)
    return len(rows)


def _is_same(known: Mapping[str, StoredInstance], planned: StoredInstance) -> bool:
    now = known.get(planned.sop_instance_uid)
    return now is not None and (now.object_key, now.digest) == (planned.object_key, planned.digest)


def _change(
    connection: Connection,
    statement: str,
    values: tuple[object, ...],
    numbers: Sequence[int],
) -> None:
    for some in in_parts(numbers):
        connection.execute(f"{statement} trash_pk IN ({marks(some)})", (*values, *some))


def _begin_return(connection: Connection, rows: Sequence[tuple[str, str, int]]) -> None:
    connection.executemany(
        "UPDATE trash SET state = 'returning', target_key = ?, actor = ? "
        "WHERE trash_pk = ? AND state = 'kept'",
        rows,
    )


def _returned(connection: Connection, numbers: Sequence[int], tells: bool, now: float) -> None:
    studies: list[str] = []
    for some in in_parts(numbers):
        rows = connection.execute(
            f"UPDATE trash SET state = 'returned' WHERE trash_pk IN ({marks(some)}) "
            "RETURNING study_instance_uid",
            some,
        )
        studies += [row[0] for row in rows]
    if tells:
        insert_events(connection, events_of_return(studies), now)


def _forget(
    connection: Connection, numbers: Sequence[int], on_forget: Sequence[ForgetHook]
) -> list[str]:
    touched: set[str] = set()
    for some in in_parts(numbers):
        rows = connection.execute(
            f"DELETE FROM trash WHERE trash_pk IN ({marks(some)}) "
            "RETURNING deletion_id, sop_instance_uid, study_instance_uid",
            some,
        ).fetchall()
        touched.update(row[0] for row in rows)
        for hook in on_forget:
            hook(connection, [row[1] for row in rows], sorted({row[2] for row in rows}))
    left = selected(
        connection, "SELECT deletion_id FROM trash WHERE deletion_id IN", sorted(touched)
    )
    return sorted(touched - set(left))


def _adopt(
    connection: Connection, deletion: DeletionRecord, records: Sequence[InstanceRecord]
) -> int:
    rows = [
        (
            record,
            0,
            record.attributes.get(_PATIENT_ID, ""),
            record.attributes.get(_PATIENT_NAME, ""),
        )
        for record in records
    ]
    return insert_trash(connection, deletion, "kept", rows)
