"""The reader of an association: what comes goes through the engine, and what follows is done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, assert_never, cast

import trio

from isocenter.engine import commands, effects, events
from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.messages import CCancelRequest, Message, Response, is_request
from isocenter.engine.driving import end_reason
from isocenter.engine.effects import Effect
from isocenter.engine.errors import AssociationError, AssociationRejectedError
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import AssociateReject, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.services.association.invoking import Invoking
from isocenter.services.association.performing import Performing
from isocenter.services.association.state import Inbound
from isocenter.services.errors import DeadlineExceeded
from isocenter.services.operations import ReceivedResponse

#: Fragments shorter than this on average are no longer a peer's way of sending data.
_CRUMB_BYTES: Final = 64
#: Bytes of such a chunk that go through the engine before others get their turn.
_CRUMBS_AT_ONCE: Final = 2 << 10


class AssociationTask(Invoking, Performing):
    """Carries one association between a transport and the engine.

    Its attributes are those of `AssociationState`.
    """

    # Its life.

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

    async def request_association(self, request: AssociateRequest) -> None:
        """As requestor, over a connection that stands: Evt1 and Evt2."""
        await self._carry_out(self._engine.send(commands.RequestAssociation(request)))
        await self._carry_out(self._engine.transport_opened())

    async def established_or_ended(self) -> None:
        """Until it is known whether the association stands."""
        while not (self.established.is_set() or self.ended.is_set()):
            await self._invocation_ended.wait()

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

    # Reading.

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

    # Carrying out what follows.

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
                    self.restart_idle()
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

    async def _message_received(
        self, context_id: int, message: Message, has_data_set: bool
    ) -> None:
        self._inbound = Inbound()
        if is_request(message):
            await self._request_received(context_id, message, has_data_set)
            return
        assert not isinstance(message, CCancelRequest)  # has an event of its own
        response = cast(Response, message)
        if has_data_set:
            self._inbound.response = response
        else:
            await self._deliver(ReceivedResponse(response, None))
