"""Workitems in the database: adapter of the port `Workitems`.

The data set is the truth, the columns beside it narrow a question down and fill a list.  Events of
a change are queued for its subscribers in the transaction that makes it: as event reports, or for
the web.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from time import time
from typing import Final

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.matching import is_wild
from isocenter.services.archive.index.query import SingleValue
from isocenter.services.dicom.attribute_list import AttributeList, text_of
from isocenter.services.service_classes.ups.events import (
    WorkitemEvent,
    events_of,
)
from isocenter.services.service_classes.ups.follow_ups import FollowUp, follow_ups_of
from isocenter.services.service_classes.ups.ports import (
    Change,
    Channel,
    Subscriber,
    WaitingEvent,
    WorkitemSummary,
)
from isocenter.services.service_classes.ups.query import WorkitemKeys
from isocenter.services.service_classes.ups.rules import workitem_of_create
from isocenter.services.service_classes.ups.workitem import (
    LABEL,
    PRIORITY,
    PROGRESS,
    PROGRESS_INFORMATION,
    SCHEDULED_START,
    SOP_INSTANCE_UID,
    STATE,
    WORKLIST_LABEL,
    UpsError,
    Workitem,
    WorkitemState,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import IN_ORDER, LOOKED_UP, json_list
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.workitem_rows import (
    BLOCK_ROWS,
    SELECTED,
    get_workitem,
    read_workitem,
)
from isocenter.storage.database.workitem_subscriptions import (
    add_global_subscribers,
    forget_sent,
    may_listen,
    queue_event,
    subscribe,
    subscribe_globally,
    subscribers_of,
    suspend,
    tell,
    tell_everybody,
    unsubscribe,
    unsubscribe_globally,
    waiting_events,
)

log = logging.getLogger("isocenter.operation")

#: Final ones that leave in one transaction.
_REMOVED: Final = 200
_COLUMNS: Final = (
    "state", "transaction_uid", "priority", "label", "worklist_label", "scheduled_start",
    "progress", "created_at", "changed_at", "data_set",
)  # fmt: skip
#: Attributes of VR CS and UI, whose columns hold what is compared.
_NARROWING: Final = {
    STATE: ("state", "CS"),
    PRIORITY: ("priority", "CS"),
    SOP_INSTANCE_UID: ("sop_instance_uid", "UI"),
}


#: Called in the transaction of a change, with what the workitem was before; None: it is new.
ChangeHook = Callable[[Connection, Workitem | None, Workitem], None]


class DatabaseWorkitems:
    """See `isocenter.services.service_classes.ups.ports.Workitems`.

    Args:
        follow_ups: rules by which completed ones make others.
        on_change: told of each change, in its transaction.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        follow_ups: Sequence[FollowUp] = (),
        on_change: Sequence[ChangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._follow_ups = follow_ups
        self._on_change = on_change
        self._now = now

    async def create(self, workitem: Workitem) -> bool:
        """See `Workitems.create`."""
        return await self._database.write(create_workitem, workitem, self._now(), self._on_change)

    async def change(self, sop_instance_uid: str, change: Change) -> Workitem:
        """See `Workitems.change`."""
        return await self._database.write(
            _change_and_follow,
            sop_instance_uid,
            change,
            self._follow_ups,
            self._now(),
            self._on_change,
        )

    async def get(self, sop_instance_uid: str) -> Workitem | None:
        """See `Workitems.get`."""
        return await self._database.read(get_workitem, sop_instance_uid)

    @asynccontextmanager
    async def find(self, keys: WorkitemKeys) -> AsyncIterator[AsyncIterator[Sequence[Workitem]]]:
        """See `Workitems.find`."""
        async with aclosing(self._blocks(keys)) as blocks:
            yield blocks

    async def _blocks(self, keys: WorkitemKeys) -> AsyncGenerator[Sequence[Workitem], None]:
        numbers = await self._database.read(_matching_numbers, keys)
        for start in range(0, len(numbers), BLOCK_ROWS):
            block = await self._database.read(_in_order, numbers[start : start + BLOCK_ROWS])
            found = [workitem for workitem in block if keys.matches(workitem.attributes)]
            if found:
                yield found

    async def tell(self, event: WorkitemEvent) -> int:
        """See `Workitems.tell`."""
        return await self._database.write(tell, event, self._now())

    async def tell_all(self, event: Callable[[str], WorkitemEvent]) -> int:
        """See `Workitems.tell_all`."""
        return await self._database.write(tell_everybody, event, self._now())

    async def subscribe(self, sop_instance_uid: str, subscriber: Subscriber) -> None:
        """See `Workitems.subscribe`."""
        await self._database.write(subscribe, sop_instance_uid, subscriber, self._now())

    async def subscribe_globally(self, subscriber: Subscriber, filter_keys: bytes | None) -> None:
        """See `Workitems.subscribe_globally`."""
        await self._database.write(subscribe_globally, subscriber, filter_keys or b"", self._now())

    async def unsubscribe(
        self, sop_instance_uid: str, ae_title: str, channel: Channel, owner: str | None = None
    ) -> None:
        """See `Workitems.unsubscribe`."""
        await self._database.write(unsubscribe, sop_instance_uid, ae_title, channel, owner)

    async def unsubscribe_globally(
        self, ae_title: str, channel: Channel, owner: str | None = None
    ) -> None:
        """See `Workitems.unsubscribe_globally`."""
        await self._database.write(unsubscribe_globally, ae_title, channel, owner)

    async def suspend(self, ae_title: str, channel: Channel, owner: str | None = None) -> None:
        """See `Workitems.suspend`."""
        await self._database.write(suspend, ae_title, channel, owner)

    async def may_listen(self, ae_title: str, owner: str) -> bool:
        """See `Workitems.may_listen`."""
        return await self._database.read(may_listen, ae_title, owner)

    async def waiting_events(self, ae_title: str, owner: str, limit: int) -> Sequence[WaitingEvent]:
        """See `Workitems.waiting_events`."""
        return await self._database.read(waiting_events, ae_title, owner, limit)

    async def sent(self, ae_title: str, owner: str, up_to: int) -> None:
        """See `Workitems.sent`."""
        await self._database.write(forget_sent, ae_title, owner, up_to)

    async def rows(
        self, *, state: WorkitemState | None = None, limit: int = 100
    ) -> Sequence[WorkitemSummary]:
        """See `Workitems.rows`."""
        return await self._database.read(_rows, state, limit)

    async def remove_ended(self, before: float) -> int:
        """See `Workitems.remove_ended`."""
        return await self._database.write(_remove_ended, before)


# -- Workitems ---------------------------------------------------------------------------


def _values(workitem: Workitem) -> tuple[object, ...]:
    text = workitem.attributes.text
    progress = [text_of(i, PROGRESS) for i in workitem.attributes.items(PROGRESS_INFORMATION)]
    return (
        workitem.state.value,
        workitem.transaction_uid,
        text(PRIORITY),
        text(LABEL),
        text(WORKLIST_LABEL),
        text(SCHEDULED_START),
        progress[0] if progress else "",
        workitem.created_at,
        workitem.changed_at,
        workitem.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN),
    )


