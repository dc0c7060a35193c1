"""Events for the command line: which there are, how far consumers have got, and once more."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from time import time
from typing import Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.storage.database.events.outbox import (
    EVENT_COLUMNS,
    MOST_COUNTED,
    OF_KINDS,
    count_backlog,
    json_list,
    last_number,
    stored_event,
)
from isocenter.storage.database.index.index import SqliteIndex
from isocenter.storage.database.index.records import transaction

#: Fields of events that hold an AE title.
_AE_TITLES: Final = (
    "source_ae_title", "calling_ae_title", "called_ae_title", "requester", "station_ae_title",
    "destination",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerRow:
    """How far a consumer has got; times are seconds since 1970.

    Attributes:
        waiting: events that it has yet to get, as far as they are counted.
        held: studies whose last attempt failed.
        dead: events that were given up.
    """

    name: str
    position: int
    delivered: int
    delivered_at: float | None
    waiting: int
    held: int
    dead: int
    last_fault: str
    last_fault_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """A study that cannot be delivered to a consumer now; or, dead, an event that was given up.

    Attributes:
        at: when it is tried again, or was given up, in seconds since 1970.
    """

    consumer: str
    study_instance_uid: str
    event: int
    attempts: int
    at: float
    fault: str
    is_dead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One line of a list of studies; times are seconds since 1970."""

    study_instance_uid: str
    state: str
    first_at: float
    last_at: float
    due_at: float
    received: int
    times: int
    completed_at: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSelection:
    """Which events to read; None and empty: all.

    Attributes:
        after: the number of the last that was read.
        ae_title: took part, in whatever part.
        since, until: seconds since 1970; *until* is not among them.
    """

    after: int | None = None
    kinds: Sequence[str] = ()
    study_instance_uid: str | None = None
    ae_title: str | None = None
    modality: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 100

    def admits(self, event: StoredEvent) -> bool:
        """Whether the fields of *event* are as wanted; the rest the database selects."""
        fields = event.members()
        if self.ae_title is not None and not any(
            fields.get(name) == self.ae_title for name in _AE_TITLES
        ):
            return False
        return self.modality is None or self.modality in (
            fields.get("modality"),
            *_listed(fields.get("modalities")),
        )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


class EventDesk:
    """What somebody at a command line sees of events, and the one thing he can do: replay.

    A server may be at work on the database.
    """

    def __init__(self, index: SqliteIndex, *, now: Callable[[], float] = time) -> None:
        self._index = index
        self._now = now

    async def events(self, selection: EventSelection) -> Sequence[StoredEvent]:
        """In their order: those behind *after*; without it the last ones."""
        return await self._index.read(_select, selection)

    async def last_number(self) -> int:
        """Of the events that there are or were."""
        return await self._index.read(last_number)

    async def consumers(self, kinds: Mapping[str, Sequence[str]]) -> Sequence[ConsumerRow]:
        """Those whose *kinds* are given, by name, as far as a server knows them."""
        return await self._index.read(_consumers, kinds)

    async def held(self, consumers: Collection[str], limit: int) -> Sequence[HeldRow]:
        """What could not be delivered, and what was given up."""
        return await self._index.read(_held, json_list(consumers), limit)

    async def studies(self, *, state: str | None = None, limit: int = 100) -> Sequence[StudyRow]:
        """Those of which something came last, first."""
        return await self._index.read(_studies, state, limit)

    async def replay(
        self,
        consumer: str,
        kinds: Sequence[str],
        *,
        from_event: int = 0,
        since: float = 0.0,
        study_instance_uid: str | None = None,
    ) -> int:
        """Have the events from then on delivered once more; how many studies that concerns.

        Raises:
            KeyError: no server has had this consumer.
        """
        values = {
            "consumer": consumer,
            "kinds": json_list(kinds),
            "from_event": from_event,
            "since": since,
            "study": study_instance_uid,
            "now": self._now(),
        }
        return await self._index.write(_replay, values)


