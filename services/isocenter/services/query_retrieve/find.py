"""Query as SCP (PS3.4 C.4.1): C-FIND, matches streamed from the index."""

from __future__ import annotations

from typing import Final

import trio

from isocenter.engine.dimse.messages import CFindRequest, CFindResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.archive import Archive
from isocenter.services.errors import OperationError
from isocenter.services.notices import QueryAnswered
from isocenter.services.operations import Operation
from isocenter.services.query_retrieve.identifier import encode_match
from isocenter.services.query_retrieve.models import (
    FIND_ROOTS,
    QueryOptions,
    find_offer,
    read_identifier,
    read_query,
)

#: Matches in one write at most: about what fits into one segment buffer of the kernel, and
#: what may still leave when a C-CANCEL-RQ has come.
MOST_TOGETHER: Final = 32


class Find:
    """Performs C-FIND over an archive.

    Args:
        ae_title: what answers name as Retrieve AE Title (0008,0054).
    """

    name = "query"

    def __init__(
        self, archive: Archive, *, ae_title: str, options: QueryOptions | None = None
    ) -> None:
        self._archive = archive
        self._ae_title = ae_title
        self._options = options or QueryOptions()
        self._offer = find_offer(self._options)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in FIND_ROOTS else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, CFindRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        root = FIND_ROOTS[operation.context.abstract_syntax]
        syntax = operation.context.transfer_syntax
        identifier = await read_identifier(operation)
        found = 0
        operation.account = lambda: QueryAnswered(
            caller=operation.association.caller,
            sop_class_uid=operation.context.abstract_syntax,
            transfer_syntax_uid=syntax,
            identifier=identifier,
            matches=found,
            status=operation.status,
        )
        parsed = read_query(operation, identifier, root, self._options, for_retrieve=False)
        pending = CFindResponse(
            message_id_being_responded_to=request.message_id,
            status=Status.PENDING_WARNING if parsed.unsupported else Status.PENDING,
            affected_sop_class_uid=request.affected_sop_class_uid,
        )
        limit = self._options.max_results
        waiting: list[bytes] = []
        together = 1  # the first goes out at once, those that follow in ever larger groups
        async with self._archive.find(parsed.query) as blocks:
            async for block in blocks:
                for match in block:
                    if limit and found >= limit:
                        await operation.respond_pending(pending, waiting)
                        raise OperationError(
                            Status.OUT_OF_RESOURCES, f"more than {limit} matches; narrow the query"
                        )
                    found += 1
                    waiting.append(
                        encode_match(parsed, match, syntax, retrieve_ae_title=self._ae_title)
                    )
                    if len(waiting) >= together:
                        await operation.respond_pending(pending, waiting)
                        waiting = []
                        together = min(2 * together, MOST_TOGETHER)
                        await trio.lowlevel.checkpoint()  # a C-CANCEL-RQ may have come
                    if operation.is_cancelled:
                        break
                if operation.is_cancelled:
                    break
        if waiting and not operation.is_cancelled:
            await operation.respond_pending(pending, waiting)
        status = Status.CANCEL if operation.is_cancelled else Status.SUCCESS
        await operation.respond(
            CFindResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=request.affected_sop_class_uid,
            )
        )
