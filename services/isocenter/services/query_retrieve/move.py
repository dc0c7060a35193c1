"""Retrieve as SCP by C-MOVE (PS3.4 C.4.2): sub-operations over associations of their own."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from isocenter.engine.dimse.messages import CMoveRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.dimse.suboperations import SubOperations
from isocenter.engine.errors import AssociationError
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.archive import Archive
from isocenter.services.client import Connector, Context, plan_associations
from isocenter.services.errors import OperationError
from isocenter.services.operations import Operation
from isocenter.services.peer import Peer
from isocenter.services.ports import StoredInstance
from isocenter.services.query_retrieve.models import (
    MOVE_ROOTS,
    QueryOptions,
    read_identifier,
    read_query,
    retrieve_offer,
)
from isocenter.services.query_retrieve.suboperations import (
    OPERATIONS_WINDOW,
    Backlog,
    Progress,
    send_instances,
)

log = logging.getLogger("isocenter.retrieve")

#: One more association costs a few round trips: worth it for so many instances.
_INSTANCES_PER_ASSOCIATION: Final = 16


class Move:
    """Performs C-MOVE over an archive.

    Args:
        destination: a peer by its AE title; None when it is unknown (A801H).
        connect: how associations to destinations are opened.
        backlog: of all retrieve services of the process.
        associations: with one destination at once.
    """

    name = "move"

    def __init__(
        self,
        archive: Archive,
        *,
        destination: Callable[[str], Peer | None],
        connect: Connector,
        options: QueryOptions | None = None,
        backlog: Backlog | None = None,
        associations: int = 1,
    ) -> None:
        self._archive = archive
        self._backlog = backlog or Backlog()
        self._destination = destination
        self._connect = connect
        self._options = options or QueryOptions()
        self._associations = associations
        self._offer = retrieve_offer(self._options)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in MOVE_ROOTS else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        complaints = operation.association.complaints
        if not isinstance(request, CMoveRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        root = MOVE_ROOTS[operation.context.abstract_syntax]
        identifier = await read_identifier(operation)
        parsed = read_query(operation, identifier, root, self._options, for_retrieve=True)
        peer = self._destination(request.move_destination)
        if peer is None:
            complaints.add(
                log,
                logging.WARNING,
                "C-MOVE destination %r is unknown; add it with --peer %s@host:port",
                request.move_destination,
                request.move_destination,
            )
            raise OperationError(Status.MOVE_DESTINATION_UNKNOWN, "move destination unknown")
        async with self._backlog.instances_of(
            self._archive, parsed.query, self._options.max_suboperations
        ) as instances:
            await self._send(operation, request, peer, instances)

    async def _send(
        self,
        operation: Operation,
        request: CMoveRequest,
        peer: Peer,
        instances: Sequence[StoredInstance],
    ) -> None:
        complaints = operation.association.complaints
        progress = Progress(operation, SubOperations(len(instances)))
        progress.tell(
            instances,
            destination=request.move_destination,
            destination_address=f"{peer.host}:{peer.port}",
        )
        originator = (operation.association.negotiated.calling_ae_title, request.message_id)
        groups = plan_associations(
            instances, lambda item: (item.sop_class_uid, item.transfer_syntax_uid)
        )
        for contexts, group in groups:
            todo = deque(group)

            async def send(
                contexts: Sequence[Context] = contexts, todo: deque[StoredInstance] = todo
            ) -> None:
                async with self._connect(
                    peer, contexts, operations_window=OPERATIONS_WINDOW
                ) as association:
                    await send_instances(
                        self._archive,
                        association.task,
                        todo,
                        progress,
                        lambda: operation.is_cancelled,
                        move_originator=originator,
                    )

            if not operation.is_cancelled:
                failure = await self._over_associations(send, todo)
                if failure is not None and operation.association.ended.is_set():
                    raise failure
            if todo and not operation.is_cancelled:
                complaints.add(
                    log,
                    logging.ERROR,
                    "C-MOVE to %s: %s; %d instances were not sent",
                    peer,
                    failure,
                    len(todo),
                )
                progress.fail_rest(todo)
                await progress.pending()
        await progress.final(
            Status.CANCEL if operation.is_cancelled and progress.counters.remaining else None
        )

    async def _over_associations(
        self, send: Callable[[], Awaitable[None]], todo: Sequence[StoredInstance]
    ) -> AssociationError | None:
        """Have *send* work on *todo* over as many associations as are worth it.

        The destination may refuse or lose some; what they did not send, the others do.

        Returns:
            Why the first that ended early did.
        """
        failures: list[AssociationError] = []

        async def over_one() -> None:
            try:
                await send()
            except AssociationError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(self._associations, 1 + len(todo) // _INSTANCES_PER_ASSOCIATION)):
                nursery.start_soon(over_one)
        return failures[0] if failures else None
