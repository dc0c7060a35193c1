"""Event log: events listed, consumers' progress shown, deliveries replayed."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from time import time
from typing import Final

import orjson

from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.ports import (
    BlockedDelivery,
    ConsumerStatus,
    EventSelection,
    OpenStudyStatus,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, smaller, texts
from isocenter.storage.database.events.outbox import (
    EVENT_COLUMNS,
    MOST_COUNTED,
    OF_KINDS,
    count_backlog,
)
from isocenter.storage.database.rows import named_rows, rows_as

#: A study is one of these.
_STATES: Final = ("receiving", "complete")
LATEST_STUDIES: Final = """
    SELECT study_instance_uid, state, first_at, last_at, due_at, num_received AS received,
           times_complete AS times, completed_at, reason
    FROM study_completion
    WHERE state = :state ORDER BY last_at DESC LIMIT :limit
"""


class DatabaseEventLog:
    """See `isocenter.services.workflow.events.ports.EventLog`."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    async def events(self, selection: EventSelection) -> Sequence[StoredEvent]:
        """In their order: those behind *after*; without it the last ones."""
        # Whoever follows them by their numbers misses nothing that is committed later.
        last = await self._database.settled_number()
        return await self._database.read(_select, selection, last)

    async def last_number(self) -> int:
        """See `EventLog.last_number`."""
        return await self._database.settled_number()

    async def consumers(self, kinds: Mapping[str, Sequence[str]]) -> Sequence[ConsumerStatus]:
        """Those whose *kinds* are given, by name, as far as a server knows them."""
        return await self._database.read(_consumers, kinds)

    async def held(self, consumers: Collection[str], limit: int) -> Sequence[BlockedDelivery]:
        """What could not be delivered, and what was given up."""
        return await self._database.read(_held, json_list(consumers), limit)

    async def studies(
        self, *, state: str | None = None, limit: int = 100
    ) -> Sequence[OpenStudyStatus]:
        """Those of which something came last, first."""
        return await self._database.read(_studies, state, limit)

    async def replay(
        self,
        consumer: str,
        kinds: Sequence[str],
        *,
        from_event: int = 0,
        since: float = 0.0,
        study_instance_uid: str | None = None,
    ) -> int:
        """See `EventLog.replay`."""
        values = {
            "consumer": consumer,
            "kinds": json_list(kinds),
            "from_event": from_event,
            "since": since,
            "study": study_instance_uid,
            "now": self._now(),
        }
        return await self._database.write(_replay, values)


def _select(connection: Connection, selection: EventSelection, last: int) -> list[StoredEvent]:
    order = "DESC" if selection.after is None else "ASC"
    rows = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM event WHERE event_pk > :after AND event_pk <= :last "
        f"AND (:kinds = '[]' OR {OF_KINDS}) "
        "AND (:study IS NULL OR study_instance_uid = :study) "
        "AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until) "
        # LIKE only spares most of the others: databases differ on the case of letters.
        "AND (:ae_title IS NULL OR body LIKE :ae_title ESCAPE '!') "
        "AND (:modality IS NULL OR body LIKE :modality ESCAPE '!') "
        f"ORDER BY event_pk {order}",
        {
            "after": selection.after or 0,
            "last": last,
            "kinds": json_list(selection.kinds),
            "study": selection.study_instance_uid,
            "since": selection.since,
            "until": selection.until,
            "ae_title": _holding(selection.ae_title),
            "modality": _holding(selection.modality),
        },
    )
    wanted = (event for row in named_rows(rows) if selection.admits(event := StoredEvent(**row)))
    found = list(islice(wanted, selection.limit))
    return found if selection.after is not None else found[::-1]


def _holding(value: str | None) -> str | None:
    """The pattern of a JSON text that holds *value* as a string."""
    if value is None:
        return None
    text = orjson.dumps(value).decode()
    return "%" + re.sub("[!%_]", r"!\g<0>", text) + "%"


def _consumers(connection: Connection, kinds: Mapping[str, Sequence[str]]) -> list[ConsumerStatus]:
    rows = connection.execute(
        "SELECT name, position, delivered, delivered_at, last_fault, last_fault_at, "
        "(SELECT count(*) FROM event_lane WHERE consumer = name AND attempts > 0) AS held, "
        "(SELECT count(*) FROM event_dead WHERE consumer = name) AS dead "
        "FROM event_consumer ORDER BY name"
    )
    return [
        ConsumerStatus(
            waiting=count_backlog(
                connection,
                {
                    "consumer": row["name"],
                    "kinds": json_list(kinds[row["name"]]),
                    "limit": MOST_COUNTED,
                },
            ),
            **row,
        )
        for row in list(named_rows(rows))
        if row["name"] in kinds
    ]


def _held(connection: Connection, consumers: str, limit: int) -> list[BlockedDelivery]:
    rows = connection.execute(
        "SELECT consumer, study_instance_uid, from_event AS event, attempts, due_at AS at, "
        "last_fault AS fault, 0 AS is_dead FROM event_lane WHERE attempts > 0 "
        f"AND consumer IN {texts('consumers')} "
        "UNION ALL SELECT consumer, study_instance_uid, event_pk, attempts, given_up_at, fault, 1 "
        f"FROM event_dead WHERE consumer IN {texts('consumers')} "
        "ORDER BY 7, at LIMIT :limit",
        {"consumers": consumers, "limit": limit},
    )
    return rows_as(BlockedDelivery, rows, is_dead=bool)


def _studies(connection: Connection, state: str | None, limit: int) -> list[OpenStudyStatus]:
    found: list[OpenStudyStatus] = []
    for each in _STATES if state is None else (state,):
        rows = connection.execute(LATEST_STUDIES, {"state": each, "limit": limit})
        found += rows_as(OpenStudyStatus, rows)
    found.sort(key=lambda one: one.last_at, reverse=True)
    return found[:limit]


def _replay(connection: Connection, values: dict[str, object]) -> int:
    known = connection.execute(
        "SELECT 1 FROM event_consumer WHERE name = :consumer", values
    ).fetchone()
    if known is None:
        raise KeyError(values["consumer"])
    cursor = connection.execute(
        "INSERT INTO event_lane (consumer, study_instance_uid, from_event, due_at) "
        "SELECT :consumer, study_instance_uid, min(event_pk), :now FROM event "
        f"WHERE event_pk >= :from_event AND at >= :since AND {OF_KINDS} "
        "AND (:study IS NULL OR study_instance_uid = :study) GROUP BY study_instance_uid "
        "ON CONFLICT (consumer, study_instance_uid) DO UPDATE SET "
        f"from_event = {smaller('event_lane.from_event', 'excluded.from_event')}, "
        "attempts = 0, failing_since = NULL, due_at = excluded.due_at",
        values,
    )
    # They are delivered once more, so what is said of them as dead is over.
    connection.execute(
        "DELETE FROM event_dead WHERE consumer = :consumer AND event_pk >= "
        "(SELECT from_event FROM event_lane l WHERE l.consumer = event_dead.consumer "
        "AND l.study_instance_uid = event_dead.study_instance_uid)",
        values,
    )
    return cursor.rowcount
