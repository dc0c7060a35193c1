"""Subscriptions to workitems in the database, and events that wait for their subscribers.

Each function runs within a transaction of its caller.
"""

# ruff: noqa: S608  (names of tables come from constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.service_classes.normalized.ports import NewReport
from isocenter.services.service_classes.ups.events import WorkitemEvent, state_report
from isocenter.services.service_classes.ups.ports import Channel, Subscriber, WaitingEvent
from isocenter.services.service_classes.ups.query import WorkitemKeys, parse_workitem_keys
from isocenter.services.service_classes.ups.workitem import (
    GLOBAL_SUBSCRIPTION,
    UPS_EVENT,
    UpsError,
    Workitem,
)
from isocenter.storage.database.database import Connection
from isocenter.storage.database.event_reports import insert_report
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.workitem_rows import (
    KEPT_LIMITS,
    all_workitems,
    get_workitem,
    key_of_workitem,
)

#: Subscribers of the web: who may read may subscribe, under any name, and each of them is written
#: to with each change.
MOST_SUBSCRIBERS: Final = 1_000
#: Events that wait for one subscriber of the web; older ones are forgotten.
MOST_WAITING: Final = 10_000
#: So long events wait for a subscriber of the web whose last workitem is gone; then its title is
#: somebody else's.
KEPT_SECONDS: Final = 7 * 86_400.0
_IS_OWNED: Final = "EXISTS (SELECT 1 FROM workitem_web_subscriber WHERE ae_title = ? AND owner = ?)"
_ANY_SUBSCRIPTION: Final = (
    "SELECT 1 FROM workitem_subscription w WHERE w.channel = 'web' AND w.ae_title = s.ae_title "
    "UNION ALL SELECT 1 FROM workitem_global_subscription g "
    "WHERE g.channel = 'web' AND g.ae_title = s.ae_title"
)


# -- Subscriptions -----------------------------------------------------------------------


def subscribers_of(connection: Connection, key: int) -> list[Subscriber]:
    """Who is told of a workitem, by its key."""
    rows = connection.execute(
        "SELECT ae_title, channel, as_ae_title, has_lock FROM workitem_subscription "
        "WHERE workitem_pk = ? ORDER BY channel, ae_title",
        (key,),
    )
    return rows_as(Subscriber, rows, channel=Channel, has_lock=bool)


def _add(connection: Connection, key: int, subscriber: Subscriber) -> bool:
    """Subscribe somebody to one workitem; False: it was before, and has another lock now."""
    is_new = (
        connection.execute(
            "SELECT 1 FROM workitem_subscription "
            "WHERE workitem_pk = ? AND channel = ? AND ae_title = ?",
            (key, subscriber.channel.value, subscriber.ae_title),
        ).fetchone()
        is None
    )
    connection.execute(
        "INSERT INTO workitem_subscription (workitem_pk, channel, ae_title, as_ae_title, has_lock) "
        "VALUES (?, ?, ?, ?, ?) ON CONFLICT (workitem_pk, channel, ae_title) "
        "DO UPDATE SET as_ae_title = excluded.as_ae_title, has_lock = excluded.has_lock",
        (
            key,
            subscriber.channel.value,
            subscriber.ae_title,
            subscriber.as_ae_title,
            int(subscriber.has_lock),
        ),
    )
    return is_new


def add_global_subscribers(
    connection: Connection, key: int, before: Workitem | None, workitem: Workitem
) -> None:
    """Subscribe those to a workitem who have subscribed to all that is as it has just become."""
    rows = connection.execute(
        "SELECT g.ae_title, g.channel, g.as_ae_title, g.has_lock, g.filter_keys "
        "FROM workitem_global_subscription g WHERE NOT EXISTS "
        "(SELECT 1 FROM workitem_subscription s WHERE s.workitem_pk = ? "
        "AND s.channel = g.channel AND s.ae_title = g.ae_title) ORDER BY g.channel, g.ae_title",
        (key,),
    ).fetchall()
    for ae_title, channel, as_ae_title, has_lock, filter_keys in rows:
        if before is not None and not filter_keys:
            continue
        if filter_keys:
            keys = _keys_of(filter_keys)
            if before is not None and keys.matches(before.attributes):
                continue
            if not keys.matches(workitem.attributes):
                continue
        subscriber = Subscriber(
            ae_title=ae_title,
            channel=Channel(channel),
            as_ae_title=as_ae_title,
            has_lock=bool(has_lock),
        )
        _add(connection, key, subscriber)