def create_workitem(
    connection: Connection, workitem: Workitem, now: float, on_change: Sequence[ChangeHook] = ()
) -> bool:
    """Keep a new workitem within the caller's transaction; see `Workitems.create`."""
    row = connection.execute(
        f"INSERT INTO workitem (sop_instance_uid, {', '.join(_COLUMNS)}) "
        f"VALUES (?{', ?' * len(_COLUMNS)}) ON CONFLICT (sop_instance_uid) DO NOTHING "
        "RETURNING workitem_pk",
        (workitem.sop_instance_uid, *_values(workitem)),
    ).fetchone()
    if row is None:
        return False
    add_global_subscribers(connection, row[0], None, workitem)
    for event in events_of(None, workitem):
        queue_event(connection, subscribers_of(connection, row[0]), event, now)
    for hook in on_change:
        hook(connection, None, workitem)
    return True


def _change_and_follow(
    connection: Connection,
    sop_instance_uid: str,
    change: Change,
    rules: Sequence[FollowUp],
    now: float,
    on_change: Sequence[ChangeHook],
) -> Workitem:
    made: list[tuple[str, AttributeList]] = []

    def noted(before: Workitem) -> Sequence[Workitem]:
        states = [before, *change(before)]
        for one, other in pairwise(states):
            try:
                made.extend(follow_ups_of(rules, one, other, now=now))
            except Exception as error:
                _nothing_follows(sop_instance_uid, error)
        return states[1:]

    changed = change_workitem(connection, sop_instance_uid, noted, now, on_change)
    for uid, attributes in made:
        try:
            workitem, _ = workitem_of_create(uid, attributes, now=now)
        except Exception as error:
            _nothing_follows(sop_instance_uid, error)
            continue
        create_workitem(connection, workitem, now, on_change)
    return changed


