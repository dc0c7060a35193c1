"""Retrieve as SCP by C-MOVE (PS3.4 C.4.2): sub-operations over associations of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.engine.dimse.message_codec import CMoveRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.dimse.suboperations import SubOperations
from isocenter.engine.errors import AssociationError, IsocenterError
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.read_ahead import ReadAhead, reading_ahead
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.association.destination_slots import LOOK_SECONDS, Place, Places
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Connector, Context, InvokingAssociation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.query_retrieve.information_models import (
    MOVE_ROOTS,
    ObjectChange,
    QueryOptions,
    Retrieval,
    links_for,
    retrieve_offer,
    retrieve_query,
)
from isocenter.services.service_classes.query_retrieve.suboperations import (
    RETRIEVE_STATUSES,
    RequestedStudies,
    RetrieveBacklog,
    SubOperationProgress,
    publishing_failure,
    send_instance,
)
from isocenter.services.service_classes.storage.contexts import no_targets, plan_associations
from isocenter.services.service_classes.storage.scu import OPERATIONS_WINDOW, Transfer

log = logging.getLogger("isocenter.retrieve")

#: While a place is waited for, the requestor is told that often that we are at it.
_TELL_SECONDS: Final = 10.0
#: One more association costs a few round trips: worth it for so many instances.
_INSTANCES_PER_ASSOCIATION: Final = 16


class MoveScp:
    """Performs C-MOVE over an archive.

    Args:
        destination: a peer by its AE title; None when it is unknown (A801H).
        why_closed: why nothing is sent to a destination now (A702H); empty: it is.
        connect: how associations to destinations are opened.
        backlog: of all retrieve services of the process.
        places: how many associations with one destination may be requested at once.
        place_seconds: how long a place is waited for.
        transcoder: makes what a destination takes, where it does not take what is stored.
    """

    name = "move"
    gives_deidentified = True
    statuses: Statuses = {  # noqa: RUF012  (nobody changes it)
        **RETRIEVE_STATUSES,
        Status.UNABLE_TO_PERFORM_SUBOPERATIONS: (
            f"{RETRIEVE_STATUSES[Status.UNABLE_TO_PERFORM_SUBOPERATIONS]}; or the destination is "
            "held, or sent to in other hours"
        ),
        Status.MOVE_DESTINATION_UNKNOWN: "the destination is no peer of ours",
    }

    def __init__(
        self,
        archive: Archive,
        *,
        destination: Callable[[str], Peer | None],
        connect: Connector,
        why_closed: Callable[[str], str] = lambda ae_title: "",
        options: QueryOptions | None = None,
        backlog: RetrieveBacklog | None = None,
        places: Places | None = None,
        place_seconds: float = 300.0,
        transcoder: Transcoder | None = None,
    ) -> None:
        self._transcoder = transcoder
        self._archive = archive
        self._backlog = backlog or RetrieveBacklog()
        self._destination = destination
        self._connect = connect
        self._why_closed = why_closed
        self.options = options or QueryOptions()
        self._places = places or Places(1)
        self._place_seconds = place_seconds
        self._offer = retrieve_offer(self.options)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in MOVE_ROOTS else None

    def retrieval(self, operation: Operation, identifier: bytes) -> Retrieval:
        """What is asked for; raises as `retrieve_query`."""
        root = MOVE_ROOTS[operation.context.abstract_syntax]
        return Retrieval(retrieve_query(operation, identifier, root, self.options).query)

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, CMoveRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        with publishing_failure(operation, request.move_destination) as asked:
            await self._perform(operation, request, asked)

    async def _perform(
        self, operation: Operation, request: CMoveRequest, asked: RequestedStudies
    ) -> None:
        peer_log = operation.association.peer_log
        retrieval = self.retrieval(operation, await operation.identifier())
        asked.read_query(retrieval.query)
        peer = self._destination(request.move_destination)
        if peer is None:
            peer_log.write(
                log,
                logging.WARNING,
                "C-MOVE destination %r is unknown; add it with --peer %s@host:port",
                request.move_destination,
                request.move_destination,
            )
            asked.why = f"the destination {request.move_destination!r} is no peer of ours"
            raise OperationError(Status.MOVE_DESTINATION_UNKNOWN, "move destination unknown")
        asked.why = self._why_closed(request.move_destination)
        if asked.why:
            log.info("C-MOVE to %s is refused: %s", request.move_destination, asked.why)
            raise OperationError(
                Status.UNABLE_TO_PERFORM_SUBOPERATIONS, "nothing is sent there now"
            )
        archive = self._archive.seen_by(operation.project)
        async with self._backlog.instances_of(
            archive,
            await followed(retrieval.query, links_for(operation, self.options)),
            self.options.max_suboperations,
            reader=f"C-MOVE of {operation.association.caller.calling_ae_title}",
        ) as instances:
            async with reading_ahead(archive, instances[:1]) as ahead:
                await retrieval.check_first(instances, ahead)
            await self._send(operation, request, peer, instances, archive, retrieval.change)

    async def _send(
        self,
        operation: Operation,
        request: CMoveRequest,
        peer: Peer,
        instances: Sequence[StoredInstance],
        archive: ReadableArchive,
        change: ObjectChange | None,
    ) -> None:
        peer_log = operation.association.peer_log
        progress = SubOperationProgress(operation, SubOperations(len(instances)))
        progress.publish_start(
            instances,
            destination=request.move_destination,
            destination_address=f"{peer.host}:{peer.port}",
        )
        originator = (operation.association.negotiated.calling_ae_title, request.message_id)
        groups = plan_associations(
            instances,
            lambda item: (
                item.sop_class_uid,
                archive.leaving_syntax(item, request.move_destination),
            ),
            no_targets if self._transcoder is None else self._transcoder.targets,
        )
        for contexts, group in groups:
            if operation.is_cancelled:
                break
            async with reading_ahead(archive, group) as ahead:
                transfer = self._transfer(
                    operation, peer, group, progress, originator, ahead, change
                )
                fault: object = None
                place = await self._place(operation, peer, progress)
                if place is not None:
                    # Cancelled meanwhile, it has nothing to send and gives the place back.
                    await self._over_associations(transfer, peer, contexts, place)
                    fault = transfer.fault
                elif not operation.is_cancelled:
                    fault = f"no association was free within {self._place_seconds:g} s"
            if fault is not None:
                peer_log.write(
                    log,
                    logging.ERROR,
                    "C-MOVE to %s: %s; %d instances were not sent",
                    peer,
                    fault,
                    len(transfer.left),
                )
                progress.fail_rest(transfer.left, str(fault))
                await progress.pending()
        await progress.final(
            Status.CANCEL if operation.is_cancelled and progress.counters.remaining else None
        )

    def _transfer(
        self,
        operation: Operation,
        peer: Peer,
        instances: Sequence[StoredInstance],
        progress: SubOperationProgress,
        originator: tuple[str, int],
        ahead: ReadAhead,
        change: ObjectChange | None,
    ) -> Transfer[StoredInstance]:
        async def send(association: InvokingAssociation, instance: StoredInstance) -> None:
            status = await send_instance(
                ahead,
                association,
                instance,
                destination=association.negotiated.called_ae_title,
                move_originator=originator,
                blame=progress.record_failure,
                transcoder=self._transcoder,
                change=change,
            )
            progress.count(instance, status)

        def lose(instance: StoredInstance, error: IsocenterError) -> None:
            operation.association.peer_log.write(
                log,
                logging.ERROR,
                "C-MOVE to %s: instance %s was not taken: %s",
                peer,
                instance.sop_instance_uid,
                error,
            )
            progress.record_failure(f"instance {instance.sop_instance_uid} was not taken: {error}")
            progress.count(instance, None)

        return Transfer(
            instances,
            send=send,
            lose=lose,
            is_over=lambda: operation.is_cancelled,
            after=progress.pending,
        )

    async def _place(
        self, operation: Operation, peer: Peer, progress: SubOperationProgress
    ) -> Place | None:
        """A place at the destination; None: there was none in time, or before a C-CANCEL-RQ.

        Raises:
            AssociationError: the one that asked for all this has gone.
        """
        place = self._places.take_now(peer.ae_title)
        if place is not None:
            return place
        log.info("C-MOVE to %s waits: %d associations are under way", peer, self._places.most)
        failures: list[AssociationError] = []

        async def watch() -> None:
            """The requestor may lose patience, and is told that we are at it."""
            told = trio.current_time()
            while not operation.is_cancelled:
                await trio.sleep(LOOK_SECONDS)
                if trio.current_time() - told >= _TELL_SECONDS:
                    told = trio.current_time()
                    try:
                        await progress.pending()
                    except AssociationError as error:
                        failures.append(error)
                        break
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + self._place_seconds
                nursery.start_soon(watch)
                place = await self._places.take(peer.ae_title)
                nursery.cancel_scope.cancel()
            if failures:
                raise failures[0]
        except BaseException:
            if place is not None:
                place.give_back()
            raise
        return place

    async def _over_associations(
        self,
        transfer: Transfer[StoredInstance],
        peer: Peer,
        contexts: Sequence[Context],
        place: Place,
    ) -> None:
        """Over *place*, and as many more as there are now and as are worth it.

        Raises:
            AssociationError: the one that asked for all this has gone.
        """
        failures: list[AssociationError] = []

        async def over(place: Place) -> None:
            try:
                with place:
                    await transfer.send_over_associations(
                        lambda: self._connect(peer, contexts, operations_window=OPERATIONS_WINDOW)
                    )
            except AssociationError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(over, place)
            for _ in range(len(transfer.left) // _INSTANCES_PER_ASSOCIATION):
                more = self._places.take_now(peer.ae_title)
                if more is None:
                    break
                nursery.start_soon(over, more)
        if failures:
            raise failures[0]