def _keys_of(filter_keys: bytes) -> WorkitemKeys:
    return parse_workitem_keys(filter_keys, EXPLICIT_VR_LITTLE_ENDIAN, KEPT_LIMITS)


def subscribe(
    connection: Connection, sop_instance_uid: str, subscriber: Subscriber, now: float
) -> None:
    """See `Workitems.subscribe`."""
    key = key_of_workitem(connection, sop_instance_uid)
    _claim(connection, subscriber, now)
    if _add(connection, key, subscriber):
        workitem = get_workitem(connection, sop_instance_uid)
        assert workitem is not None
        queue_event(connection, [subscriber], state_report(workitem), now)


def subscribe_globally(
    connection: Connection, subscriber: Subscriber, filter_keys: bytes, now: float
) -> None:
    """See `Workitems.subscribe_globally`."""
    _claim(connection, subscriber, now)
    connection.execute(
        "INSERT INTO workitem_global_subscription "
        "(channel, ae_title, as_ae_title, has_lock, filter_keys) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (channel, ae_title) DO UPDATE SET as_ae_title = excluded.as_ae_title, "
        "has_lock = excluded.has_lock, filter_keys = excluded.filter_keys",
        (
            subscriber.channel.value,
            subscriber.ae_title,
            subscriber.as_ae_title,
            int(subscriber.has_lock),
            filter_keys,
        ),
    )
    keys = _keys_of(filter_keys) if filter_keys else None
    for number, workitem in all_workitems(connection):
        if keys is not None and not keys.matches(workitem.attributes):
            continue
        if _add(connection, number, subscriber):
            queue_event(connection, [subscriber], state_report(workitem), now, trims=False)
    _trim(connection, subscriber)


def _claim(connection: Connection, subscriber: Subscriber, now: float) -> None:
    """Make an AE title of the web that of who subscribes by it.

    Raises:
        UpsError: 0124H: it is somebody else's; 0213H: there are as many as there may be.
    """
    if subscriber.channel is not Channel.WEB:
        return  # these are peers, which the settings name
    owner = _owner_of(connection, subscriber.ae_title)
    if owner is not None and owner == subscriber.owner:
        return
    # Titles whose last workitem is gone, and whose events were all sent or nobody comes for.
    rows = connection.execute(
        f"SELECT s.ae_title FROM workitem_web_subscriber s WHERE NOT EXISTS ({_ANY_SUBSCRIPTION}) "
        "AND NOT EXISTS (SELECT 1 FROM workitem_event e WHERE e.ae_title = s.ae_title "
        "AND e.created_at > ?)",
        (now - KEPT_SECONDS,),
    ).fetchall()
    for (idle,) in rows:
        _forget(connection, idle, Channel.WEB)
    owner = _owner_of(connection, subscriber.ae_title)
    if owner is not None:
        _check_owner(owner, subscriber.owner)
        return
    (count,) = connection.execute("SELECT count(*) FROM workitem_web_subscriber").fetchone()
    if count >= MOST_SUBSCRIBERS:
        raise UpsError(Status.RESOURCE_LIMITATION, "there are as many subscribers as there may be")
    # What is there from before the title had an owner is nobody's.
    _forget(connection, subscriber.ae_title, Channel.WEB)
    connection.execute(
        "INSERT INTO workitem_web_subscriber (ae_title, owner) VALUES (?, ?)",
        (subscriber.ae_title, subscriber.owner),
    )


