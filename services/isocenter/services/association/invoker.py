"""Invoker of an association: operations that we ask the peer for, within the window."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import trio

from isocenter.engine import commands
from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.message_codec import CCancelRequest, Request, Response
from isocenter.engine.dimse.operations import CANCELLABLE
from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.engine.errors import AssociationError, DeadlineExceeded, LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Role
from isocenter.engine.waiting import Waiting
from isocenter.services.association.sender import MessageSender, Part
from isocenter.services.association.state import AssociationOptions
from isocenter.services.concurrency import Broadcast
from isocenter.services.net.transport import Transport

#: Responses of one invocation that may wait for their reader before the socket does.
_RESPONSE_LOOKAHEAD: Final = 64


@dataclass(frozen=True, slots=True)
class ReceivedResponse:
    """A response message and its data set (an identifier or attribute list), if it has one."""

    message: Response
    data_set: bytes | None


class Invoker(MessageSender):
    """The side of an association that asks the peer, and waits for its responses.

    Attributes:
        gathered: bytes of data sets that operations of now hold whole.
    """

    def __init__(self, transport: Transport, role: Role, options: AssociationOptions) -> None:
        super().__init__(transport, role, options)
        self._invocations: Waiting[Invocation] = Waiting(self._engine.operations)
        self.buffered_bytes = 0

    def next_message_id(self) -> int:
        """A Message ID that no outstanding operation of ours uses (PS3.7 9.1)."""
        return self._engine.operations.next_message_id()

    async def begin(
        self,
        context_id: int,
        request: Request,
        data_set: Buffer | AsyncGenerator[Part, None] | None = None,
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
        self._invocations.begin(request.message_id, invocation)
        self._set_deadline()
        try:
            if data_set is None or isinstance(data_set, bytes | bytearray | memoryview):
                await self.send(commands.SendMessage(context_id, request, data_set))
            else:
                await self.send_streamed(context_id, request, data_set)
        except BaseException:
            self.finish(invocation)
            raise
        return invocation

    async def _room_in_window(self) -> None:
        """Wait until one more operation may be outstanding (PS3.7 D.3.3.3): beside those that were
        sent stand those whose turn to send has not come yet."""
        while self._end_reason is None:
            if not self._engine.operations.is_window_full:
                return
            with trio.move_on_after(self.deadlines.response) as scope:
                await self._invocation_ended.wait()
            # Our own sending may take its time, and has deadlines of its own.
            if scope.cancelled_caught and not self._message_lock.is_taken:
                raise await self.abort_without_response()
        raise self._end_reason

    async def wait_until_none_outstanding(self, kind: type[Request]) -> None:
        """Wait until no request of this *kind* is outstanding, including abandoned ones.

        Raises:
            DeadlineExceeded: one got no final response in time.
        """
        with trio.move_on_after(self.deadlines.response) as scope:
            while self._end_reason is None and any(
                each.kind is kind for each in self._engine.operations.invoked.values()
            ):
                await self._invocation_ended.wait()
        if scope.cancelled_caught:
            raise await self.abort_without_response()

    async def give_up(self) -> None:
        """Tell the peer that nobody waits for it any more: C-CANCEL-RQ for each C-FIND, C-GET and
        C-MOVE that is outstanding, and once they have ended, or `Deadlines.abort` has, A-ABORT.
        It is not cut short when the caller is cancelled.
        """
        for invocation in tuple(self._invocations):
            self.finish(invocation)
        with trio.move_on_after(self.deadlines.abort, shield=True):
            try:
                await self._cancel_all()
            except (AssociationError, LocalProtocolError):
                pass  # it has ended, or this one has
        await self.abort()

    async def _cancel_all(self) -> None:
        """C-CANCEL-RQ for what is outstanding, and wait for its end; what somebody has cancelled
        before has had its time."""
        invoked = self._engine.operations.invoked
        cancelled = []
        for message_id, held in tuple(invoked.items()):
            if held.kind in CANCELLABLE and not held.is_cancelled and self._may_speak():
                cancel = CCancelRequest(message_id_being_responded_to=message_id)
                await self.send(commands.SendMessage(held.context_id, cancel))
                cancelled.append(message_id)
        while self._end_reason is None and any(each in invoked for each in cancelled):
            await self._invocation_ended.wait()

    def _may_speak(self) -> bool:
        """Whether a message can be framed: nothing else is half sent."""
        return not (self._write_incomplete or self._engine.is_sending_data_set)

    async def abort_without_response(self) -> DeadlineExceeded:
        """Give the association up because the peer does not answer; what to raise."""
        error = DeadlineExceeded(
            f"no response within {self.deadlines.response:g} s; the association was aborted"
        )
        await self.abort(error)
        return error

    def finish(self, invocation: Invocation) -> None:
        """Its final response has come, or nobody waits for it: the place is free again."""
        if self._invocations.leave(invocation.request.message_id, invocation):
            invocation.close()
            self._publish_operation_ended(
                invocation.request, invocation.status, invocation.began, as_scp=False
            )
            self._invocation_ended.send()
            self.restart_idle()

    async def invoke(
        self,
        context_id: int,
        request: Request,
        data_set: Buffer | AsyncGenerator[Part, None] | None = None,
    ) -> ReceivedResponse:
        """An operation with a single response, from request to response."""
        invocation = await self.begin(context_id, request, data_set)
        try:
            return await invocation.next()
        finally:
            self.finish(invocation)

    # Responses of the peer.

    async def _deliver(self, response: ReceivedResponse) -> None:
        invocation = self._invocations.of(response.message)
        if invocation is None:  # whoever asked has left; its place in the window is free now
            self._invocation_ended.send()
            return
        await invocation.deliver(response)

    def _end_invocations(self) -> None:
        for invocation in self._invocations:
            invocation.end()


class Invocation:
    """One request of ours while its responses come."""

    def __init__(self, invoker: Invoker, context_id: int, request: Request) -> None:
        self._invoker = invoker
        self.context_id = context_id
        self.request = request
        #: Of the last response that was taken.
        self.status: int | None = None
        self.began = invoker.now()
        self._responses: deque[ReceivedResponse] = deque()
        #: No more comes, or nobody waits for it.
        self._is_over = False
        self._arrived = Broadcast()
        self._taken = Broadcast()
        #: When whoever waits for a response gives up (`DeadlineWatch`).
        self.wake_at = math.inf
        self._is_late = False

    # The driver's side.

    async def deliver(self, response: ReceivedResponse) -> None:
        """A response has come; waits while too many of them wait to be taken."""
        while len(self._responses) >= _RESPONSE_LOOKAHEAD and not self._is_over:
            await self._taken.wait()
        if not self._is_over:
            self._responses.append(response)
            self._arrived.send()

    def end(self) -> None:
        """No response comes any more; those that have come can be taken."""
        self._is_over = True
        self._arrived.send()
        self._taken.send()

    def close(self) -> None:
        """Nobody waits for responses any more."""
        self._responses.clear()
        self.end()

    # The side of whoever asked.

    async def next(self) -> ReceivedResponse:
        """The next response.

        Raises:
            AssociationError: the association ended first.
            DeadlineExceeded: none came in time; the association was aborted.
        """
        if self._responses:
            await trio.lowlevel.checkpoint()  # whoever asks for many lets others have their turn
        else:
            await self._wait()
            if self._is_late and not self._responses:
                raise await self._invoker.abort_without_response()
        if not self._responses:
            raise self._invoker.end_reason()
        received = self._responses.popleft()
        self._taken.send()
        self.status = received.message.status
        return received

    async def _wait(self) -> None:
        """Until a response has come, none comes any more, or it is too late."""
        invoker = self._invoker
        self._is_late = False
        self.wake_at = invoker.now() + invoker.deadlines.response
        invoker.watch.add(self)
        try:
            while not (self._responses or self._is_over or self._is_late):
                await self._arrived.wait()
        finally:
            invoker.watch.remove(self)

    def look(self) -> None:
        """For the `DeadlineWatch`: the time for a response is over."""
        self.wake_at = math.inf
        self._is_late = True
        self._arrived.send()

    async def cancel_and_drain(self) -> None:
        """Cancel, and take what still comes, so that the Message ID is free again."""
        try:
            await self.cancel()
            while classify((await self.next()).message.status) is StatusClass.PENDING:
                pass
        except (AssociationError, LocalProtocolError):
            pass  # it has ended, which is all that was wanted
        finally:
            self._invoker.finish(self)

    async def cancel(self) -> None:
        """Send C-CANCEL-RQ; the peer ends the operation with FE00H, or had ended it already."""
        request = CCancelRequest(message_id_being_responded_to=self.request.message_id)
        await self._invoker.send(commands.SendMessage(self.context_id, request))
