"""Workitems made of worklist orders, in the transaction that changes one."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from time import time
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.services.dicom.attribute_list import SPECIFIC_CHARACTER_SET, AttributeList
from isocenter.services.service_classes.ups.orders import (
    attributes_of_order,
    is_wanted,
    workitem_uid,
)
from isocenter.services.service_classes.ups.rules import cancelled_before_begun, workitem_of_create
from isocenter.services.service_classes.ups.workitem import (
    CANCELLATION_REASON,
    MODIFIED,
    UpsError,
    Workitem,
    WorkitemState,
    date_time,
    element,
    with_elements,
    without,
)
from isocenter.services.service_classes.worklist.entry import EntryState
from isocenter.services.service_classes.worklist.ports import StoredEntry
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.workitems import ChangeHook, change_workitem, create_workitem

log = logging.getLogger("isocenter.worklist")

_ENDED = (EntryState.COMPLETED, EntryState.DISCONTINUED)
#: Workitems of one order, of which all but the last were cancelled.
_MOST_TURNS: Final = 16
_OF_ORDER: Final = (
    f"SELECT sop_instance_uid, state FROM workitem WHERE sop_instance_uid IN {texts('uids')}"
)


class OrderedWorkitems:
    """Makes workitems of orders; those that nobody has begun change and end with them.

    For `isocenter.storage.database.worklist`.

    Args:
        modalities: whose orders become workitems.
        on_change: told of each change of a workitem, in its transaction.
        now: seconds since 1970.
    """

    def __init__(
        self,
        modalities: Collection[str],
        *,
        on_change: Sequence[ChangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._modalities = frozenset(modalities)
        self._on_change = on_change
        self._now = now

    def entry_changed(
        self, connection: Connection, before: StoredEntry | None, after: StoredEntry | None
    ) -> None:
        """An entry was added, changed or removed."""
        was = before is not None and is_wanted(before.entry, self._modalities)
        wanted = after is not None and is_wanted(after.entry, self._modalities)
        if after is None or after.state in _ENDED:
            if before is not None:
                why = "the order was withdrawn" if after is None else "the order has ended"
                self._withdraw(connection, before, why)
        elif before is not None and was and before.state not in _ENDED:
            if wanted:
                self._follow(connection, before, after)
            else:
                self._withdraw(connection, before, "the order is for another modality")
        elif wanted and after.state is EntryState.SCHEDULED:
            self._order(connection, after)

    def _order(self, connection: Connection, stored: StoredEntry) -> None:
        last, state = _last_turn(connection, stored)
        if state not in (None, WorkitemState.CANCELED):
            return  # somebody has begun it before the order was withdrawn
        turn = last if state is None else last + 1
        if turn >= _MOST_TURNS:
            log.warning(
                "entry %d of the worklist becomes no workitem: %d were cancelled",
                stored.number,
                turn,
            )
            return
        uid = workitem_uid(stored.entry, stored.number, turn)
        now = self._now()
        try:
            workitem, _ = workitem_of_create(uid, attributes_of_order(stored.entry), now=now)
        except Exception as error:
            # An order is an order, also where it makes no workitem.
            why = str(error) if isinstance(error, UpsError) else type(error).__name__
            log.warning("entry %d of the worklist becomes no workitem: %s", stored.number, why)
            return
        create_workitem(connection, workitem, now, self._on_change)

    def _follow(self, connection: Connection, before: StoredEntry, after: StoredEntry) -> None:
        """Give a workitem that nobody has begun what has changed of its order, and that alone."""
        old, new = attributes_of_order(before.entry), attributes_of_order(after.entry)
        if old == new:
            return
        changed = {tag: one for tag, one in new.elements.items() if old.elements.get(tag) != one}
        if SPECIFIC_CHARACTER_SET in new.elements:
            changed[SPECIFIC_CHARACTER_SET] = new.elements[SPECIFIC_CHARACTER_SET]
        now = self._now()

        def follow(workitem: Workitem) -> Sequence[Workitem]:
            if workitem.state is not WorkitemState.SCHEDULED:
                return []
            try:
                kept = without(workitem.attributes, *(old.elements.keys() - new.elements.keys()))
                attributes = kept.updated(AttributeList(changed))
            except Exception as error:
                log.warning(
                    "workitem %s of a changed order stays as it was: %s",
                    workitem.sop_instance_uid,
                    type(error).__name__,
                )
                return []
            modified = element(MODIFIED, "DT", date_time(now))
            return [
                replace(workitem, changed_at=now, attributes=with_elements(attributes, [modified]))
            ]

        try:
            change_workitem(connection, _uid(connection, after), follow, now, self._on_change)
        except KeyError:
            pass  # it made none, or it was removed

    def _withdraw(self, connection: Connection, stored: StoredEntry, why: str) -> None:
        reason = Element(CANCELLATION_REASON, "LT", why.encode("ascii") + b" " * (len(why) & 1))
        information = AttributeList({CANCELLATION_REASON: reason})
        now = self._now()

        def cancel(workitem: Workitem) -> Sequence[Workitem]:
            if workitem.state is not WorkitemState.SCHEDULED:
                return []
            try:
                return cancelled_before_begun(workitem, information, now=now)
            except Exception as error:
                log.warning(
                    "workitem %s of a withdrawn order stays: %s",
                    workitem.sop_instance_uid,
                    type(error).__name__,
                )
                return []

        try:
            change_workitem(connection, _uid(connection, stored), cancel, now, self._on_change)
        except KeyError:
            pass  # it made none


def _last_turn(connection: Connection, stored: StoredEntry) -> tuple[int, WorkitemState | None]:
    """The number of the last workitem of an order, and its state; None: there is none."""
    uids = [workitem_uid(stored.entry, stored.number, turn) for turn in range(_MOST_TURNS)]
    rows = connection.execute(_OF_ORDER, {"uids": json_list(uids)}).fetchall()
    found = [(uids.index(uid), WorkitemState(state)) for uid, state in rows]
    return max(found, key=lambda one: one[0], default=(0, None))


def _uid(connection: Connection, stored: StoredEntry) -> str:
    """The UID of that one."""
    turn, _ = _last_turn(connection, stored)
    return workitem_uid(stored.entry, stored.number, turn)
