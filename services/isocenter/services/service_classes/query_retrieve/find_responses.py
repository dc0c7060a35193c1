"""C-FIND responses of the SCP (PS3.7 9.1.2): pending in batches, then final."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from math import inf
from typing import Final, ParamSpec, TypeVar

import trio

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.message_codec import CFindRequest, CFindResponse
from isocenter.engine.dimse.status import Status
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.errors import OperationError
from isocenter.services.notices import QueryAnswered

log = logging.getLogger("isocenter.operation")

P = ParamSpec("P")
T = TypeVar("T")

#: Matches in one write at most: about what fits into one segment buffer of the kernel, and
#: what may still leave when a C-CANCEL-RQ has come.
_MOST_TOGETHER: Final = 32


#: Of every C-FIND (PS3.4 Tables C.4-1 and K.4-1).
FIND_STATUSES: Final[Statuses] = {
    Status.SUCCESS: "the end of the matches",
    Status.OUT_OF_RESOURCES: "more matches, a longer identifier, or more time, than is allowed",
    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the identifier does not fit the model or the level, "
    "or a key its VR",
    Status.CANNOT_UNDERSTAND: "the identifier cannot be read",
    Status.CANCEL: "cancelled",
    Status.PENDING: "a match",
    Status.PENDING_WARNING: "a match, and a key that is not matched as it asks",
}


class FindResponses:
    """What a C-FIND is answered, in few writes; made by `begin`.

    Attributes:
        identifier: what was asked, encoded.
        limit: matches of one C-FIND; 0: no limit.
        level: of what is found, as soon as it is known.
        pending: the status of each match: FF00H, or FF01H where keys are not supported.
    """

    def __init__(self, operation: Operation, request: CFindRequest, identifier: bytes) -> None:
        self.identifier = identifier
        self.limit = 0
        self._seconds: float = 0
        self._deadline = inf
        self._timed_out = False
        self.level = ""
        self.pending = Status.PENDING
        self._operation = operation
        self._request = request
        self._found = 0
        self._waiting: list[bytes] = []
        # The first goes out at once, those that follow in ever larger groups.
        self._together = 1

    @classmethod
    async def begin(cls, operation: Operation) -> FindResponses:
        """Take the identifier; from now on the operation can tell what became of it.

        Raises:
            OperationError: 0211H no C-FIND, A900H no identifier, A700H it is too long.
        """
        request = operation.request
        if not isinstance(request, CFindRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        answers = cls(operation, request, await operation.identifier())
        operation.completion_notice = answers._completion_notice
        return answers

    @property
    def seconds(self) -> float:
        """For all of it; 0: no limit."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = trio.current_time() + seconds if seconds else inf

    async def next_of(self, blocks: AsyncIterator[Sequence[T]]) -> Sequence[T] | None:
        """The next block of matches; None: there are no more.

        Raises:
            OperationError: A700H, they took longer than they may.
        """
        return await self.in_time(anext, blocks, None)

    async def in_time(self, ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What *ask* answers; cancelled, it has the database end its statement.

        Raises:
            OperationError: A700H, it takes longer than the C-FIND may.
        """
        if self._deadline == inf:
            return await ask(*args, **kwargs)
        with trio.move_on_at(self._deadline):
            return await ask(*args, **kwargs)
        raise await self._late()

    async def _late(self) -> OperationError:
        """The time is up: what was found leaves, and then this."""
        self._timed_out = True
        await self._send()
        return OperationError(
            Status.OUT_OF_RESOURCES, f"it takes longer than {self._seconds:g} s; narrow the query"
        )

    def report_unsupported(self, keys: Sequence[int]) -> None:
        """These are not matched as they ask: each match says so."""
        if keys:
            self.pending = Status.PENDING_WARNING
            tags = ", ".join(map(tag_text, keys))
            log.debug(
                "%s: not matched: %s", self._operation.association.peer_log.peer_address, tags
            )

    async def add(self, matches: Iterable[bytes]) -> bool:
        """Send matches as they are encoded; False: a C-CANCEL-RQ has come, no more are wanted.

        Raises:
            OperationError: A700H, there are more than `limit`, or the time is up; what was found
                until then has left.
        """
        operation = self._operation
        for match in matches:
            if trio.current_time() >= self._deadline:
                raise await self._late()
            if self.limit and self._found >= self.limit:
                await self._send()
                raise OperationError(
                    Status.OUT_OF_RESOURCES, f"more than {self.limit} matches; narrow the query"
                )
            self._found += 1
            self._waiting.append(match)
            if len(self._waiting) >= self._together:
                await self._send()
                self._together = min(2 * self._together, _MOST_TOGETHER)
                await trio.lowlevel.checkpoint()  # a C-CANCEL-RQ may have come
            if operation.is_cancelled:
                break
        return not operation.is_cancelled

    async def finish(self) -> None:
        """What still waits, and the final response."""
        is_cancelled = self._operation.is_cancelled
        if not is_cancelled:
            await self._send()
        await self._operation.respond(
            self._response(Status.CANCEL if is_cancelled else Status.SUCCESS)
        )

    async def _send(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._operation.respond_pending(self._response(self.pending), waiting)

    def _response(self, status: Status) -> CFindResponse:
        return CFindResponse(
            message_id_being_responded_to=self._request.message_id,
            status=status,
            affected_sop_class_uid=self._request.affected_sop_class_uid,
        )

    def _completion_notice(self) -> QueryAnswered:
        operation = self._operation
        return QueryAnswered(
            caller=operation.association.caller,
            sop_class_uid=operation.context.abstract_syntax,
            transfer_syntax_uid=operation.context.transfer_syntax,
            identifier=self.identifier,
            matches=self._found,
            status=operation.status,
            level=self.level,
            seconds=operation.association.now() - operation.began,
            comment=operation.comment,
            is_late=self._timed_out,
        )
