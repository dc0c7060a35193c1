"""Outbox: events written with their cause, and read for consumers.

`insert_events` is for whoever writes something that others are to hear of: it takes part in the
caller's transaction.  `DatabaseOutbox` is the port of `isocenter.services.workflow.events.ports`.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from time import time
from typing import Any, Final, TypeVar

import orjson

from isocenter.services.workflow.events.event import Event, Incident, StoredEvent
from isocenter.services.workflow.events.ports import StudyLane
from isocenter.storage.database import dialect
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, larger, numbers, texts
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

T = TypeVar("T")

#: Events that are put into lanes in one transaction.
_ROUTED: Final = 2_000
#: A backlog is counted up to this.
MOST_COUNTED: Final = 10_000
#: Events that are forgotten in one transaction.
_TRIMMED: Final = 1_000
#: More than any `Consumer.longest_retry`.
_LONGEST_RETRY_SECONDS: Final = 2 * 86_400.0
#: A fault is a line of text.
_FAULT_LENGTH: Final = 500

_LAST_NUMBER: Final = dialect.last_number("event")
EVENT_COLUMNS: Final = "event_pk AS number, kind, at, study_instance_uid, body"
OF_KINDS: Final = f"kind IN {texts('kinds')}"
_POSITION: Final = "(SELECT position FROM event_consumer WHERE name = :consumer)"


def insert_event(connection: Connection, event: Event, now: float) -> None:
    """Write *event* in the caller's transaction; *now*: seconds since 1970."""
    insert_events(connection, (event,), now)


def insert_events(connection: Connection, events: Iterable[Event], now: float) -> None:
    """Write *events*, in their order, in the caller's transaction."""
    connection.executemany(
        "INSERT INTO event (kind, at, study_instance_uid, body) VALUES (?, ?, ?, ?)",
        [(each.kind.value, now, each.study_instance_uid, _body(each)) for each in events],
    )


def _body(event: Event) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:
        # A lone surrogate in a text of a peer: it must not keep an object from being stored.
        return orjson.dumps(_sound(asdict(event))).decode()


def _sound(value: Any) -> Any:
    match value:
        case str():
            return replace_surrogates(value)
        case dict():
            return {key: _sound(item) for key, item in value.items()}
        case tuple():
            return [_sound(item) for item in value]
        case _:
            return value


