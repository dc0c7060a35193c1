"""Driver of one association: reads, has the engine decide, applies what follows."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, assert_never

import trio

from isocenter.engine import commands, effects, events
from isocenter.engine.buffers import Buffer
from isocenter.engine.deadlines import DEFAULT_DEADLINES, Clock, Deadlines
from isocenter.engine.dimse.message_codec import is_request, is_response
from isocenter.engine.effects import Effect
from isocenter.engine.errors import AssociationError, AssociationRejectedError, DeadlineExceeded
from isocenter.engine.events import end_reason
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.association.deadline_watch import DeadlineWatch
from isocenter.services.association.invoker import ReceivedResponse
from isocenter.services.association.operation import Provider
from isocenter.services.association.performer import ImmediateResponse, Performer
from isocenter.services.association.state import AssociationOptions
from isocenter.services.net.transport import Transport
from isocenter.services.notices import Caller, Notices

#: Fragments shorter than this on average are no longer a peer's way of sending data.
_TINY_FRAGMENT_BYTES: Final = 64
#: Bytes of such a chunk that go through the engine before others get their turn.
_TINY_FRAGMENTS_AT_ONCE: Final = 2 << 10


#: Answers an A-ASSOCIATE indication.
AssociationRequestHandler = Callable[
    [AssociateRequest], Awaitable[AssociateAccept | AssociateReject]
]


class AssociationDriver(Performer):
    """Carries one association between a transport and the engine.

    Its attributes are those of `AssociationState`.

    Args:
        provider: performs what the peer asks for.
        respond_immediately: responds at once to what waits for nothing.
        decide: as acceptor, answers the A-ASSOCIATE indication.
        deadlines, limits, caller, notices, watch: as in `AssociationOptions`.
    """

    def __init__(
        self,
        transport: Transport,
        role: Role,
        *,
        provider: Provider,
        respond_immediately: ImmediateResponse | None = None,
        decide: AssociationRequestHandler | None = None,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        limits: Limits = DEFAULT_LIMITS,
        caller: Caller | None = None,
        notices: Notices | None = None,
        watch: DeadlineWatch | None = None,
    ) -> None:
        options = AssociationOptions(
            deadlines=deadlines, limits=limits, caller=caller, notices=notices, watch=watch
        )
        super().__init__(transport, role, options, provider, respond_immediately)
        self._decide = decide
        self._sends_tiny_fragments = False

    # Its life.

    async def run(self) -> None:
        """Read until the association has ended and the connection is closed.

        Cancelled from outside it sends A-ABORT, as far as that takes no longer than
        `Deadlines.abort`, and closes the connection.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                with self._watched():
                    try:
                        if self._engine.role is Role.ACCEPTOR:
                            await self._apply_effects(self._engine.transport_opened())
                        await self._read()
                    finally:
                        self._nursery = None  # it may close at any time, and takes no more tasks
            self.released = self._end_reason is None
            self._end(AssociationError("the association was released"))
        except BaseException:
            await self.abort()  # the peer learns that we failed, or are not wanted any more
            raise
        finally:
            self._end(AssociationError("the association was closed here"))
            self.peer_log.log_suppressed()
            await self._close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have somebody look after its deadlines."""
        watch, own = self._watch, None
        if watch is None:
            watch = self._watch = own = DeadlineWatch()
            self._start(own.run)
        watch.add(self)
        try:
            yield
        finally:
            watch.remove(self)
            if own is not None:
                own.stop()

    async def release(self) -> None:
        """A-RELEASE, and wait for its confirmation; after `Deadlines.release` abort.

        Does nothing when the association has ended.
        """
        if self._closed or self._end_reason is not None:
            return
        with trio.move_on_after(self.deadlines.release) as scope:
            async with self._message_lock:
                if not self._engine.allows(commands.RequestRelease()):
                    return
                await self._apply_effects(self._engine.send(commands.RequestRelease()))
            await self.ended.wait()
        if scope.cancelled_caught:
            await self.abort()

    async def request_association(self, request: AssociateRequest) -> None:
        """As requestor, over a connection that stands: Evt1 and Evt2."""
        await self._apply_effects(self._engine.send(commands.RequestAssociation(request)))
        await self._apply_effects(self._engine.transport_opened())

    async def established_or_ended(self) -> None:
        """Wait until the association is established, or has ended."""
        while not (self.established.is_set() or self.ended.is_set()):
            await self._invocation_ended.wait()

    async def _answer(self, request: AssociateRequest) -> None:
        # It is asked once; and whoever decides knows us, which would leave both to the collector.
        decide, self._decide = self._decide, None
        assert decide is not None
        answer = await decide(request)
        if self._engine.is_over:
            return  # what came behind the request, in the same chunk, has ended it already
        if isinstance(answer, AssociateReject):
            self._end_reason = AssociationRejectedError(answer.result, answer.source, answer.reason)
            await self._apply_effects(self._engine.send(commands.RejectAssociation(answer)))
        else:
            await self._apply_effects(self._engine.send(commands.AcceptAssociation(answer)))
            self.established.set()

    async def _answer_release(self) -> None:
        """Confirm at once where nothing is under way; a task for it costs more than the answer."""
        if self._performing or self._message_lock.is_taken:
            self.start_soon(self._accept_release)
        elif self._end_reason is None:
            await self._apply_effects(self._engine.send(commands.AcceptRelease()))

    async def _accept_release(self) -> None:
        """Let what is being performed end, within the deadline, then confirm."""
        with trio.move_on_after(self.deadlines.release):
            while self._performing:
                await self._operation_ended.wait()
            async with self._message_lock:
                if self._end_reason is None:
                    await self._apply_effects(self._engine.send(commands.AcceptRelease()))
                    return
        if self._end_reason is None:
            await self.abort()

    # Reading.

    async def _read(self) -> None:
        engine, transport = self._engine, self.transport
        self._moments.received = self.now()
        while not self._closed:
            if self.wake_at == math.inf:
                self._set_deadline()
            self._is_reading = True
            chunk = await transport.receive()  # ends when the connection is closed, here or there
            self._is_reading = False
            if self.closed.is_set():
                return
            if not chunk:
                await self._apply_effects(engine.transport_closed())
                return
            self.traffic.bytes_received += len(chunk)
            answer = await self._process_chunk(chunk)
            if self._filling is not None:
                await self._filling.until_room()
            if answer:  # bytes that trickle in and come to nothing are no sign of life
                self._moments.received = self.now()

    async def _process_chunk(self, chunk: Buffer) -> bool:
        """A chunk goes through the engine at once, unless the peer sends crumbs: then it is taken
        in pieces, and others get their turn between them.  Whether anything came of it."""
        step = _TINY_FRAGMENTS_AT_ONCE if self._sends_tiny_fragments else len(chunk)
        came = False
        for start in range(0, len(chunk), step):
            before = self._engine.fragments
            piece = chunk if step == len(chunk) else memoryview(chunk)[start : start + step]
            answer = self._engine.receive_data(piece)
            came = came or bool(answer)
            await self._apply_effects(answer)
            fragments = self._engine.fragments - before
            self._sends_tiny_fragments = fragments * _TINY_FRAGMENT_BYTES > len(piece)
            if self._closed:
                break
            if self._sends_tiny_fragments:
                await trio.lowlevel.checkpoint()
        return came

    def look(self) -> None:
        """For the `DeadlineWatch`: a deadline may have passed."""
        self.wake_at = math.inf
        # While what came is worked on, nobody waits for the peer; the reader sets it again.
        if self._is_reading and not self._closed:
            due, _ = self._next_deadline()
            if due > self.now():
                self._set_deadline()
            else:
                self._start(self._handle_timeout)

    async def _handle_timeout(self) -> None:
        due, clock = self._next_deadline()
        if self._closed or self.now() < due:
            return
        if clock is Clock.ARTIM:
            self._moments.artim = math.inf
            await self._apply_effects(self._engine.timer_expired())
        elif clock is Clock.IDLE:
            await self.abort(
                DeadlineExceeded(f"nothing was received for {self.deadlines.idle:g} s")
            )

    # Carrying out what follows.

    async def _apply_effects(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            if self._is_traced:
                self._trace(effect)
            match effect:
                case events.DataSetReceived():
                    await self._part_received(effect)
                case events.MessageReceived():
                    self.traffic.messages_received += 1
                    await self._message_received(effect)
                case effects.SendBytes(buffers):
                    await self._write(buffers)
                case events.CancelReceived(_, cancel):
                    for operation in self._performing:
                        if operation.request.message_id == cancel.message_id_being_responded_to:
                            operation.cancel()
                case effects.StartArtim():
                    self._moments.artim = now = self.now()
                    self._wake_by(now + self.deadlines.association_request)
                case effects.StopArtim():
                    self._moments.artim = math.inf
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
                    self.restart_idle()
                    self.established.set()
                    self._invocation_ended.send()
                case events.ReleaseRequested():
                    if self._filling is not None:  # of its data set nothing more can come
                        self._filling.scope.cancel()
                        self._filling = None
                    self._incoming.forget()
                    await self._answer_release()
                case events.AssociationReleased():
                    if self._engine.is_over:
                        self._finish()
                    else:  # of a collision: the peer waits for our answer
                        await self._answer_release()
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

    async def _message_received(self, event: events.MessageReceived) -> None:
        self._incoming.forget()
        self._filling = None
        message = event.message
        if is_request(message):
            await self._request_received(event, message)
            return
        assert is_response(message)  # C-CANCEL-RQ has an event of its own
        if self._incoming.begin(event) is not None:
            await self._deliver(ReceivedResponse(message, None))

    async def _part_received(self, event: events.DataSetReceived) -> None:
        incoming, filling = self._incoming, self._filling
        arrived = incoming.add(event)
        if filling is not None:
            if arrived is not None:
                filling.complete()
                self._filling = None
        elif (incoming if arrived is None else arrived).status is not None:
            incoming.forget()
            await self.abort(AssociationError("the data set of a response passes its limit"))
        elif arrived is not None:
            assert is_response(arrived.message)
            await self._deliver(ReceivedResponse(arrived.message, arrived.data_set))
