"""One association under trio: a reader, the operations it starts, and the calls that wait on it.

How an association lives.  `AssociationTask.run` is the reader.  It is the only
one who receives; each chunk goes through the engine at once and what follows is
carried out before the next is read, so a slow consumer slows the peer and
nothing piles up.  A request starts an *operation*: a task in the association's
own nursery, bounded by the negotiated asynchronous operations window.  Its data
set reaches it through a rendezvous (the backpressure).  A response goes to the
invocation that waits for its Message ID.

Two lanes: fragments wait for whoever consumes them, but an abort cancels the
operations' scope and a C-CANCEL sets its operation's flag as soon as they are
read.

There is no writer task and no queue: whoever sends holds the sending lock and
waits for the socket.  A message is never interleaved with another.

Every wait has a deadline from `Deadlines`; no number stands here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never, cast

import trio

from isocenter.engine import commands, effects, events
from isocenter.engine.association import Association
from isocenter.engine.commands import Command
from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_table import NAMES
from isocenter.engine.dimse.messages import (
    CCancelRequest,
    Message,
    Request,
    Response,
    UnrecognizedMessage,
    is_request,
    sop_class_of,
)
from isocenter.engine.driving import end_reason
from isocenter.engine.effects import Effect
from isocenter.engine.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    LocalProtocolError,
    ProviderAbortedError,
    RemoteProtocolError,
    TransportLostError,
)
from isocenter.engine.items import Buffer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Negotiated, Role
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.services.broadcast import Broadcast
from isocenter.services.complaints import Complaints
from isocenter.services.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.services.errors import DeadlineExceeded
from isocenter.services.notices import Caller, Ending, Notices, OperationEnded
from isocenter.services.operations import Answer, Invocation, Operation, Provider, ReceivedResponse
from isocenter.services.policy.grants import Grant
from isocenter.services.transport import Transport

log = logging.getLogger("isocenter.association")

#: Writes that need not wait before others get their turn: a peer may ask thousands of times
#: in one chunk, and a query may have thousands of matches.
_FAIR_SHARE: Final = 16
#: Fragments shorter than this on average are no longer a peer's way of sending data.
_CRUMB_BYTES: Final = 64
#: Bytes of such a chunk that go through the engine before others get their turn.
_CRUMBS_AT_ONCE: Final = 2 << 10
#: Nothing can be sent any more.
_OVER: Final = frozenset({Sta.STA1, Sta.STA13})
#: Class of each request → what it asks for.
_COMMANDS: Final = {kind: name.removesuffix("-RQ") for kind, name in NAMES.items()} | {
    UnrecognizedMessage: "unrecognized"
}


#: Answers an A-ASSOCIATE indication.
Decide = Callable[[AssociateRequest], Awaitable[AssociateAccept | AssociateReject]]


@dataclass(slots=True)
class Traffic:
    """What went over one association."""

    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0


@dataclass(slots=True)
class _Inbound:
    """What the next data set fragments belong to."""

    operation: Operation | None = None
    response: Response | None = None
    gathered: bytearray = field(default_factory=bytearray)


class AssociationTask:
    """Carries one association between a transport and the engine.

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
    """

    def __init__(
        self,
        transport: Transport,
        role: Role,
        *,
        provider: Provider,
        answer: Answer | None = None,
        decide: Decide | None = None,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        limits: Limits = DEFAULT_LIMITS,
        caller: Caller | None = None,
        notices: Notices | None = None,
    ) -> None:
        self.transport = transport
        self.caller = caller or Caller(association="", address=transport.peer_address)
        self.notices = Notices() if notices is None else notices
        self.deadlines = deadlines
        self.limits = limits
        self.traffic = Traffic()
        self.established = trio.Event()
        self.ended = trio.Event()
        self.closed = trio.Event()
        self.released = False
        self.awaited = 0
        #: Operations of the peer that have ended.
        self.performed = 0
        self.accept: AssociateAccept | None = None
        self._engine = Association(role, limits)
        self._provider = provider
        self._answer_at_once = answer
        self._sends = 0
        self._decide = decide
        self._sending = trio.Lock()
        self._message_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._sends_crumbs = False
        self._nursery: trio.Nursery | None = None
        self._artim_deadline = math.inf
        self._received_at = math.inf
        self._performing: set[Operation] = set()
        self._operation_ended = Broadcast()
        self._invocations: dict[int, Invocation] = {}
        self._invocation_ended = Broadcast()
        self._beginning: set[int] = set()
        self._inbound = _Inbound()
        self._end_reason: AssociationError | None = None
        self._cut = False
        self._closed = False
        self.faulted = False
        #: What the peer may have performed; None: everything.
        self.grant: Grant | None = None
        self._is_traced = log.isEnabledFor(logging.DEBUG)
        #: What is said about the peer in the log, bounded.
        self.complaints = Complaints(transport.peer_address)

    # What others ask.

    @property
    def negotiated(self) -> Negotiated:
        """What both sides agreed on."""
        if self._engine.negotiated is None:
            raise LocalProtocolError("the association is not established")
        return self._engine.negotiated

    @property
    def is_established(self) -> bool:
        return self._engine.state is Sta.STA6

    @property
    def operations(self) -> int:
        """How many operations of the peer are being performed now."""
        return len(self._performing)

    @property
    def is_idle(self) -> bool:
        """Established, with nothing being performed or awaited."""
        return self.is_established and not self._performing and not self._invocations

    @property
    def ending(self) -> Ending:
        """How it ended; to be asked when it has."""
        match self._end_reason:
            case _ if self.released:
                return Ending.RELEASED
            case TransportLostError():
                return Ending.CONNECTION_LOST
            case AssociationAbortedError() | ProviderAbortedError(__cause__=None):
                return Ending.ABORTED_BY_PEER
            case _:
                return Ending.ABORTED_HERE

    def end_reason(self) -> AssociationError:
        """Why it ended, as an exception for whoever waited on it."""
        return self._end_reason or AssociationError("the association was released")

    # Sending.

    async def send(self, command: Command) -> None:
        """Have the engine do it, and carry out what follows.

        Raises:
            LocalProtocolError: not allowed now; nothing was sent.
            AssociationError: the association has ended.
        """
        if self._end_reason is not None:
            raise self._end_reason
        self._trace(command)
        if isinstance(command, commands.SendMessage):
            async with _held(self._message_lock):
                if self._end_reason is not None:
                    raise self._end_reason
                self.traffic.messages_sent += 1
                await self._carry_out(self._by_engine(command))
        else:
            await self._carry_out(self._engine.send(command))

    async def send_messages(
        self, context_id: int, messages: Sequence[tuple[Message, Buffer | None]]
    ) -> None:
        """Several messages, each with its data set, in one write.

        Raises:
            LocalProtocolError: one is not allowed now; those before it were not sent either.
            AssociationError: the association has ended.
        """
        if self._end_reason is not None:
            raise self._end_reason
        buffers: list[Buffer] = []
        async with _held(self._message_lock):
            for message, data_set in messages:
                command = commands.SendMessage(context_id, message, data_set)
                self._trace(command)
                buffers += _bytes_of(self._engine.send(command))
            self.traffic.messages_sent += len(messages)
            await self._write(buffers)

    async def send_streamed(
        self,
        context_id: int,
        message: Request,
        parts: AsyncIterator[Buffer],
    ) -> None:
        """Send a message whose data set comes in *parts*, none of them empty.

        When *parts* raises, the message cannot be completed any more: the association is
        aborted and the exception goes on.
        """
        async with self._message_lock:
            held: Buffer = await anext(parts, b"")
            if self._end_reason is not None:
                raise self._end_reason
            self.traffic.messages_sent += 1
            buffers = _bytes_of(
                self._by_engine(commands.SendMessage(context_id, message, has_data_set=True))
            )
            try:
                async for part in parts:
                    if self._end_reason is not None:
                        raise self._end_reason
                    buffers += _bytes_of(
                        self._by_engine(commands.SendDataSet(context_id, held, False))
                    )
                    await self._write(buffers)
                    held, buffers = part, ()
                if self._end_reason is not None:
                    raise self._end_reason
                buffers += _bytes_of(self._by_engine(commands.SendDataSet(context_id, held, True)))
                await self._write(buffers)
            except BaseException:
                if self._engine.is_sending_data_set:
                    await self.abort()
                raise

    def _by_engine(self, command: Command) -> tuple[Effect, ...]:
        """Have the engine do it.  It may know before us that the association is over: the reader
        carries out what came before the end."""
        try:
            return self._engine.send(command)
        except LocalProtocolError as error:
            if self._engine.state in _OVER:
                raise AssociationError("the association has ended") from error
            raise

    async def abort(self, reason: AssociationError | None = None) -> None:
        """A-ABORT now, if it can still be framed; else close.

        The reader goes on until the peer has closed or ARTIM has run out: closing at once
        could destroy the A-ABORT on its way.
        """
        self._end(reason or AssociationError("the association was aborted here"))
        with trio.move_on_after(self.deadlines.abort, shield=True):
            if not self._cut:
                try:
                    await self._carry_out(self._engine.send(commands.Abort()))
                    return
                except LocalProtocolError:
                    if self._engine.state is Sta.STA13:
                        return
        await self._close()

    async def release(self) -> None:
        """A-RELEASE, and wait for its confirmation; after `Deadlines.release` abort.

        Does nothing when the association has ended.
        """
        if self._closed or self._end_reason is not None:
            return
        with trio.move_on_after(self.deadlines.release) as scope:
            async with self._message_lock:
                if self._engine.state is not Sta.STA6:
                    return
                await self._carry_out(self._engine.send(commands.RequestRelease()))
            await self.ended.wait()
        if scope.cancelled_caught:
            await self.abort()

    # Invoking.

    def next_message_id(self) -> int:
        """A Message ID that no outstanding operation of ours uses (PS3.7 9.1)."""
        return self._engine.operations.next_message_id()

    async def begin(
        self,
        context_id: int,
        request: Request,
        data_set: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> Invocation:
        """Send a request, as soon as the negotiated window allows; its responses come to the
        `Invocation` until `finish`.

        Raises:
            AssociationError: the association has ended.
            DeadlineExceeded: what is outstanding got no response in time.
            LocalProtocolError: not allowed now; nothing was sent.
        """
        await self._room_in_window()
        invocation = Invocation(self, context_id, request)
        self._invocations[request.message_id] = invocation
        self._set_deadline()
        self._beginning.add(request.message_id)
        try:
            if data_set is None or isinstance(data_set, bytes | bytearray | memoryview):
                await self.send(commands.SendMessage(context_id, request, data_set))
            else:
                await self.send_streamed(context_id, request, data_set)
        except BaseException:
            self.finish(invocation)
            raise
        finally:
            self._beginning.discard(request.message_id)
        return invocation

    async def _room_in_window(self) -> None:
        """Until one more operation may be outstanding: beside those that were sent stand
        those whose turn to send has not come yet (PS3.7 D.3.3.3)."""
        operations = self._engine.operations
        while self._end_reason is None:
            taken = len(self._beginning | operations.invoked.keys())
            if not operations.window or taken < operations.window:
                return
            with trio.move_on_after(self.deadlines.response) as scope:
                await self._invocation_ended.wait()
            # Our own sending may take its time, and has deadlines of its own.
            if scope.cancelled_caught and not self._message_lock.locked():
                raise await self.no_response()
        raise self._end_reason

    async def no_more_of(self, kind: type[Request]) -> None:
        """Until no request of ours of this *kind* is outstanding, also of those given up.

        Raises:
            DeadlineExceeded: one got no final response in time.
        """
        with trio.move_on_after(self.deadlines.response) as scope:
            while self._end_reason is None and any(
                each.kind is kind for each in self._engine.operations.invoked.values()
            ):
                await self._invocation_ended.wait()
        if scope.cancelled_caught:
            raise await self.no_response()

    async def no_response(self) -> DeadlineExceeded:
        """Give the association up because the peer does not answer; what to raise."""
        error = DeadlineExceeded(
            f"no response within {self.deadlines.response:g} s; the association was aborted"
        )
        await self.abort(error)
        return error

    def finish(self, invocation: Invocation) -> None:
        """Its final response has come, or nobody waits for it: the place is free again."""
        if self._invocations.get(invocation.request.message_id) is invocation:
            del self._invocations[invocation.request.message_id]
            invocation._deliver.close()
            invocation._responses.close()
            self._tell(invocation.request, invocation.status, invocation.began, as_scp=False)
            self._invocation_ended.send()
            self._restart_idle()

    async def invoke(
        self,
        context_id: int,
        request: Request,
        data_set: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> ReceivedResponse:
        """An operation with a single response, from request to response."""
        invocation = await self.begin(context_id, request, data_set)
        try:
            return await invocation.next()
        finally:
            self.finish(invocation)

    def in_background(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run *function* in the association's nursery; it ends with the association."""
        if self._nursery is not None and not self.ended.is_set():
            self._nursery.start_soon(function)

    # The life of the task.

    async def run(self) -> None:
        """Read until the association has ended and the connection is closed.

        Cancelled from outside it closes the connection without a word; call `abort` first
        to tell the peer.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    if self._engine.role is Role.ACCEPTOR:
                        await self._carry_out(self._engine.transport_opened())
                    await self._read()
                finally:
                    self._nursery = None  # it may close at any time, and takes no more tasks
                self.released = self._end_reason is None
                self._end(AssociationError("the association was released"))
        except Exception:
            await self.abort()  # the peer learns that we failed
            raise
        finally:
            self._end(AssociationError("the association was closed here"))
            self.complaints.sum_up()
            await self._close()

    async def request_association(self, request: AssociateRequest) -> None:
        """As requestor, over a connection that stands: Evt1 and Evt2."""
        await self._carry_out(self._engine.send(commands.RequestAssociation(request)))
        await self._carry_out(self._engine.transport_opened())

    async def established_or_ended(self) -> None:
        """Until it is known whether the association stands."""
        while not (self.established.is_set() or self.ended.is_set()):
            await self._invocation_ended.wait()

    def _finish(self) -> None:
        self.ended.set()
        for invocation in self._invocations.values():
            invocation._deliver.close()
        self._invocation_ended.send()

    async def _read(self) -> None:
        engine, transport = self._engine, self.transport
        self._received_at = trio.current_time()
        while not self._closed:
            self._reading = trio.CancelScope()
            self._set_deadline()
            with self._reading:
                chunk = await transport.receive()
            if self._reading.cancelled_caught:
                await self._time_out()
                continue
            if not chunk:
                await self._carry_out(engine.transport_closed())
                return
            self.traffic.bytes_received += len(chunk)
            answer = await self._take(chunk)
            if self._inbound.operation is not None:
                await self._inbound.operation._until_room()
            if answer:  # bytes that trickle in and come to nothing are no sign of life
                self._received_at = trio.current_time()

    async def _take(self, chunk: Buffer) -> bool:
        """A chunk goes through the engine at once, unless the peer sends crumbs: then it is taken
        in pieces, and others get their turn between them.  Whether anything came of it."""
        step = _CRUMBS_AT_ONCE if self._sends_crumbs else len(chunk)
        came = False
        for start in range(0, len(chunk), step):
            before = self._engine.fragments
            piece = chunk if step == len(chunk) else memoryview(chunk)[start : start + step]
            answer = self._engine.receive_data(piece)
            came = came or bool(answer)
            await self._carry_out(answer)
            fragments = self._engine.fragments - before
            self._sends_crumbs = fragments * _CRUMB_BYTES > len(piece)
            if self._closed:
                break
            if self._sends_crumbs:
                await trio.lowlevel.checkpoint()
        return came

    async def _time_out(self) -> None:
        now = trio.current_time()
        if self._closed:
            return
        if now >= self._artim_deadline:
            self._artim_deadline = math.inf
            await self._carry_out(self._engine.timer_expired())
        elif now >= self._idle_deadline():
            await self.abort(
                DeadlineExceeded(f"nothing was received for {self.deadlines.idle:g} s")
            )

    def _idle_deadline(self) -> float:
        """When a silent peer is given up: in the middle of a data set, and as acceptor when
        nothing is under way.  What we asked for has deadlines of its own."""
        if self._engine.state is not Sta.STA6:
            return math.inf
        awaits_data = self._inbound.operation is not None or self._inbound.response is not None
        busy = (
            self._performing
            or self._invocations
            or self.awaited
            or self._engine.role is Role.REQUESTOR
        )
        if busy and not awaits_data:
            return math.inf
        return self._received_at + self.deadlines.idle

    def _set_deadline(self) -> None:
        """Wake the reader in time; when it wakes too early it looks again, which is cheaper
        than to move its deadline with every message."""
        due = min(self._artim_deadline, self._idle_deadline())
        self._reading.deadline = min(self._reading.deadline, due)

    def restart_idle(self) -> None:
        """What the peer waited for has come: from now on silence counts."""
        self._restart_idle()

    def _restart_idle(self) -> None:
        self._received_at = trio.current_time()
        self._set_deadline()

    # Carrying out effects.

    def _trace(self, item: Command | Effect) -> None:
        """What goes on, for whoever debugs; of data sets only that there is one."""
        if self._is_traced and not isinstance(item, events.DataSetReceived):
            log.debug("%s: %s", self.transport.peer_address, describe(item))

    async def _carry_out(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            self._trace(effect)
            match effect:
                case events.DataSetReceived(_, data, is_last):
                    if self._inbound.operation is not None:
                        self._inbound.operation._put(data, is_last)
                        if is_last:
                            self._inbound.operation = None
                    else:
                        await self._response_data_received(data, is_last)
                case events.MessageReceived(context_id, message, has_data_set):
                    self.traffic.messages_received += 1
                    await self._message_received(context_id, message, has_data_set)
                case effects.SendBytes(buffers):
                    await self._write(buffers)
                case events.CancelReceived(_, cancel):
                    for operation in self._performing:
                        if operation.request.message_id == cancel.message_id_being_responded_to:
                            operation.cancel()
                case effects.StartArtim():
                    self._artim_deadline = trio.current_time() + self.deadlines.association_request
                    self._set_deadline()
                case effects.StopArtim():
                    self._artim_deadline = math.inf
                    self._set_deadline()
                case effects.CloseTransport():
                    await self._close()
                case effects.OpenTransport():
                    pass  # whoever made this task has connected already
                case effects.PeerFault(cause):
                    self._log_fault(cause)
                case events.AssociationRequested(request):
                    await self._answer(request)
                case events.AssociationAccepted(accept):
                    self.accept = accept
                    self._restart_idle()
                    self.established.set()
                    self._invocation_ended.send()
                case events.ReleaseRequested():
                    self.in_background(self._accept_release)
                case events.AssociationReleased():
                    if self._engine.state is Sta.STA12:
                        self.in_background(self._accept_release)
                    else:
                        self._finish()
                case (
                    events.AssociationRejected()
                    | events.AssociationAborted()
                    | events.ProviderAborted()
                ):
                    reason = end_reason(effect)
                    assert reason is not None
                    self._end(reason)
                case _:
                    assert_never(effect)

    def _log_fault(self, cause: RemoteProtocolError) -> None:
        """The first of a connection: a peer could repeat its faults until ARTIM ends it."""
        if not self.faulted:
            self.faulted = True
            self.complaints.add(log, logging.WARNING, "%s", cause)

    def _end(self, reason: AssociationError) -> None:
        """The association is over: nobody works or waits for it any more."""
        if self._end_reason is None:
            self._end_reason = reason
        for operation in self._performing:
            operation.scope.cancel()
        self._finish()

    async def _write(self, buffers: Sequence[Buffer]) -> None:
        async with _held(self._sending):
            if self._cut or self._closed:
                return
            self.traffic.bytes_sent += sum(map(len, buffers))
            self._cut = True  # until all of it has left, nothing else can be framed
            try:
                left = self.transport.send_now(buffers)
                if left:
                    await self._write_slowly(left)
                else:
                    self._cut = False
            except BrokenPipeError:
                pass  # the reader sees the end of the connection, and Evt17 tells the engine
        self._sends += 1
        if self._sends % _FAIR_SHARE == 0:
            await trio.lowlevel.checkpoint()

    async def _write_slowly(self, buffers: Sequence[Buffer]) -> None:
        limit = self.deadlines.write_blocked
        with trio.CancelScope() as scope:

            def progress() -> None:
                scope.deadline = trio.current_time() + limit

            progress()
            try:
                await self.transport.send(buffers, progress)
                self._cut = False
            except trio.Cancelled:
                if not scope.cancel_called and not self._closed:
                    # Half a message has left; whoever comes next must not wait for an answer.
                    self.in_background(self._close)
                    self._end(AssociationError("a message was cut short here"))
                raise
        if scope.cancelled_caught:
            self._end(DeadlineExceeded(f"the peer took no data for {limit:g} s"))
            await self._close()

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reading.cancel()
            self.closed.set()
            await self.transport.aclose()

    async def _answer(self, request: AssociateRequest) -> None:
        assert self._decide is not None
        answer = await self._decide(request)
        if self._engine.state is not Sta.STA3:
            return  # what came behind the request, in the same chunk, has ended it already
        if isinstance(answer, AssociateReject):
            self._end_reason = AssociationRejectedError(answer.result, answer.source, answer.reason)
            await self._carry_out(self._engine.send(commands.RejectAssociation(answer)))
        else:
            await self._carry_out(self._engine.send(commands.AcceptAssociation(answer)))
            self.established.set()

    async def _accept_release(self) -> None:
        """Let what is being performed end, within the deadline, then confirm."""
        with trio.move_on_after(self.deadlines.release):
            while self._performing:
                await self._operation_ended.wait()
            async with self._message_lock:
                if self._end_reason is None:
                    await self._carry_out(self._engine.send(commands.AcceptRelease()))
                    return
        if self._end_reason is None:
            await self.abort()

    # Messages of the peer.

    async def _message_received(
        self, context_id: int, message: Message, has_data_set: bool
    ) -> None:
        self._inbound = _Inbound()
        if is_request(message):
            await self._request_received(context_id, message, has_data_set)
            return
        assert not isinstance(message, CCancelRequest)  # has an event of its own
        response = cast(Response, message)
        if has_data_set:
            self._inbound.response = response
        else:
            await self._deliver(ReceivedResponse(response, None))

    async def _request_received(
        self, context_id: int, request: Request, has_data_set: bool
    ) -> None:
        context = self.negotiated.contexts[context_id]
        if (
            self._answer_at_once is not None
            and not has_data_set
            and (self.grant is None or not self.grant.refusal(context.abstract_syntax, request))
        ):
            response = self._answer_at_once(context, request)
            if response is not None:
                await self._respond_at_once(context_id, request, response)
                return
        window = self.negotiated.operations_performed
        while window and len(self._performing) >= window:
            # The peer overruns its window: it waits, and what it sends waits in the socket.
            await self._operation_ended.wait()
        operation = Operation(self, context, request, has_data_set)
        if has_data_set:
            self._inbound.operation = operation
        self._performing.add(operation)
        assert self._nursery is not None
        self._nursery.start_soon(self._perform, operation)

    async def _respond_at_once(self, context_id: int, request: Request, response: Response) -> None:
        began = trio.current_time()
        try:
            await self.send(commands.SendMessage(context_id, response))
        except (AssociationError, LocalProtocolError):
            return  # what came behind the request has ended the association
        self._tell(request, response.status, began)

    def _tell(
        self, request: Request, status: int | None, began: float, *, as_scp: bool = True
    ) -> None:
        self.performed += as_scp
        if self.notices:
            self.notices.tell(
                OperationEnded(
                    caller=self.caller,
                    command=_COMMANDS[type(request)],
                    sop_class_uid=sop_class_of(request),
                    status=status,
                    seconds=trio.current_time() - began,
                    as_scp=as_scp,
                )
            )

    async def _perform(self, operation: Operation) -> None:
        try:
            with operation.scope:
                await self._provider(operation)
        except AssociationError as error:
            log.debug(
                "%s: operation ended with its association: %s", self.transport.peer_address, error
            )
        except LocalProtocolError as error:
            if self._end_reason is None:
                self.complaints.add(log, logging.WARNING, "operation given up: %s", error)
        finally:
            operation._abandon()
            self._performing.remove(operation)
            self._tell(operation.request, operation.status, operation.began)
            if operation.account is not None:
                self.notices.tell(operation.account())
            self._operation_ended.send()
            self._restart_idle()

    async def _response_data_received(self, data: memoryview, is_last: bool) -> None:
        inbound = self._inbound
        if inbound.response is None:
            return  # of a message that was skipped
        if len(inbound.gathered) + len(data) > self.limits.identifier:
            await self.abort(AssociationError("the data set of a response passes its limit"))
            return
        inbound.gathered += data
        if is_last:
            self._inbound = _Inbound()
            await self._deliver(ReceivedResponse(inbound.response, bytes(inbound.gathered)))

    async def _deliver(self, response: ReceivedResponse) -> None:
        invocation = self._invocations.get(response.message.message_id_being_responded_to)
        if invocation is None:  # whoever asked has left; its place in the window is free now
            self._invocation_ended.send()
            return
        try:
            await invocation._deliver.send(response)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever asked has left


class _held:  # noqa: N801 (reads as a verb)
    """A lock, without a turn of the scheduler when it is free."""

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *exc: object) -> None:
        self._lock.release()


def _bytes_of(answer: Iterable[Effect]) -> tuple[Buffer, ...]:
    return tuple(
        buffer
        for effect in answer
        if isinstance(effect, effects.SendBytes)
        for buffer in effect.buffers
    )
