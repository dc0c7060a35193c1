"""Operations of DIMSE while they go on: those that the peer asked for, and ours.

An `Operation` is performed by a provider: it reads its data set as it comes and
sends responses.  An `Invocation` is what waits for the responses to a request of
ours.  Both belong to an association (`isocenter.services.association`), which
moves the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Self

import trio

from isocenter.engine import commands
from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.message_codec import CCancelRequest, Request, Response
from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import PresentationContext
from isocenter.services.errors import OperationError
from isocenter.services.notices import Notice

if TYPE_CHECKING:
    from isocenter.services.association import AssociationTask
    from isocenter.services.association.invoker import Invoking

#: Responses of one invocation that may wait for their reader before the socket does.
_RESPONSE_LOOKAHEAD: Final = 64

#: Bytes of a data set that may wait for their performer before the socket does: the two take
#: turns less often.
_DATA_LOOKAHEAD: Final = 512 << 10
#: So many data sets of the greatest length may be held whole on one association; real ones are
#: a thousandth of that.
_GATHERED_AT_ONCE: Final = 2
#: The response to what waits for nothing; None: it is for the `Provider`.
Answer = Callable[[PresentationContext, Request], Response | None]
#: Performs one operation: reads its data set, sends its responses.
Provider = Callable[["Operation"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReceivedResponse:
    """A response message and its data set (an identifier or attribute list), if it has one."""

    message: Response
    data_set: bytes | None


class Operation:
    """One request of the peer while it is being performed.

    Attributes:
        association: the association it came on.
        context: the presentation context it came on.
        request: the command set.
        has_data_set: whether a data set follows; it must be read or it is skipped.
        status: of the last response that was sent; None: none was.
        began: when the request came, by trio's clock.
    """

    def __init__(
        self,
        association: AssociationTask,
        context: PresentationContext,
        request: Request,
        has_data_set: bool,
    ) -> None:
        self.association = association
        self.context = context
        self.request = request
        self.has_data_set = has_data_set
        self.scope = trio.CancelScope()
        self.status: int | None = None
        self.began = trio.current_time()
        #: What to tell of it when it has ended, beside that it has.
        self.account: Callable[[], Notice] | None = None
        self._cancelled = False
        self._ready: deque[memoryview] = deque()
        self._ready_bytes = 0
        #: Of its data set, whole in memory until it has ended.
        self._gathered = 0
        self._complete = not has_data_set
        self._abandoned = False
        self._arrived = trio.Event()
        self._consumed = trio.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether a C-CANCEL-RQ for this operation has come."""
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True

    # The lane of the data set: the reader puts, the performer takes.

    def _put(self, data: memoryview) -> None:
        if not self._abandoned and data:
            self._ready.append(data)
            self._ready_bytes += len(data)
        self._arrived.set()

    def _complete_data_set(self) -> None:
        self._complete = True
        self._arrived.set()

    async def _until_room(self) -> None:
        """Backpressure: the reader waits until the performer has taken enough of what came."""
        while self._ready_bytes > _DATA_LOOKAHEAD:
            self._consumed = trio.Event()
            await self._consumed.wait()

    def _abandon(self) -> None:
        """Nobody reads on: what still comes is dropped."""
        self._abandoned = True
        self.association.gathered -= self._gathered
        self._gathered = 0
        self._ready.clear()
        self._ready_bytes = 0
        self._consumed.set()

    def fragments(self) -> Fragments:
        """The data set as it comes: groups of views, valid until the next turn of the loop.

        When the association ends first, the task is cancelled.
        """
        return Fragments(self)

    async def _next_group(self, consumed: int) -> tuple[memoryview, ...]:
        for _ in range(consumed):
            self._ready_bytes -= len(self._ready.popleft())
        if consumed:
            self._consumed.set()
        while not self._ready:
            if self._complete:
                return ()
            self._arrived = trio.Event()
            await self._arrived.wait()
        return tuple(self._ready)

    async def data_set(self, max_bytes: int | None = None) -> bytes:
        """The data set whole: for identifiers and attribute lists, which are small.

        Raises:
            OperationError: A700H out of resources, longer than *max_bytes*
                (default: `Limits.identifier`), or too much together with what the operations
                beside this one have gathered.
        """
        bound = self.association.limits.identifier if max_bytes is None else max_bytes
        gathered = bytearray()
        async for group in self.fragments():
            for data in group:
                gathered += data
            self.association.gathered += len(gathered) - self._gathered
            self._gathered = len(gathered)
            if len(gathered) > bound:
                raise OperationError(0xA700, f"data set longer than {bound} bytes")
            if self.association.gathered > _GATHERED_AT_ONCE * bound:
                raise OperationError(0xA700, "too many long data sets at once")
        return bytes(gathered)

    async def respond(self, response: Response, data_set: Buffer | None = None) -> None:
        """Send a response of this operation, with its identifier or attribute list."""
        await self.association.send(
            commands.SendMessage(self.context.context_id, response, data_set)
        )
        self.status = response.status

    async def respond_pending(self, response: Response, identifiers: Sequence[Buffer]) -> None:
        """Send the same pending response with each of *identifiers*, in one write."""
        await self.association.send_messages(
            self.context.context_id, [(response, identifier) for identifier in identifiers]
        )


class Fragments:
    """The data set of an operation while it comes; may be left at any time."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._taken = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[memoryview]:
        group = await self._operation._next_group(self._taken)
        self._taken = len(group)
        if not group:
            raise StopAsyncIteration
        return group


class Invocation:
    """One request of ours while its responses come."""

    def __init__(self, task: Invoking, context_id: int, request: Request) -> None:
        self._task = task
        self.context_id = context_id
        self.request = request
        #: Of the last response that was taken.
        self.status: int | None = None
        self.began = trio.current_time()
        self._deliver, self._responses = trio.open_memory_channel[ReceivedResponse](
            _RESPONSE_LOOKAHEAD
        )

    async def next(self) -> ReceivedResponse:
        """The next response.

        Raises:
            AssociationError: the association ended first.
            DeadlineExceeded: none came in time; the association was aborted.
        """
        with trio.move_on_after(self._task.deadlines.response) as scope:
            try:
                received = await self._responses.receive()
            except trio.EndOfChannel:
                raise self._task.end_reason() from None
            self.status = received.message.status
            return received
        assert scope.cancelled_caught
        raise await self._task.no_response()

    async def cancel_and_drain(self) -> None:
        """Cancel, and take what still comes, so that the Message ID is free again."""
        try:
            await self.cancel()
            while classify((await self.next()).message.status) is StatusClass.PENDING:
                pass
        except (AssociationError, LocalProtocolError):
            pass  # it has ended, which is all that was wanted
        finally:
            self._task.finish(self)

    async def cancel(self) -> None:
        """Send C-CANCEL-RQ; the peer ends the operation with FE00H, or had ended it already."""
        request = CCancelRequest(message_id_being_responded_to=self.request.message_id)
        await self._task.send(commands.SendMessage(self.context_id, request))