def _owner_of(connection: Connection, ae_title: str) -> str | None:
    row = connection.execute(
        "SELECT owner FROM workitem_web_subscriber WHERE ae_title = ?", (ae_title,)
    ).fetchone()
    return None if row is None else str(row[0])


def _forget_ended(connection: Connection, ae_title: str, channel: Channel) -> None:
    """Who has ended the last subscription of an AE title of the web gives it back."""
    if channel is not Channel.WEB:
        return
    row = connection.execute(
        f"SELECT 1 FROM (SELECT ? AS ae_title) s WHERE EXISTS ({_ANY_SUBSCRIPTION})", (ae_title,)
    ).fetchone()
    if row is None:
        _forget(connection, ae_title, channel)


def _forget(connection: Connection, ae_title: str, channel: Channel) -> None:
    """Subscriptions of an AE title; over the web also its events, and whose it was."""
    for table in ("workitem_subscription", "workitem_global_subscription"):
        connection.execute(
            f"DELETE FROM {table} WHERE channel = ? AND ae_title = ?", (channel.value, ae_title)
        )
    if channel is Channel.WEB:
        for table in ("workitem_event", "workitem_web_subscriber"):
            connection.execute(f"DELETE FROM {table} WHERE ae_title = ?", (ae_title,))


def _check_owner(owner: str, asking: str | None) -> None:
    if asking is not None and owner != asking:
        raise UpsError(Status.NOT_AUTHORIZED, "that AE title is another subscriber's")


def _check_owned(
    connection: Connection, ae_title: str, channel: Channel, owner: str | None
) -> None:
    if channel is not Channel.WEB:
        return
    found = _owner_of(connection, ae_title)
    if found is not None:
        _check_owner(found, owner)


def unsubscribe(
    connection: Connection,
    sop_instance_uid: str,
    ae_title: str,
    channel: Channel,
    owner: str | None,
) -> None:
    """See `Workitems.unsubscribe`."""
    _check_owned(connection, ae_title, channel, owner)
    connection.execute(
        "DELETE FROM workitem_subscription WHERE workitem_pk = ? AND channel = ? AND ae_title = ?",
        (key_of_workitem(connection, sop_instance_uid), channel.value, ae_title),
    )
    _forget_ended(connection, ae_title, channel)


def unsubscribe_globally(
    connection: Connection, ae_title: str, channel: Channel, owner: str | None
) -> None:
    """See `Workitems.unsubscribe_globally`."""
    _check_owned(connection, ae_title, channel, owner)
    _forget(connection, ae_title, channel)


def suspend(connection: Connection, ae_title: str, channel: Channel, owner: str | None) -> None:
    """See `Workitems.suspend`."""
    _check_owned(connection, ae_title, channel, owner)
    connection.execute(
        "DELETE FROM workitem_global_subscription WHERE channel = ? AND ae_title = ?",
        (channel.value, ae_title),
    )
    _forget_ended(connection, ae_title, channel)


# -- Events ------------------------------------------------------------------------------


def queue_event(
    connection: Connection,
    subscribers: Sequence[Subscriber],
    event: WorkitemEvent,
    now: float,
    *,
    trims: bool = True,
) -> None:
    """Queue an event for each of them; *trims*: the oldest beyond the bound go, or else the caller
    sees to that."""
    if not subscribers:
        return
    data_set = event.information.encode(EXPLICIT_VR_LITTLE_ENDIAN)
    for subscriber in subscribers:
        if subscriber.channel is Channel.DIMSE:
            report = NewReport(
                destination=subscriber.ae_title,
                calling_ae_title=subscriber.as_ae_title,
                sop_class_uid=UPS_EVENT,
                sop_instance_uid=event.sop_instance_uid,
                event_type=event.kind,
                data_set=data_set,
            )
            insert_report(connection, report, now)
            continue
        connection.execute(
            "INSERT INTO workitem_event (ae_title, sop_instance_uid, event_type, created_at, "
            "data_set) VALUES (?, ?, ?, ?, ?)",
            (subscriber.ae_title, event.sop_instance_uid, int(event.kind), now, data_set),
        )
        if trims:
            _trim(connection, subscriber)


