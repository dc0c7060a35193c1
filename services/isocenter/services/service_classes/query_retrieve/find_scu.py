"""The answers to a C-FIND of ours, as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import trio

from isocenter.engine.dimse.message_codec import CFindRequest
from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.negotiation import PresentationContext
from isocenter.services.association import AssociationDriver
from isocenter.services.association.invoker import Invocation
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.errors import OperationError, has_failed

if TYPE_CHECKING:
    import pydicom


class FindResults:
    """The matches of a C-FIND as they come: pydicom data sets, by ``async for``.

    The request leaves with the first match that is asked for.  Leaving the loop, or the context
    when used with ``async with``, sends C-CANCEL-RQ if the peer is not done.  Each step raises
    `OperationError` when the peer ends the query with a failure, or with FE00H unasked, and
    `AssociationError` when the association ends first.

    Attributes:
        status: of the final response, once it has come: 0000H, FE00H after a cancel.
    """

    def __init__(
        self,
        task: AssociationDriver,
        context: PresentationContext,
        request: CFindRequest,
        identifier: bytes,
    ) -> None:
        self.status: int | None = None
        self._task = task
        self._context = context
        self._request = request
        self._identifier = identifier
        self._invocation: Invocation | None = None

    def __aiter__(self) -> FindResults:
        return self

    async def __anext__(self) -> pydicom.Dataset:
        """The next match.

        Raises:
            OperationError: the peer ended the query with a failure, or with FE00H unasked.
            AssociationError: the association ended first.
        """
        data_set = await self.next_encoded()
        if data_set is None:
            raise StopAsyncIteration
        return read_identifier(data_set, self._context.transfer_syntax)

    async def next_encoded(self) -> bytes | None:
        """The next match as it came, in `transfer_syntax`; None after the last.

        Raises:
            OperationError: the peer ended the query with a failure, or with FE00H unasked.
            AssociationError: the association ended first.
        """
        if self.status is not None:
            return None
        if self._invocation is None:
            self._invocation = await self._task.begin(
                self._context.context_id, self._request, self._identifier
            )
        received = await self._invocation.next()
        status = received.message.status
        if classify(status) is StatusClass.PENDING:
            return received.data_set or b""
        self.status = status
        self._task.finish(self._invocation)
        if has_failed(status):
            message = received.message
            raise OperationError(status, message.error_comment)
        return None

    @property
    def transfer_syntax(self) -> str:
        """What `next_encoded` is encoded in."""
        return self._context.transfer_syntax

    async def cancel(self) -> None:
        """C-CANCEL-RQ, and wait for the final response; matches under way are dropped.

        An association that has ended meanwhile is what was wanted, and no error.
        """
        if self._invocation is not None and self.status is None:
            invocation = self._invocation
            self.status = Status.CANCEL
            await invocation.cancel_and_drain()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with trio.move_on_after(self._task.deadlines.abort, shield=True):
            await self.cancel()

    def __del__(self) -> None:
        # The loop was left: nobody can ask for more.
        if self._invocation is not None and self.status is None:
            task, invocation = self._task, self._invocation
            self.status = Status.CANCEL

            task.start_soon(invocation.cancel_and_drain)