class DatabaseOutbox:
    """See `isocenter.services.workflow.events.ports.Outbox`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    async def begin(self, consumers: Collection[str]) -> None:
        """See `Outbox.begin`."""
        known = await self._database.read(_known_consumers)
        if not known.issuperset(consumers):
            await self._database.write(_begin, sorted(consumers))

    async def write(self, events: Sequence[Incident]) -> None:
        """See `Outbox.write`."""
        await self._database.write(_write, events, self._now())

    async def route(self, consumer: str, kinds: Sequence[str], position: int) -> int:
        """See `Outbox.route`; costs no write when there is nothing for the consumer."""
        # What was given a number earlier may be committed later.
        last = await self._database.settled_number()
        reached, is_wanted = await self._database.read(
            _look_behind, position, last, json_list(kinds)
        )
        if not is_wanted:
            return reached
        values = {
            "consumer": consumer,
            "kinds": json_list(kinds),
            "now": self._now(),
            "last": last,
        }
        return await self._database.write_beside(_for_consumer, consumer, _route, values)

    async def position(self, consumer: str) -> int:
        """See `Outbox.position`."""
        return await self._database.read(_position, consumer)

    async def settle(self, consumer: str, position: int) -> None:
        """See `Outbox.settle`."""
        await self._database.write_beside(_for_consumer, consumer, _settle, consumer, position)

    async def lanes(
        self, consumer: str, limit: int, *, failing: bool, not_for: Collection[str]
    ) -> Sequence[StudyLane]:
        """See `Outbox.lanes`."""
        values = {
            "consumer": consumer,
            "now": self._now(),
            "not_for": json_list(not_for),
            "limit": limit,
        }
        return await self._database.read(_lanes, values, failing)

    async def waiting(
        self, consumer: str, kinds: Sequence[str], lane: StudyLane, limit: int
    ) -> Sequence[StoredEvent]:
        """See `Outbox.waiting`."""
        values = {
            "consumer": consumer,
            "kinds": json_list(kinds),
            "study": lane.study_instance_uid,
            "from_event": lane.from_event,
            "limit": limit,
        }
        return await self._database.read(_waiting, values)

    async def advance(
        self, consumer: str, kinds: Sequence[str], lane: StudyLane, from_event: int, delivered: int
    ) -> None:
        """See `Outbox.advance`."""
        values = {
            "consumer": consumer,
            "kinds": json_list(kinds),
            "study": lane.study_instance_uid,
            "expected": lane.from_event,
            "from_event": from_event,
            "delivered": delivered,
            "now": self._now(),
        }
        await self._database.write_beside(_for_consumer, consumer, _advance, values)

    async def failed(
        self,
        consumer: str,
        lane: StudyLane,
        event: StoredEvent,
        fault: str,
        retry_in: float | None,
        delivered: int,
    ) -> None:
        """See `Outbox.failed`."""
        attempts = 1 + (lane.attempts if event.number == lane.from_event else 0)
        values = {
            "consumer": consumer,
            "study": lane.study_instance_uid,
            "expected": lane.from_event,
            "event": event.number,
            "kind": event.kind,
            "attempts": attempts,
            "fault": fault[:_FAULT_LENGTH],
            "delivered": delivered,
            "now": self._now(),
            "due_at": self._now() + (retry_in or 0.0),
        }
        follow = _failed if retry_in is not None else _gave_up
        await self._database.write_beside(_for_consumer, consumer, follow, values)

    async def correct_future_times(self, consumers: Collection[str]) -> None:
        """See `Outbox.correct_future_times`; costs no write when there is nothing to mend."""
        now = self._now()
        values = {
            "consumers": json_list(consumers),
            "now": now,
            "ahead": now + _LONGEST_RETRY_SECONDS,
        }
        if await self._database.read(_are_ahead, values):
            await self._database.write(_correct_future_times, values)

    async def backlog(self, consumer: str, kinds: Sequence[str]) -> int:
        """See `Outbox.backlog`."""
        values = {"consumer": consumer, "kinds": json_list(kinds), "limit": MOST_COUNTED}
        return await self._database.read(count_backlog, values)

    async def trim(self, consumers: Collection[str], keep_seconds: float) -> int:
        """See `Outbox.trim`."""
        values = {
            "consumers": json_list(consumers),
            "before": self._now() - keep_seconds,
            "limit": _TRIMMED,
        }
        if not await self._database.read(_is_old, values):
            return 0
        # Behind a consumer that takes nothing there may be millions that have to stay.
        old = await self._database.read(_trimmable, values)
        return await self._database.write(_trim, {**values, "old": json_list(old)})


def _for_consumer(
    connection: Connection, consumer: str, function: Callable[..., T], *values: object
) -> T:
    """*function*, while nobody else writes how far a consumer has come."""
    connection.lock([f"consumer {consumer}"])
    return function(connection, *values)


def _settle(connection: Connection, consumer: str, position: int) -> None:
    connection.execute(
        f"UPDATE event_consumer SET position = {larger('position', '?')} WHERE name = ?",
        (position, consumer),
    )


def _known_consumers(connection: Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM event_consumer")}


def last_number(connection: Connection) -> int:
    """Of the events that there are or were: those that were trimmed count, too."""
    row = connection.execute(_LAST_NUMBER).fetchone()
    return 0 if row is None else int(row[0])


def _begin(connection: Connection, consumers: Sequence[str]) -> None:
    last = last_number(connection)
    connection.executemany(
        "INSERT INTO event_consumer (name, position) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
        [(name, last) for name in consumers],
    )


def _write(connection: Connection, events: Sequence[Incident], now: float) -> None:
    insert_events(connection, events, now)


def _position(connection: Connection, consumer: str) -> int:
    row = connection.execute(
        "SELECT position FROM event_consumer WHERE name = ?", (consumer,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _look_behind(connection: Connection, position: int, last: int, kinds: str) -> tuple[int, bool]:
    if last == position:
        return position, False
    found = connection.execute(
        f"SELECT 1 FROM event WHERE event_pk > :position AND event_pk <= :last "
        f"AND {OF_KINDS} LIMIT 1",
        {"position": position, "last": last, "kinds": kinds},
    ).fetchone()
    return last, found is not None


def _route(connection: Connection, values: dict[str, Any]) -> int:
    found = connection.execute(
        f"SELECT event_pk, study_instance_uid FROM event "
        f"WHERE event_pk > {_POSITION} AND event_pk <= :last AND {OF_KINDS} "
        f"ORDER BY event_pk LIMIT {_ROUTED}",
        values,
    ).fetchall()
    first_of: dict[str, int] = {}
    for number, study in found:
        first_of.setdefault(study, number)
    connection.executemany(
        "INSERT INTO event_lane (consumer, study_instance_uid, from_event, due_at) "
        "VALUES (?, ?, ?, ?) ON CONFLICT (consumer, study_instance_uid) DO NOTHING",
        [(values["consumer"], study, n, values["now"]) for study, n in first_of.items()],
    )
    position = int(found[-1][0] if len(found) == _ROUTED else values["last"])
    _settle(connection, values["consumer"], position)
    return position


def _lanes(connection: Connection, values: dict[str, object], failing: bool) -> list[StudyLane]:
    rows = connection.execute(
        "SELECT study_instance_uid, from_event, attempts, failing_since FROM event_lane "
        "WHERE consumer = :consumer AND due_at <= :now "
        f"AND study_instance_uid NOT IN {texts('not_for')} "
        f"AND attempts {'>' if failing else '='} 0 ORDER BY due_at LIMIT :limit",
        values,
    )
    return rows_as(StudyLane, rows)


def _waiting(connection: Connection, values: dict[str, object]) -> list[StoredEvent]:
    rows = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM event WHERE study_instance_uid = :study "
        f"AND event_pk >= :from_event AND event_pk <= {_POSITION} AND {OF_KINDS} "
        "ORDER BY event_pk LIMIT :limit",
        values,
    )
    return rows_as(StoredEvent, rows)


#: A lane as whoever worked on it had found it.
_EXPECTED: Final = "consumer = :consumer AND study_instance_uid = :study AND from_event = :expected"
_COUNT_DELIVERED: Final = (
    "UPDATE event_consumer SET delivered = delivered + :delivered, "
    "delivered_at = CASE WHEN :delivered > 0 THEN :now ELSE delivered_at END WHERE name = :consumer"
)


def _advance(connection: Connection, values: dict[str, object]) -> None:
    connection.execute(_COUNT_DELIVERED, values)
    connection.execute(
        f"DELETE FROM event_lane WHERE {_EXPECTED} AND NOT EXISTS (SELECT 1 FROM event "
        f"WHERE study_instance_uid = :study AND event_pk >= :from_event "
        f"AND event_pk <= {_POSITION} AND {OF_KINDS})",
        values,
    )
    connection.execute(
        "UPDATE event_lane SET from_event = :from_event, attempts = 0, failing_since = NULL, "
        f"due_at = :now, last_fault = '' WHERE {_EXPECTED}",
        values,
    )


def _failed(connection: Connection, values: dict[str, object]) -> None:
    connection.execute(_COUNT_DELIVERED, values)
    connection.execute(
        "UPDATE event_lane SET from_event = :event, attempts = :attempts, "
        "failing_since = CASE WHEN :delivered > 0 OR failing_since IS NULL THEN :now "
        "ELSE failing_since END, "
        f"due_at = :due_at, last_fault = :fault WHERE {_EXPECTED}",
        values,
    )
    _keep_fault(connection, values)


def _gave_up(connection: Connection, values: dict[str, object]) -> None:
    connection.execute(_COUNT_DELIVERED, values)
    # Should nothing be left behind it, the next look at the lane removes it.
    moved = connection.execute(
        "UPDATE event_lane SET from_event = :event + 1, attempts = 0, due_at = :now, "
        f"last_fault = '' WHERE {_EXPECTED}",
        values,
    )
    if moved.rowcount:
        connection.execute(
            "INSERT INTO event_dead (consumer, event_pk, kind, study_instance_uid, attempts, "
            "given_up_at, fault) VALUES (:consumer, :event, :kind, :study, :attempts, :now, "
            ":fault)",
            values,
        )
    _keep_fault(connection, values)


def _keep_fault(connection: Connection, values: dict[str, object]) -> None:
    connection.execute(
        "UPDATE event_consumer SET last_fault = :fault, last_fault_at = :now "
        "WHERE name = :consumer",
        values,
    )


#: In a lane that no setting makes wait for so long.
_AHEAD: Final = f"consumer IN {texts('consumers')} AND due_at > :ahead"


def _are_ahead(connection: Connection, values: dict[str, object]) -> bool:
    row = connection.execute(f"SELECT 1 FROM event_lane WHERE {_AHEAD} LIMIT 1", values)
    return row.fetchone() is not None


def _correct_future_times(connection: Connection, values: dict[str, object]) -> None:
    connection.execute(f"UPDATE event_lane SET due_at = :now WHERE {_AHEAD}", values)


def count_backlog(connection: Connection, values: dict[str, object]) -> int:
    """`Outbox.backlog`."""
    (behind,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM event WHERE event_pk > {_POSITION} AND {OF_KINDS} "
        "LIMIT :limit) AS behind",
        values,
    ).fetchone()
    (in_lanes,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM event_lane l JOIN event e "
        "ON e.study_instance_uid = l.study_instance_uid AND event_pk >= from_event "
        f"WHERE consumer = :consumer AND event_pk <= {_POSITION} AND {OF_KINDS} LIMIT :limit) "
        "AS waiting",
        values,
    ).fetchone()
    return int(behind + in_lanes)


_OLD: Final = "at < :before"
#: Behind somebody's position, or in somebody's lane.
_STILL_WANTED: Final = f"""
    event_pk > (SELECT coalesce(min(position), event_pk) FROM event_consumer
                WHERE name IN {texts("consumers")})
    OR EXISTS (SELECT 1 FROM event_lane l WHERE l.study_instance_uid = event.study_instance_uid
               AND l.from_event <= event_pk
               AND l.consumer IN {texts("consumers")})
"""


def _is_old(connection: Connection, values: dict[str, object]) -> bool:
    """The events are in the order of their time, near enough to look at the first alone."""
    row = connection.execute("SELECT at < :before FROM event ORDER BY event_pk LIMIT 1", values)
    return bool((row.fetchone() or (0,))[0])


def _trimmable(connection: Connection, values: dict[str, object]) -> list[int]:
    rows = connection.execute(
        f"SELECT event_pk FROM event WHERE {_OLD} AND NOT ({_STILL_WANTED}) "
        "ORDER BY event_pk LIMIT :limit",
        values,
    )
    return [number for (number,) in rows]


def _trim(connection: Connection, values: dict[str, object]) -> int:
    # Somebody may have asked for a replay since they were looked for.
    cursor = connection.execute(
        f"DELETE FROM event WHERE event_pk IN {numbers('old')} AND NOT ({_STILL_WANTED})",
        values,
    )
    connection.execute("DELETE FROM event_dead WHERE given_up_at < :before", values)
    return cursor.rowcount
