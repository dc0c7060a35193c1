"""Objects to be forwarded, in the database: adapter of the ports of forwarding."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from time import time
from typing import Final

from isocenter.services.archive.deletion.records import Deletion
from isocenter.services.archive.ports import AddResult, InstanceRecord
from isocenter.services.concurrency import Backoff
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.workflow.forwarding.ports import (
    Clock,
    DestinationStatus,
    DueForward,
    ForwardState,
    ForwardSummary,
    Outcome,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.deletion import DeleteHook
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.forwarding import commitment, records

#: Studies that are looked at together for what may leave.
_STUDIES_AT_ONCE: Final = 100


class DatabaseForwards:
    """See `isocenter.services.workflow.forwarding.ports.ForwardQueue`.

    Args:
        on_delete: called in the transactions that delete, with what they have deleted.
        although_promised: delete also what this archive has promised others to keep.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_delete: Sequence[DeleteHook] = (),
        although_promised: bool = False,
        now: Clock = time,
    ) -> None:
        self._database = database
        self._on_delete = on_delete
        self._although_promised = although_promised
        self._now = now

    def queue_added(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Queue what is added, within the transaction that adds it (an `AddHook`)."""
        records.queue_added(connection, added, self._now())

    def released(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Begin to try anew what was withheld, within the transaction that gives it back (an
        `AddHook`)."""
        uids = json_list(record.sop_instance_uid for record, _ in added)
        connection.execute(records.RELEASED, {"now": self._now(), "uids": uids})

    async def due(self, *, not_for: Collection[str] = ()) -> Sequence[str]:
        """See `ForwardQueue.due`."""
        return await self._database.read(records.due, self._now(), json_list(not_for))

    async def take(
        self, destination: str, limit: int, *, without: Collection[int] = ()
    ) -> Sequence[DueForward]:
        """See `ForwardQueue.take`."""
        return await self._database.read(
            records.take, destination, limit, json_list(without), self._now()
        )

    async def settle(self, outcomes: Sequence[Outcome], job: int = 0) -> None:
        """See `ForwardQueue.settle`."""
        await self._database.write(records.settle, outcomes, job, self._now())

    async def left_alone(self) -> Sequence[str]:
        """See `ForwardQueue.left_alone`."""
        return await self._database.read(records.left_alone, self._now())

    async def destination_failed(
        self, destination: str, fault: str, backoff: Backoff, *, released_at: float = 0.0
    ) -> tuple[float, int]:
        """See `ForwardQueue.destination_failed`."""
        return await self._database.write(
            records.destination_failed,
            destination,
            fault[: records.FAULT_LENGTH],
            backoff,
            self._now(),
            released_at,
        )

    async def destination_succeeded(self, destination: str) -> None:
        """See `ForwardQueue.destination_succeeded`."""
        await self._database.write(
            records.execute, "DELETE FROM forward_destination WHERE destination = ?", (destination,)
        )

    async def begin_commitment(
        self, destination: str, transaction_uid: str, *, wait: float, limit: int
    ) -> Sequence[Reference]:
        """See `ForwardQueue.begin_commitment`."""
        values = {
            "now": self._now(),
            "destination": destination,
            "transaction_uid": transaction_uid,
            "wait": wait,
            "limit": limit,
        }
        return await self._database.write(commitment.begin_commitment, values)

    async def give_up_asking(self, destination: str, backoff: Backoff) -> int:
        """See `ForwardQueue.give_up_asking`."""
        now = self._now()
        return await self._database.write(
            records.execute,
            commitment.GIVE_UP_ASKING,
            {"now": now, "before": now - backoff.give_up_after_seconds, "destination": destination},
        )

    async def commitment_not_asked(
        self, transaction_uid: str, fault: str, backoff: Backoff
    ) -> None:
        """See `ForwardQueue.commitment_not_asked`."""
        await self._database.write(
            commitment.commitment_not_asked,
            transaction_uid,
            fault[: records.FAULT_LENGTH],
            backoff,
            self._now(),
        )

    async def commitment_reported(
        self,
        transaction_uid: str,
        reporter: str,
        committed: Sequence[Reference],
        failed: Sequence[tuple[Reference, int]],
        backoff: Backoff,
    ) -> bool:
        """See `ForwardQueue.commitment_reported`."""
        faults = {
            reference.sop_instance_uid: f"the destination does not commit it: {reason:04X}H"
            for reference, reason in failed
        }
        return await self._database.write(
            commitment.commitment_reported,
            transaction_uid,
            reporter,
            [reference.sop_instance_uid for reference in committed],
            faults,
            backoff,
            self._now(),
        )

    async def deletable(self) -> Sequence[str]:
        """See `ForwardQueue.deletable`."""
        values: dict[str, object] = {"limit": _STUDIES_AT_ONCE}
        rows = await self._database.read(records.fetch, commitment.DELETABLE_STUDIES, values)
        return [row[0] for row in rows]

    async def delete_committed(self, limit: int, study_instance_uid: str = "") -> Deletion:
        """See `ForwardQueue.delete_committed`."""
        delete = partial(
            commitment.delete_committed,
            although_promised=self._although_promised,
            on_delete=self._on_delete,
            now=self._now(),
        )
        return await self._database.write(delete, limit, study_instance_uid)

    async def deleted(self, object_keys: Sequence[str]) -> None:
        """See `ForwardQueue.deleted`."""
        await self._database.write(
            records.execute,
            f"UPDATE forward SET leaving = '' WHERE leaving <> '' AND leaving IN {TEXTS}",
            (json_list(object_keys),),
        )

    async def leaving(self) -> Sequence[str]:
        """See `ForwardQueue.leaving`."""
        rows = await self._database.read(
            records.fetch, "SELECT DISTINCT leaving FROM forward WHERE leaving <> ''", ()
        )
        return [row[0] for row in rows]

    async def purge_done(self, before: float) -> int:
        """See `ForwardQueue.purge_done`."""
        return await self._change_all(records.DELETE_DONE, {"before": before})

    async def counts(self) -> Mapping[tuple[str, ForwardState], int]:
        """See `ForwardQueue.counts`."""
        rows = await self._database.read(
            records.fetch,
            "SELECT destination, state, count(*) FROM forward WHERE state <> 'done' "
            "GROUP BY state, destination",
            (),
        )
        return {(row[0], ForwardState(row[1])): row[2] for row in rows}

    # For people.

    async def rows(
        self,
        *,
        state: ForwardState | None = None,
        unsent: bool = False,
        destination: str = "",
        limit: int,
        before: int | None = None,
    ) -> Sequence[ForwardSummary]:
        """Records, the latest first; *unsent*: of what has not arrived; *before*: those with a
        smaller number."""
        choice = records.choice(state, destination, (), unsent=unsent)
        return await self._database.read(records.rows, choice, limit, before)

    async def destinations(self) -> Sequence[DestinationStatus]:
        """All that have records, and how each of them does."""
        return await self._database.read(records.destinations)

    async def retry(self, numbers: Sequence[int] = (), *, destination: str = "") -> int:
        """Have dead letters, and what waits for its next attempt, sent now; how many records."""
        values = records.choice(None, destination, numbers) | {"now": self._now()}
        changed = await self._change_all(records.RETRY_SENDING, values)
        changed += await self._change_all(records.RETRY_ASKING, values)
        # The destination is tried now as well.
        tried = await self._database.write(records.execute, records.RETRY_DESTINATIONS, values)
        return changed or tried

    async def commit(self, destination: str, study_instance_uid: str) -> int:
        """See `ForwardQueue.commit`."""
        values = {
            "now": self._now(),
            "destination": destination,
            "study": study_instance_uid,
        }
        return await self._change_all(commitment.ASK_LATER, values)

    async def purge(
        self, state: ForwardState, numbers: Sequence[int] = (), *, destination: str = ""
    ) -> int:
        """Forget records; how many."""
        return await self._change_all(records.DELETE, records.choice(state, destination, numbers))

    async def _change_all(self, statement: str, values: dict[str, object]) -> int:
        """In one transaction after the other; how many records."""
        total = after = 0
        while True:
            count, after = await self._database.write(records.change_some, statement, values, after)
            if not count:
                return total
            total += count
