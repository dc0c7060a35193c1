"""Operation that the peer asked for, while it is performed (PS3.7).

A provider reads its data set as it comes and sends responses; the association, which moves the
bytes, has a side of its own: it puts data, waits for room, and abandons.  What we ask the peer
for is an `Invocation` (`isocenter.services.association.invoker`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self

import trio

from isocenter.engine import commands
from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.message_codec import (
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    Request,
    Response,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import PresentationContext
from isocenter.services.association.invoker import Invoker
from isocenter.services.concurrency import Broadcast
from isocenter.services.errors import OperationError
from isocenter.services.notices import Notice

#: Bytes of a data set that may wait for their performer before the socket does: the two take
#: turns less often.
_DATA_LOOKAHEAD: Final = 512 << 10
#: So many data sets of the greatest length may be held whole on one association; real ones are
#: a thousandth of that.
_BUFFERED_AT_ONCE: Final = 2
#: Performs one operation: reads its data set, sends its responses.
Provider = Callable[["Operation"], Awaitable[None]]


class Operation:
    """One request of the peer while it is being performed.

    Attributes:
        association: the association it came on: its ``caller`` (AE title, address, certificate,
            user) and what was ``negotiated``.
        context: the presentation context it came on, with abstract and transfer syntax.
        request: the command set.
        has_data_set: whether a data set follows; it must be read or it is skipped.
        status: of the last response that was sent; None: none was.
        began: when the request came, by trio's clock.
    """

    def __init__(
        self,
        association: Invoker,
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
        #: Why it failed, in the words of the response.
        self.comment = ""
        self.began = association.now()
        #: What to tell of it when it has ended, beside that it has.
        self.completion_notice: Callable[[], Notice] | None = None
        self._cancelled = False
        self._ready: deque[memoryview] = deque()
        self._ready_bytes = 0
        #: Of its data set, whole in memory until it has ended.
        self._buffered_bytes = 0
        self._complete = not has_data_set
        self._abandoned = False
        self._arrived = Broadcast()
        self._consumed = Broadcast()

    @property
    def project(self) -> str:
        """Name of the project of de-identification to which the caller belongs; empty: to none."""
        grant = self.association.grant
        return "" if grant is None else grant.project

    @property
    def is_cancelled(self) -> bool:
        """Whether a C-CANCEL-RQ for this operation has come."""
        return self._cancelled

    def cancel(self) -> None:
        """A C-CANCEL-RQ for this operation has come."""
        self._cancelled = True

    # The driver's side: the reader puts, and waits for the performer, who takes.

    def put(self, data: memoryview) -> None:
        """A part of the data set has come."""
        if not self._abandoned and data:
            self._ready.append(data)
            self._ready_bytes += len(data)
        self._arrived.send()

    def complete(self) -> None:
        """The data set has come to its end."""
        self._complete = True
        self._arrived.send()

    async def until_room(self) -> None:
        """Backpressure: the reader waits until the performer has taken enough of what came."""
        while self._ready_bytes > _DATA_LOOKAHEAD:
            await self._consumed.wait()

    def abandon(self) -> None:
        """Drop the rest of the data set; release the memory that it holds."""
        self._abandoned = True
        self.association.buffered_bytes -= self._buffered_bytes
        self._buffered_bytes = 0
        self._ready.clear()
        self._ready_bytes = 0
        self._consumed.send()

    # The provider's side.

    def fragments(self) -> Fragments:
        """The data set as it comes: groups of views, valid until the next turn of the loop.

        When the association ends first, the task is cancelled.
        """
        return Fragments(self)

    async def _next_group(self, consumed: int) -> tuple[memoryview, ...]:
        for _ in range(consumed):
            self._ready_bytes -= len(self._ready.popleft())
        if consumed:
            self._consumed.send()
        while not self._ready:
            if self._complete:
                return ()
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
            self.association.buffered_bytes += len(gathered) - self._buffered_bytes
            self._buffered_bytes = len(gathered)
            if len(gathered) > bound:
                raise OperationError(Status.OUT_OF_RESOURCES, f"data set longer than {bound} bytes")
            if self.association.buffered_bytes > _BUFFERED_AT_ONCE * bound:
                raise OperationError(Status.OUT_OF_RESOURCES, "too many long data sets at once")
        return bytes(gathered)

    async def identifier(self) -> bytes:
        """The identifier of a query or retrieval, whole.

        Raises:
            OperationError: A900H, there is none; A700H, of a retrieval A702H, it is too long.
        """
        if not self.has_data_set:
            raise OperationError(
                Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "request without an identifier"
            )
        try:
            return await self.data_set()
        except OperationError as error:
            raise OperationError(out_of_resources(self.request), error.comment) from error

    async def respond(self, response: Response, data_set: Buffer | None = None) -> None:
        """Send a response of this operation, with its identifier or attribute list.

        Raises:
            AssociationError: the association has ended; `Service.perform` need not catch it.
            LocalProtocolError: it is no response to this request, or the last one has been sent.
        """
        await self.association.send(
            commands.SendMessage(self.context.context_id, response, data_set)
        )
        self.status = response.status

    async def respond_progress(self, response: Response) -> None:
        """Send a pending response without a data set; it may leave with what is sent next.

        Raises:
            AssociationError, LocalProtocolError: as `respond`.
        """
        await self.association.send_followed(self.context.context_id, response)
        self.status = response.status

    async def respond_pending(self, response: Response, identifiers: Sequence[Buffer]) -> None:
        """Send the same pending response with each of *identifiers*, in one write.

        Raises:
            AssociationError, LocalProtocolError: as `respond`.
        """
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


def out_of_resources(request: Request) -> Status:
    """The status of a response when something is used up."""
    match request:
        case CMoveRequest() | CGetRequest():
            return Status.UNABLE_TO_PERFORM_SUBOPERATIONS
        case CStoreRequest() | CFindRequest():
            return Status.OUT_OF_RESOURCES
        case _:
            return Status.RESOURCE_LIMITATION
