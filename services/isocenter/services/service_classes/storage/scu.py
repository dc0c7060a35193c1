"""Storage SCU (PS3.4 Annex B): one object, or many over several associations.

An object may end the association that carries it: its file is damaged, the peer cannot bear it,
no answer comes in time.  The others get a new one, for each C-STORE is an operation of its
own (PS3.4 C.4.2.2.1).  Several are on their way at once where the peer agreed to that; which of
them ended the association then shows when those that were not answered are sent one by one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import field
from functools import partial
from typing import Final, Generic, TypeVar

import trio

from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse
from isocenter.engine.errors import (
    AssociationError,
    AssociationRejectedError,
    DeadlineExceeded,
    IsocenterError,
    LocalProtocolError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import PresentationContext
from isocenter.engine.uid import UNCOMPRESSED
from isocenter.services.association.requestor import InvokingAssociation
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.transcoder import (
    SendableObject,
    Transcoder,
    WholeObject,
    cure_for,
)
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import NoPresentationContextError, OperationError, has_failed
from isocenter.services.service_classes.storage.contexts import usable_contexts

#: Objects on their way at once on one association, if the peer agrees (PS3.7 D.3.3.3).
OPERATIONS_WINDOW: Final = 16
#: Associations in a row on which a peer answers nothing, before it is given up.  It may abort at
#: each of a few objects that lie together; at a thousand of them nobody calls a thousand times.
PATIENCE: Final = 10
#: An association counts for so many when the peer was waited for in vain: one object may be
#: what a peer hangs at, a second time it is the peer.
_WAITED_IN_VAIN: Final = 5

#: Result of an A-ASSOCIATE-RJ.
_TRANSIENT: Final = 2
#: Seconds until an association is requested again that a peer rejected for now, one time after
#: the other: it may not have noticed yet that the one before has ended, or rejects one for the
#: other of two that come together.
_PAUSES: Final = (0.2, 0.4, 0.8, 1.6)

T = TypeVar("T")


Open = Callable[[], AbstractAsyncContextManager[InvokingAssociation]]


async def send_object(
    association: InvokingAssociation,
    item: DicomObject,
    *,
    priority: int = 0,
    move_originator: tuple[str, int] | None = None,
    examine: bool = False,
    transcoder: Transcoder | None = None,
    first: str = "",
) -> CStoreResponse | None:
    """One C-STORE, the data set streamed; None when no accepted context fits.

    Args:
        examine: convert what has to be converted once for nothing, before its first byte
            leaves: an object that cannot be then costs no association.
        transcoder: makes what the peer takes of an object whose syntax it does not; the context
            that is preferred and for which that succeeds is taken.
        first: the transfer syntax that is preferred to all others, if that is said.

    Raises:
        AssociationError: the association ended first.
        StorageError, KeyError, OSError, DataSetError, PixelError: the object cannot be read or
            converted; when that shows only in its middle, the association had to be aborted.
    """
    source = item.transfer_syntax_uid
    contexts = usable_contexts(
        association.negotiated,
        item.sop_class_uid,
        source,
        () if transcoder is None else transcoder.targets(source),
        first,
    )
    send = partial(
        _send,
        association,
        priority=priority,
        move_originator=move_originator,
        examine=examine,
    )
    fault: PixelError | None = None
    for context in contexts:
        target = context.transfer_syntax
        if target == source or (target in UNCOMPRESSED and source in UNCOMPRESSED):
            return await send(item, context)
        if transcoder is None:
            continue
        async with AsyncExitStack() as stack:
            try:
                made = await stack.enter_async_context(transcoder.made(item, target))
            except PixelError as error:
                # Another syntax may hold what this one cannot.
                fault = fault or error
                continue
            return await send(made, context)
    if fault is not None:
        raise fault
    return None


async def _send(
    association: InvokingAssociation,
    item: SendableObject,
    context: PresentationContext,
    *,
    priority: int,
    move_originator: tuple[str, int] | None,
    examine: bool,
) -> CStoreResponse:
    is_ready = isinstance(item, WholeObject)
    is_as_stored = isinstance(item, DicomObject) and (
        context.transfer_syntax == item.transfer_syntax_uid
    )
    if examine and not is_ready and not is_as_stored:
        async for _ in item.parts(context.transfer_syntax):
            pass
    request = CStoreRequest(
        message_id=association.next_message_id(),
        affected_sop_class_uid=item.sop_class_uid,
        affected_sop_instance_uid=item.sop_instance_uid,
        priority=priority,
        move_originator_ae_title=move_originator[0] if move_originator else "",
        move_originator_message_id=move_originator[1] if move_originator else None,
    )
    parts = item.parts(context.transfer_syntax)
    response = (await association.invoke(context.context_id, request, parts)).message
    assert isinstance(response, CStoreResponse)
    return response


async def store_object(
    association: InvokingAssociation,
    item: DicomObject,
    *,
    priority: int = 0,
    transcoder: Transcoder | None = None,
) -> CStoreResponse:
    """One C-STORE, the data set streamed; the response, a success or a warning.

    Raises:
        OperationError: the peer did not keep it.
        NoPresentationContextError: none that was accepted can carry it, also not converted.
        AssociationError: the association ended first.
    """
    response = await send_object(association, item, priority=priority, transcoder=transcoder)
    if response is None:
        raise NoPresentationContextError(
            f"the peer accepted no presentation context for {name_of(item.sop_class_uid)} in "
            f"{name_of(item.transfer_syntax_uid)}{cure_for(item.transfer_syntax_uid)}"
        )
    if has_failed(response.status):
        raise OperationError(response.status, response.error_comment, response.offending_elements)
    return response


class Transfer(Generic[T]):
    """What is to be sent to one peer, until it is or cannot be.

    Args:
        send: sends one over an association, and takes down what came of it.  `AssociationError`:
            the association ended before it was answered; then nothing was taken down.
        lose: takes down that the association ended over this one, and why.
        is_over: nothing more is wanted.
        after: called whenever something was taken down; what it raises ends the transfer.
        patience: associations in a row on which the peer answers nothing, before it is given up.
    """

    def __init__(
        self,
        items: Iterable[T],
        *,
        send: Callable[[InvokingAssociation, T], Awaitable[None]],
        lose: Callable[[T, IsocenterError], None],
        is_over: Callable[[], bool] = lambda: False,
        after: Callable[[], Awaitable[None]] | None = None,
        patience: int = PATIENCE,
    ) -> None:
        self._send = send
        self._lose = lose
        self._is_over = is_over
        self._after = after
        self._patience = patience
        self._todo = deque(items)
        #: They were on their way when an association ended: each is sent alone.
        self._suspects: deque[T] = deque()
        self._in_vain = 0
        self._given_up: IsocenterError | None = None
        self._cannot_associate: IsocenterError | None = None
        #: Associations that stand now.
        self._standing = 0

    @property
    def left(self) -> Sequence[T]:
        """What was not sent, and nothing taken down of it."""
        return [*self._suspects, *self._todo]

    @property
    def fault(self) -> IsocenterError | None:
        """Why what is left cannot be sent: the peer was given up, or there was no association
        with it to be had; None: nothing is left, or nobody wants it any more."""
        if not self.left or self._is_over():
            return None
        return self._given_up or self._cannot_associate

    def _is_wanted(self) -> bool:
        has_some = bool(self._suspects or self._todo)
        return has_some and self._given_up is None and not self._is_over()

    async def send_over_associations(self, open_association: Open) -> None:
        """Send all, over one association after the other.

        It may run several times at once: they share the work, and what one cannot send any
        more the others do.
        """
        pauses = iter(_PAUSES)
        while self._is_wanted():
            is_open = is_done = is_answered = False
            ended: IsocenterError | None = None
            try:
                async with open_association() as association:
                    is_open = True
                    self._standing += 1
                    try:
                        is_answered, ended = await self.send_over(association)
                    finally:
                        self._standing -= 1
                    is_done = True
            except IsocenterError as error:
                if not is_open:
                    pause = None if self._standing else next(pauses, None)
                    if pause is None or not _is_transient(error):
                        self._cannot_associate = error
                        return
                    # Not at the same moment as another that was rejected with this one.
                    await trio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                    continue
                if not is_done:
                    raise
                ended = ended or error
            pauses = iter(_PAUSES)
            if not is_answered:
                self._in_vain += _WAITED_IN_VAIN if isinstance(ended, DeadlineExceeded) else 1
                if self._in_vain >= self._patience:
                    self._given_up = ended or AssociationError("it ended without an answer")

    async def send_over(
        self, association: InvokingAssociation
    ) -> tuple[bool, IsocenterError | None]:
        """Send what one association takes, as many at once as it was negotiated for.

        Returns:
            Whether something was answered, and why the association is of no more use.
        """
        flight: _Flight[T] = _Flight(association)
        while self._is_wanted() and flight.goes_on():
            if self._suspects:
                await self._send_one(flight, self._suspects.popleft())
            else:
                await self._send_several(flight)
        if len(flight.unanswered) == 1 and not flight.may_be_innocent:
            assert flight.ended is not None
            self._lose(flight.unanswered[0], flight.ended)
            await self._after_recorded()
        else:
            self._suspects.extend(flight.unanswered)
        return flight.is_answered, flight.ended

    async def _send_several(self, flight: _Flight[T]) -> None:
        broken: list[Exception] = []

        async def one_after_the_other() -> None:
            try:
                while self._todo and not self._suspects and self._is_wanted() and flight.goes_on():
                    await self._send_one(flight, self._todo.popleft())
            except Exception as error:
                # The nursery would wrap it.
                broken.append(error)
                nursery.cancel_scope.cancel()

        window = flight.association.negotiated.operations_invoked or OPERATIONS_WINDOW
        async with trio.open_nursery() as nursery:
            for _ in range(min(window, OPERATIONS_WINDOW, len(self._todo))):
                nursery.start_soon(one_after_the_other)
        if broken:
            raise broken[0]

    async def _send_one(self, flight: _Flight[T], item: T) -> None:
        try:
            await self._send(flight.association, item)
        except trio.Cancelled:
            self._todo.appendleft(item)
            raise
        except (AssociationError, LocalProtocolError) as error:
            flight.ended = flight.ended or error
            flight.unanswered.append(item)
            return
        flight.is_answered = True
        # One that could not be read to its end has ended the association, and not another.
        flight.may_be_innocent |= flight.association.ended.is_set()
        self._in_vain = 0
        await self._after_recorded()

    async def _after_recorded(self) -> None:
        if self._after is not None:
            await self._after()


def _is_transient(error: IsocenterError) -> bool:
    """Whether the peer said that it may be otherwise soon (PS3.8 Table 9-21)."""
    return isinstance(error, AssociationRejectedError) and error.result == _TRANSIENT


@dataclass(slots=True)
class _Flight(Generic[T]):
    """What is on its way over one association.

    Attributes:
        is_answered: something was, or could not be sent for a reason of its own.
        ended: why the association is of no more use.
        unanswered: what was on its way then.
        may_be_innocent: something else may have ended it.
    """

    association: InvokingAssociation
    is_answered: bool = False
    ended: IsocenterError | None = None
    unanswered: list[T] = field(default_factory=list)
    may_be_innocent: bool = False

    def goes_on(self) -> bool:
        return self.ended is None and not self.association.ended.is_set()