def _nothing_follows(sop_instance_uid: str, error: Exception) -> None:
    """What is completed is so, whatever cannot follow."""
    # The text of others may name a patient.
    why = str(error) if isinstance(error, UpsError) else type(error).__name__
    log.warning("nothing follows workitem %s: %s", sop_instance_uid, why)


def change_workitem(
    connection: Connection,
    sop_instance_uid: str,
    change: Change,
    now: float,
    on_change: Sequence[ChangeHook] = (),
) -> Workitem:
    """Change a workitem within the caller's transaction; see `Workitems.change`."""
    before = get_workitem(connection, sop_instance_uid)
    if before is None:
        raise KeyError(sop_instance_uid)
    (key,) = connection.execute(
        "SELECT workitem_pk FROM workitem WHERE sop_instance_uid = ?", (sop_instance_uid,)
    ).fetchone()
    for after in change(before):
        connection.execute(
            f"UPDATE workitem SET {', '.join(f'{name} = ?' for name in _COLUMNS)} "
            "WHERE workitem_pk = ?",
            (*_values(after), key),
        )
        add_global_subscribers(connection, key, before, after)
        subscribers = subscribers_of(connection, key)
        for event in events_of(before, after):
            queue_event(connection, subscribers, event, now)
        for hook in on_change:
            hook(connection, before, after)
        before = after
    return before


def _matching_numbers(connection: Connection, keys: WorkitemKeys) -> list[int]:
    """The workitems that may match, the earliest first."""
    terms, values = ["1 = 1"], []
    for tag, (column, vr) in _NARROWING.items():
        match = keys.match(tag)
        if isinstance(match, SingleValue) and not is_wild(vr, match.value):
            terms.append(f"{column} = ?")
            values.append(match.value)
    rows = connection.execute(
        f"SELECT workitem_pk FROM workitem WHERE {' AND '.join(terms)} "
        "ORDER BY scheduled_start, workitem_pk",
        values,
    )
    return [row[0] for row in rows.fetchall()]


def _in_order(connection: Connection, numbers: Sequence[int]) -> list[Workitem]:
    rows = connection.execute(
        f"SELECT {SELECTED} FROM {IN_ORDER} "
        f"{LOOKED_UP} workitem ON workitem_pk = wanted.value ORDER BY wanted.key",
        (json_list(numbers),),
    )
    return [read_workitem(row) for row in rows.fetchall()]


def _rows(connection: Connection, state: WorkitemState | None, limit: int) -> list[WorkitemSummary]:
    rows = connection.execute(
        "SELECT sop_instance_uid, state, priority, label, worklist_label, scheduled_start, "
        "progress, changed_at, (SELECT count(*) FROM workitem_subscription s "
        "WHERE s.workitem_pk = workitem.workitem_pk) AS subscribers "
        "FROM workitem WHERE (:state IS NULL OR state = :state) "
        "ORDER BY workitem_pk DESC LIMIT :limit",
        {"state": None if state is None else state.value, "limit": limit},
    )
    return rows_as(WorkitemSummary, rows, state=WorkitemState)


def _remove_ended(connection: Connection, before: float) -> int:
    keys = [
        row[0]
        for row in connection.execute(
            "SELECT workitem_pk FROM workitem WHERE changed_at < ? "
            "AND state IN ('COMPLETED', 'CANCELED') AND NOT EXISTS "
            "(SELECT 1 FROM workitem_subscription s "
            "WHERE s.workitem_pk = workitem.workitem_pk AND s.has_lock = 1) "
            "ORDER BY changed_at LIMIT ?",
            (before, _REMOVED),
        ).fetchall()
    ]
    for table in ("workitem_subscription", "workitem"):
        connection.executemany(
            f"DELETE FROM {table} WHERE workitem_pk = ?", [(key,) for key in keys]
        )
    return len(keys)
