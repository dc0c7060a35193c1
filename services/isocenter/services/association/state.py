"""State that the sides of an association share: life, deadlines, end reason."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import trio

from isocenter.engine import events
from isocenter.engine.association import Association
from isocenter.engine.commands import Command
from isocenter.engine.deadlines import DEFAULT_DEADLINES, Clock, Deadlines, Moments, next_deadline
from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import Request, sop_class_of
from isocenter.engine.dimse.message_fields import operation_name
from isocenter.engine.effects import Effect
from isocenter.engine.errors import (
    SERVICE_PROVIDER,
    SERVICE_USER,
    AssociationAbortedError,
    AssociationError,
    LocalProtocolError,
    ProviderAbortedError,
    RemoteProtocolError,
    TransportLostError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Negotiated, Role
from isocenter.engine.pdu import AssociateAccept
from isocenter.engine.states import Sta
from isocenter.services.association.access import Grant
from isocenter.services.association.deadline_watch import DeadlineWatch
from isocenter.services.concurrency import Broadcast
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.net.transport import Transport
from isocenter.services.notices import AssociationOutcome, Caller, Notices, OperationEnded

log = logging.getLogger("isocenter.association")


@dataclass(slots=True)
class TrafficCounters:
    """Bytes and messages that went over one association."""

    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationOptions:
    """How an association behaves.

    Attributes:
        deadlines: how long the peer may take.
        limits: how much of the peer is held in memory.
        caller: who is at the other end; None: an address.
        notices: hears what is performed; None: nobody does.
        watch: looks after the deadlines; None: the association has one of its own.
    """

    deadlines: Deadlines = DEFAULT_DEADLINES
    limits: Limits = DEFAULT_LIMITS
    caller: Caller | None = None
    notices: Notices | None = None
    watch: DeadlineWatch | None = None


class AssociationState(ABC):
    """State that all sides of an `AssociationDriver` share.

    Attributes:
        established: set when A-ASSOCIATE was accepted.
        ended: set when the association is over; the connection may still be closing.
        closed: set when the connection is closed too.
        released: whether it ended by A-RELEASE.
        caller: who is at the other end.
        faulted: whether the peer broke the protocol.
        accept: as requestor, the A-ASSOCIATE-AC; None: it has not come.
        notices: hears what is performed.
        awaited: how many requests of ours are still to come that the peer waits for.
        now: tells the time by trio's clock, for a third of what `trio.current_time` costs.
    """

    def __init__(self, transport: Transport, role: Role, options: AssociationOptions) -> None:
        self.transport = transport
        self.caller = options.caller or Caller(association="", address=transport.peer_address)
        self.notices = Notices() if options.notices is None else options.notices
        self.deadlines = options.deadlines
        self.now = trio.lowlevel.current_clock().current_time
        self.limits = options.limits
        self.traffic = TrafficCounters()
        self.established = trio.Event()
        self.ended = trio.Event()
        self.closed = trio.Event()
        self.released = False
        self.expected_requests = 0
        #: Operations of the peer that have ended.
        self.performed = 0
        self.accept: AssociateAccept | None = None
        self._engine = Association(role, options.limits)
        #: When somebody looks whether a deadline has passed: not later than the first of them.
        self.wake_at = math.inf
        self._watch = options.watch
        #: It waits for the peer.
        self._is_reading = False
        #: Where its tasks run while it reads.
        self._nursery: trio.Nursery | None = None
        self._moments = Moments()
        #: Something that one of our operations waits for may have come, or the association ended.
        self._invocation_ended = Broadcast()
        self._end_reason: AssociationError | None = None
        self._closed = False
        self.faulted = False
        #: What the peer may have performed; None: everything.
        self.grant: Grant | None = None
        self._is_traced = log.isEnabledFor(logging.DEBUG)
        #: What is said about the peer in the log, bounded.
        self.peer_log = PeerLog(transport.peer_address)

    # What its sides hold.

    @abstractmethod
    def _cancel_operations(self) -> None:
        """Nobody works for the peer any more."""

    @abstractmethod
    def _end_invocations(self) -> None:
        """No response comes any more."""

    @abstractmethod
    async def abort(self, reason: AssociationError | None = None) -> None:
        """A-ABORT now, if it can still be framed; else close."""

    @abstractmethod
    def _is_busy(self) -> bool:
        """Whether something is performed, or waits for a response."""

    # What others ask.

    @property
    def negotiated(self) -> Negotiated:
        """The parameters that both sides agreed on."""
        if self._engine.negotiated is None:
            raise LocalProtocolError("the association is not established")
        return self._engine.negotiated

    @property
    def is_established(self) -> bool:
        return self._engine.state is Sta.STA6

    @property
    def ending(self) -> AssociationOutcome:
        """How it ended; to be asked when it has."""
        match self._end_reason:
            case _ if self.released:
                return AssociationOutcome.RELEASED
            case TransportLostError():
                return AssociationOutcome.CONNECTION_LOST
            case AssociationAbortedError() | ProviderAbortedError(__cause__=None):
                return AssociationOutcome.ABORTED_BY_PEER
            case _:
                return AssociationOutcome.ABORTED_HERE

    @property
    def abort_code(self) -> tuple[int, int] | None:
        """Source and reason of the A-ABORT that ended it, whichever side sent it (PS3.8 Table
        9-26); None: there was none.  To be asked when it has ended."""
        match self._end_reason:
            case _ if self.released:
                return None
            case TransportLostError():
                return None
            case AssociationAbortedError() as error:
                return error.source, error.reason
            case ProviderAbortedError() as error:
                return SERVICE_PROVIDER, error.reason
            case _:
                return SERVICE_USER, 0

    def end_reason(self) -> AssociationError:
        """Why it ended, as an exception for whoever waited on it."""
        return self._end_reason or AssociationError("the association was released")

    # How it ends.

    def _end(self, reason: AssociationError) -> None:
        """Record why the association ended, and cancel its operations and invocations."""
        if self._end_reason is None:
            self._end_reason = reason
        self._cancel_operations()
        self._finish()

    def _finish(self) -> None:
        self.ended.set()
        self._end_invocations()
        self._invocation_ended.send()

    # What is done beside reading.

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run *function* beside the reader; nothing of it is left when `run` returns."""
        if not self.ended.is_set():
            self._start(function)

    def _start(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(function, *args)

    # How long it may be silent.

    @property
    def watch(self) -> DeadlineWatch:
        """Looks after deadlines while it reads."""
        if self._watch is None:
            raise LocalProtocolError("nobody reads yet: the association does not run")
        return self._watch

    def _next_deadline(self) -> tuple[float, Clock]:
        """When ARTIM runs out, or a silent peer is given up: in the middle of a data set, and as
        acceptor when nothing is under way.  What waits for the peer has deadlines of its own."""
        busy = self._is_busy() or self.expected_requests > 0
        return next_deadline(self._engine, self._moments, self.deadlines, busy=busy)

    def _set_deadline(self) -> None:
        """Have somebody look in time; who looks too early looks again, which is cheaper than to
        move the deadline with every message."""
        due, _ = self._next_deadline()
        self._wake_by(due)

    def _wake_by(self, due: float) -> None:
        if due < self.wake_at:
            self.wake_at = due
            if self._watch is not None:
                self._watch.wake_by(due)

    def restart_idle(self) -> None:
        """Count silence from now on: what the peer waited for has come."""
        now = self._moments.received = self.now()
        if now + self.deadlines.idle < self.wake_at:
            self._set_deadline()

    # What is told of it.

    def _publish_operation_ended(
        self, request: Request, status: int | None, began: float, *, as_scp: bool = True
    ) -> None:
        self.performed += as_scp
        if self.notices:
            self.notices.publish(
                OperationEnded(
                    caller=self.caller,
                    command=operation_name(type(request)),
                    sop_class_uid=sop_class_of(request),
                    status=status,
                    seconds=self.now() - began,
                    as_scp=as_scp,
                )
            )

    def _trace(self, item: Command | Effect) -> None:
        """Log *item* for debugging, if it is traced; of data sets only that there is one."""
        if not isinstance(item, events.DataSetReceived):
            log.debug("%s: %s", self.transport.peer_address, describe(item))

    def _log_fault(self, cause: RemoteProtocolError) -> None:
        """The first of a connection: a peer could repeat its faults until ARTIM ends it."""
        if not self.faulted:
            self.faulted = True
            self.peer_log.write(log, logging.WARNING, "%s", cause)
