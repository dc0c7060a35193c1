"""Retrieve as SCP by C-GET (PS3.4 C.4.3): sub-operations on the same association."""

from __future__ import annotations

from isocenter.engine.dimse.message_codec import CGetRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.dimse.suboperations import SubOperations
from isocenter.engine.errors import IsocenterError
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.read_ahead import reading_ahead
from isocenter.services.association.operation import Operation
from isocenter.services.association.requestor import InvokingAssociation
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.query_retrieve.information_models import (
    GET_ROOTS,
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
from isocenter.services.service_classes.storage.scu import Transfer


class GetScp:
    """Performs C-GET over an archive; the requestor has to take the SCP role for what it wants.

    Args:
        backlog: of all retrieve services of the process.
        transcoder: makes what the requestor takes, where it does not take what is stored.
    """

    name = "get"
    statuses = RETRIEVE_STATUSES
    gives_deidentified = True

    def __init__(
        self,
        archive: Archive,
        *,
        options: QueryOptions | None = None,
        backlog: RetrieveBacklog | None = None,
        transcoder: Transcoder | None = None,
    ) -> None:
        self._archive = archive
        self._transcoder = transcoder
        self._backlog = backlog or RetrieveBacklog()
        self.options = options or QueryOptions()
        self._offer = retrieve_offer(self.options)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in GET_ROOTS else None

    def retrieval(self, operation: Operation, identifier: bytes) -> Retrieval:
        """What is asked for; raises as `retrieve_query`."""
        root = GET_ROOTS[operation.context.abstract_syntax]
        return Retrieval(retrieve_query(operation, identifier, root, self.options).query)

    async def perform(self, operation: Operation) -> None:
        if not isinstance(operation.request, CGetRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        destination = operation.association.caller.calling_ae_title
        with publishing_failure(operation, destination) as asked:
            await self._perform(operation, asked)

    async def _perform(self, operation: Operation, asked: RequestedStudies) -> None:
        retrieval = self.retrieval(operation, await operation.identifier())
        asked.read_query(retrieval.query)
        archive = self._archive.seen_by(operation.project)
        async with (
            self._backlog.instances_of(
                archive,
                await followed(retrieval.query, links_for(operation, self.options)),
                self.options.max_suboperations,
                reader=f"C-GET of {operation.association.caller.calling_ae_title}",
            ) as instances,
            reading_ahead(archive, instances) as ahead,
        ):
            await retrieval.check_first(instances, ahead)
            progress = SubOperationProgress(operation, SubOperations(len(instances)))
            caller = operation.association.caller
            progress.publish_start(
                instances, destination=caller.calling_ae_title, destination_address=caller.address
            )

            async def send(association: InvokingAssociation, instance: StoredInstance) -> None:
                # There is no other association to go on with.
                status = await send_instance(
                    ahead,
                    association,
                    instance,
                    destination=association.negotiated.calling_ae_title,
                    examine=True,
                    blame=progress.record_failure,
                    transcoder=self._transcoder,
                    change=retrieval.change,
                )
                progress.count(instance, status)

            def lose(instance: StoredInstance, error: IsocenterError) -> None:
                progress.record_failure(
                    f"instance {instance.sop_instance_uid} was not taken: {error}"
                )
                progress.count(instance, None)

            transfer = Transfer(
                instances,
                send=send,
                lose=lose,
                is_over=lambda: operation.is_cancelled,
                after=progress.pending_before_next,
            )
            _, ended = await transfer.send_over(operation.association)
            if ended is not None:
                raise ended
            await progress.final(Status.CANCEL if transfer.left else None)