def _select(connection: sqlite3.Connection, selection: EventSelection) -> list[StoredEvent]:
    order = "DESC" if selection.after is None else "ASC"
    rows = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM event WHERE event_pk > :after "
        f"AND (:kinds = '[]' OR {OF_KINDS}) "
        "AND (:study IS NULL OR study_instance_uid = :study) "
        "AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until) "
        # LIKE only spares most of the others: databases differ on the case of letters.
        "AND (:ae_title IS NULL OR body LIKE :ae_title ESCAPE '!') "
        "AND (:modality IS NULL OR body LIKE :modality ESCAPE '!') "
        f"ORDER BY event_pk {order}",
        {
            "after": selection.after or 0,
            "kinds": json_list(selection.kinds),
            "study": selection.study_instance_uid,
            "since": selection.since,
            "until": selection.until,
            "ae_title": _holding(selection.ae_title),
            "modality": _holding(selection.modality),
        },
    )
    wanted = (event for row in rows if selection.admits(event := stored_event(row)))
    found = list(islice(wanted, selection.limit))
    return found if selection.after is not None else found[::-1]


def _holding(value: str | None) -> str | None:
    """The pattern of a JSON text that holds *value* as a string."""
    if value is None:
        return None
    text = orjson.dumps(value).decode()
    return "%" + re.sub("[!%_]", r"!\g<0>", text) + "%"


def _consumers(
    connection: sqlite3.Connection, kinds: Mapping[str, Sequence[str]]
) -> list[ConsumerRow]:
    rows = connection.execute(
        "SELECT name, position, delivered, delivered_at, last_fault, last_fault_at, "
        "(SELECT count(*) FROM event_lane WHERE consumer = name AND attempts > 0), "
        "(SELECT count(*) FROM event_dead WHERE consumer = name) "
        "FROM event_consumer ORDER BY name"
    ).fetchall()
    return [
        ConsumerRow(
            name=row[0],
            position=row[1],
            delivered=row[2],
            delivered_at=row[3],
            waiting=count_backlog(
                connection,
                {"consumer": row[0], "kinds": json_list(kinds[row[0]]), "limit": MOST_COUNTED},
            ),
            held=row[6],
            dead=row[7],
            last_fault=row[4],
            last_fault_at=row[5],
        )
        for row in rows
        if row[0] in kinds
    ]


def _held(connection: sqlite3.Connection, consumers: str, limit: int) -> list[HeldRow]:
    rows = connection.execute(
        "SELECT consumer, study_instance_uid, from_event, attempts, due_at AS at, last_fault, 0 "
        "FROM event_lane WHERE attempts > 0 "
        "AND consumer IN (SELECT value FROM json_each(:consumers)) "
        "UNION ALL SELECT consumer, study_instance_uid, event_pk, attempts, given_up_at, fault, 1 "
        "FROM event_dead WHERE consumer IN (SELECT value FROM json_each(:consumers)) "
        "ORDER BY 7, at LIMIT :limit",
        {"consumers": consumers, "limit": limit},
    ).fetchall()
    return [
        HeldRow(
            consumer=row[0],
            study_instance_uid=row[1],
            event=row[2],
            attempts=row[3],
            at=row[4],
            fault=row[5],
            is_dead=bool(row[6]),
        )
        for row in rows
    ]


def _studies(connection: sqlite3.Connection, state: str | None, limit: int) -> list[StudyRow]:
    rows = connection.execute(
        "SELECT study_instance_uid, state, first_at, last_at, due_at, num_received, "
        "times_complete, completed_at, reason FROM study_completion "
        "WHERE ?1 IS NULL OR state = ?1 ORDER BY last_at DESC LIMIT ?2",
        (state, limit),
    ).fetchall()
    return [
        StudyRow(
            study_instance_uid=row[0],
            state=row[1],
            first_at=row[2],
            last_at=row[3],
            due_at=row[4],
            received=row[5],
            times=row[6],
            completed_at=row[7],
            reason=row[8],
        )
        for row in rows
    ]


def _replay(connection: sqlite3.Connection, values: dict[str, object]) -> int:
    with transaction(connection):
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
            "ON CONFLICT DO UPDATE SET from_event = min(from_event, excluded.from_event), "
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
