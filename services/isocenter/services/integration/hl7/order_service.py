"""Order messages are judged, done in the worklist, and answered.

A message is done as a whole or not at all: every order in it is checked before the first
write.  AA says that it is durable; a sender that did not hear it sends again, which does
the same once more.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from isocenter.services.errors import StorageError, text_of
from isocenter.services.integration.hl7.acknowledgement import Outcome, acknowledgement
from isocenter.services.integration.hl7.adt import EVENTS
from isocenter.services.integration.hl7.errors import (
    APPLICATION_INTERNAL_ERROR,
    DUPLICATE_KEY_IDENTIFIER,
    RECORD_LOCKED,
    UNKNOWN_KEY_IDENTIFIER,
    Hl7Error,
    Location,
)
from isocenter.services.integration.hl7.message import Message, header_of, read_message
from isocenter.services.integration.hl7.mllp import MessageTooLong, MllpMessage
from isocenter.services.integration.hl7.orders import (
    ADT,
    MESSAGE_TYPES,
    Control,
    Order,
    check_header,
    read_orders,
)
from isocenter.services.integration.hl7.patient_messages import PatientMessages
from isocenter.services.integration.hl7.rejected_messages import RejectedMessages, name_of
from isocenter.services.integration.hl7.step_fields import OrderRules
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.notices import Caller, Notices, OrderAction, OrderMessageAnswered
from isocenter.services.service_classes.worklist.entry import Entry, EntryKey, EntryState
from isocenter.services.service_classes.worklist.order_changes import change_of
from isocenter.services.service_classes.worklist.ports import (
    EntryConflictError,
    PutResult,
    StoredEntry,
    Worklist,
)

log = logging.getLogger("isocenter.hl7")

SOURCE: Final = "hl7"
#: A longer message is split in a thread, so that nobody waits for it.
_SHORT_BYTES: Final = 8 << 10
#: How often entries are looked at when they change before they can be written.
_LOOKS: Final = 5
#: Of messages that are none of `MESSAGE_TYPES`, for metrics.
_OTHER: Final = "other"


class OrderService:
    """Takes messages, gives acknowledgements.

    Args:
        rejected: None: refused messages are not kept.
        patients: does what ADT messages say; None: they are not taken.
    """

    def __init__(
        self,
        worklist: Worklist,
        rules: OrderRules,
        *,
        rejected: RejectedMessages | None = None,
        notices: Notices | None = None,
        patients: PatientMessages | None = None,
    ) -> None:
        self._patients = patients
        self._worklist = worklist
        self._rules = rules
        self._rejected = rejected
        self._notices = Notices() if notices is None else notices
        #: Threads would only take turns.
        self._splitting = trio.CapacityLimiter(1)

    async def handle(
        self, received: MllpMessage | MessageTooLong, peer_log: PeerLog
    ) -> bytes | None:
        """Do what a message says; its acknowledgement, None where the sender wants none.

        Args:
            peer_log: about its sender.
        """
        data = received.data if isinstance(received, MllpMessage) else received.head
        header = header_of(data)
        outcome, fault = Outcome.ACCEPT, None
        try:
            if isinstance(received, MessageTooLong):
                raise Hl7Error(
                    f"the message has {received.length} bytes, more than hl7.max_message_bytes",
                    Location("MSH"),
                    APPLICATION_INTERNAL_ERROR,
                    is_reject=True,
                )
            read = await self._read(data)
            if isinstance(read, Message):
                assert self._patients is not None
                done = await self._patients.do(read, peer_log.peer_address)
            else:
                done = await self._do(read, peer_log.peer_address)
            peer_log.reset()
            log.info("%s: %s is done: %s", peer_log.peer_address, _kind(header), done)
        except Hl7Error as error:
            fault = error
            outcome = Outcome.REJECT if error.is_reject else Outcome.ERROR
            peer_log.write(
                log, logging.WARNING, "%s refused with %s (%s): %s",
                _kind(header), outcome.value, name_of(data), error,
            )  # fmt: skip
            await self._keep(data, f"{outcome.value} {error}")
        except StorageError as error:
            # None of the sender's: it comes again when we can.
            peer_log.write(log, logging.ERROR, "%s cannot be kept: %s", _kind(header), error)
            outcome = Outcome.REJECT
            fault = Hl7Error(
                "it cannot be kept now; send it again later",
                Location("MSH"),
                APPLICATION_INTERNAL_ERROR,
                is_reject=True,
            )
        self._notices.publish(
            OrderMessageAnswered(
                address=peer_log.peer_address,
                message_type=_kind(header),
                acknowledgement=outcome.value,
            )
        )
        return acknowledgement(header, outcome, fault)

    async def _read(self, data: bytes) -> list[Order] | Message:
        if len(data) <= _SHORT_BYTES:
            return self._orders(data)
        return await trio.to_thread.run_sync(self._orders, data, limiter=self._splitting)

    def _orders(self, data: bytes) -> list[Order] | Message:
        """The orders of a message; of one about patients, the message."""
        message = read_message(data, self._rules.character_set)
        check_header(message, self._rules, takes_adt=self._patients is not None)
        if message.header.text(9) == ADT:
            return message
        return read_orders(message, self._rules)

    async def _keep(self, data: bytes, fault: str) -> None:
        if self._rejected is None:
            return
        try:
            await trio.to_thread.run_sync(self._rejected.save, data, fault)
        except OSError as error:
            log.error("a refused message is not kept: %s", text_of(error))

    # -- In the worklist --------------------------------------------------------------

    async def _do(self, orders: Sequence[Order], address: str) -> str:
        """Everything that *orders* say, sent from *address*; in words, what that was."""
        for _ in range(_LOOKS):
            try:
                put, changed = await self._put(orders)
                break
            except EntryConflictError:
                pass  # a modality began, ended or gave up a step since it was looked at
        else:
            raise Hl7Error("a step changes all the time", orders[0].place, RECORD_LOCKED)
        caller = Caller(association="", address=address)
        for entry, action in changed:
            self._notices.publish(change_of(entry, action, caller))
        counts = {
            "added": put.added,
            "changed": put.changed,
            "as before": put.unchanged,
            "removed": put.removed,
        }
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n) or "nothing to do"

    async def _put(
        self, orders: Sequence[Order]
    ) -> tuple[PutResult, Sequence[tuple[Entry, OrderAction]]]:
        """What came of it, and the entries that were added, changed or removed."""
        entries = _entries(orders)
        touched: dict[EntryKey, tuple[Entry, OrderAction]] = {}
        states = {order.entry.key: order.state for order in orders if order.entry and order.state}
        removals: list[EntryKey] = []
        found: dict[EntryKey, EntryState] = {}
        for order in orders:
            if order.control is Control.PUT:
                continue
            meant = await self._meant(order)
            found |= {stored.entry.key: stored.state for stored in meant}
            if order.control is Control.STATUS:
                if not meant:
                    raise Hl7Error(
                        "no such order is on the worklist", order.place, UNKNOWN_KEY_IDENTIFIER
                    )
                if order.state is not None:
                    states |= {stored.entry.key: order.state for stored in meant}
                    touched |= {
                        stored.entry.key: (stored.entry, OrderAction.CHANGED) for stored in meant
                    }
            else:
                gone, stopped = _cancelled(order, meant)
                for stored in meant:
                    if stored.entry.key in (*gone, *stopped):
                        is_gone = stored.entry.key in gone
                        action = OrderAction.REMOVED if is_gone else OrderAction.CHANGED
                        touched[stored.entry.key] = (stored.entry, action)
                removals += gone
                states |= dict.fromkeys(stopped, EntryState.DISCONTINUED)
        for entry in entries:
            there = await self._worklist.get(entry.key)
            if there is None or there.entry.attributes != entry.attributes:
                action = OrderAction.ADDED if there is None else OrderAction.CHANGED
                touched[entry.key] = (entry, action)
        if not (entries or removals or states):
            return PutResult(), ()
        put = await self._worklist.put(
            entries, source=SOURCE, states=states, cancel=removals, found=found
        )
        return put, tuple(touched.values())

    async def _meant(self, order: Order) -> Sequence[StoredEntry]:
        """The entries that a cancellation or a status is about."""
        if order.step_id:
            stored = await self._worklist.get(EntryKey(order.step_id, order.accession_number))
            return [] if stored is None else [stored]
        return await self._worklist.find_by_accession_number(order.accession_number)


def _entries(orders: Sequence[Order]) -> list[Entry]:
    entries: dict[EntryKey, Entry] = {}
    for order in orders:
        if order.entry is None:
            continue
        if order.entry.key in entries:
            raise Hl7Error(
                "two steps of the message have the same accession number and step ID",
                order.place,
                DUPLICATE_KEY_IDENTIFIER,
            )
        entries[order.entry.key] = order.entry
    return list(entries.values())


def _cancelled(order: Order, meant: Sequence[StoredEntry]) -> tuple[list[EntryKey], list[EntryKey]]:
    """What leaves the list, and what is discontinued.

    An order that is not there was cancelled before, or never came: both is what is wanted.
    """
    gone, stopped = [], []
    for stored in meant:
        match stored.state:
            case EntryState.SCHEDULED:
                gone.append(stored.entry.key)
            case EntryState.STARTED if order.control is Control.DISCONTINUE:
                stopped.append(stored.entry.key)
            case EntryState.STARTED | EntryState.COMPLETED:
                raise Hl7Error(
                    f"a step is {stored.state.value} and cannot be cancelled any more",
                    order.place,
                    RECORD_LOCKED,
                )
            case EntryState.DISCONTINUED:
                pass
    return gone, stopped


def _kind(header: Message | None) -> str:
    """``ORM^O01`` …; never what a stranger wrote."""
    if header is None:
        return _OTHER
    kind, event = header.header.text(9), header.header.text(9, 2)
    if kind == ADT:
        return f"{kind}^{event}" if event in EVENTS else kind
    return f"{kind}^{MESSAGE_TYPES[kind]}" if kind in MESSAGE_TYPES else _OTHER