def _trim(connection: Connection, subscriber: Subscriber) -> None:
    """Forget the oldest events of a subscriber beyond the bound; it looks at all that are left."""
    if subscriber.channel is Channel.WEB:
        connection.execute(
            "DELETE FROM workitem_event WHERE ae_title = ? AND event_pk <= "
            "(SELECT event_pk FROM workitem_event WHERE ae_title = ? "
            "ORDER BY event_pk DESC LIMIT 1 OFFSET ?)",
            (subscriber.ae_title, subscriber.ae_title, MOST_WAITING),
        )


def tell(connection: Connection, event: WorkitemEvent, now: float) -> int:
    """See `Workitems.tell`."""
    subscribers = subscribers_of(connection, key_of_workitem(connection, event.sop_instance_uid))
    queue_event(connection, subscribers, event, now)
    return len(subscribers)


def tell_everybody(
    connection: Connection, event: Callable[[str], WorkitemEvent], now: float
) -> int:
    """See `Workitems.tell_all`."""
    found = 0
    for subscriber, sop_instance_uid in _everyone(connection):
        queue_event(connection, [subscriber], event(sop_instance_uid), now)
        found += 1
    return found


def _everyone(connection: Connection) -> Iterator[tuple[Subscriber, str]]:
    """Each subscriber once, with an instance that it has subscribed to, the global one first."""
    rows = connection.execute(
        "SELECT ae_title, channel, as_ae_title, '' AS uid FROM workitem_global_subscription "
        "UNION ALL SELECT s.ae_title, s.channel, s.as_ae_title, min(w.sop_instance_uid) AS uid "
        "FROM workitem_subscription s JOIN workitem w ON w.workitem_pk = s.workitem_pk "
        "WHERE NOT EXISTS (SELECT 1 FROM workitem_global_subscription g "
        "WHERE g.channel = s.channel AND g.ae_title = s.ae_title) "
        "GROUP BY s.ae_title, s.channel, s.as_ae_title"
    ).fetchall()
    for ae_title, channel, as_ae_title, uid in rows:
        subscriber = Subscriber(
            ae_title=ae_title, channel=Channel(channel), as_ae_title=as_ae_title
        )
        yield subscriber, uid or GLOBAL_SUBSCRIPTION


def may_listen(connection: Connection, ae_title: str, owner: str) -> bool:
    """See `Workitems.may_listen`."""
    found = _owner_of(connection, ae_title)
    if found is not None:
        return found == owner
    # One that subscribed before titles had owners is sent nothing: it is to subscribe again.
    values = (Channel.WEB.value, ae_title) * 2
    return (
        connection.execute(
            "SELECT 1 FROM workitem_subscription WHERE channel = ? AND ae_title = ? UNION ALL "
            "SELECT 1 FROM workitem_global_subscription WHERE channel = ? AND ae_title = ? LIMIT 1",
            values,
        ).fetchone()
        is None
    )


def waiting_events(
    connection: Connection, ae_title: str, owner: str, limit: int
) -> list[WaitingEvent]:
    """See `Workitems.waiting_events`."""
    rows = connection.execute(
        "SELECT event_pk AS number, event_type AS kind, sop_instance_uid, data_set "
        f"FROM workitem_event WHERE ae_title = ? AND {_IS_OWNED} ORDER BY event_pk LIMIT ?",
        (ae_title, ae_title, owner, limit),
    )
    return rows_as(WaitingEvent, rows)


def forget_sent(connection: Connection, ae_title: str, owner: str, up_to: int) -> None:
    """See `Workitems.sent`."""
    connection.execute(
        f"DELETE FROM workitem_event WHERE ae_title = ? AND {_IS_OWNED} AND event_pk <= ?",
        (ae_title, ae_title, owner, up_to),
    )
