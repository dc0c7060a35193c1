"""Storage service class as SCP (PS3.4 Annex B): objects into the archive.

The data set is written as it arrives and kept as it arrived.  The response leaves
when the object is durable and the index knows it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.extended_negotiation import (
    ElementCoercion,
    SignatureLevel,
    StorageLevel,
    StorageSupport,
)
from isocenter.engine.items import CommonExtendedNegotiation
from isocenter.engine.negotiation import Offer, PresentationContext, general_offer
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ingest import Ingest
from isocenter.services.archive.store_answers import stored_notice
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.uid_registry import (
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    is_known_for_no_objects,
    is_private,
)
from isocenter.services.errors import OperationError
from isocenter.services.notices import InstanceRefused

log = logging.getLogger("isocenter.storage")

#: The Storage Service Class (PS3.4 B.3.1, Service-class-UID).
STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"


def _is_of_storage(related: CommonExtendedNegotiation) -> bool:
    """Whether a SOP class can be one of stored objects, and its sender says that it is."""
    return related.service_class_uid == STORAGE_SERVICE_CLASS and not is_known_for_no_objects(
        related.sop_class_uid
    )


#: Data sets are kept as they come: every attribute, every signature, no coercion.
_SUPPORT: Final = StorageSupport(
    level=StorageLevel.FULL, signatures=SignatureLevel.PRESERVED
).encode()
#: There are rules that change attributes, but never what is signed.
_COERCING_SUPPORT: Final = StorageSupport(
    level=StorageLevel.FULL,
    signatures=SignatureLevel.PRESERVED,
    coercion=ElementCoercion.MAY,
).encode()


class StorageScp:
    """Performs C-STORE into an archive.

    Args:
        transfer_syntaxes: accepted, in the order of preference.
        private_sop_classes: whether SOP classes outside of DICOM's root are accepted.
        specialized_sop_classes: whether SOP classes that nobody here knows are accepted of
            requestors that relate them to one that is (PS3.7 D.3.3.6).
        stores: whether objects are taken at all; where not, a peer gets contexts for what C-GET
            brings it, and C-STORE is refused.
    """

    name = "storage"
    #: The archive judges them by its own rule, and tells of what it refuses.
    takes_raw_uids = True
    statuses: Final[Statuses] = {
        Status.SUCCESS: "it is durable and can be found, or was there already with the same bytes",
        Status.DUPLICATE_SOP_INSTANCE: "another object has its UID, and duplicates are rejected",
        Status.INVALID_SOP_INSTANCE: "a UID is none",
        Status.NOT_AUTHORIZED: "a rejection note has rejected it, and it is not taken again",
        Status.OUT_OF_RESOURCES: "no room or memory, or over a limit",
        Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "command and data set name different objects, "
        "or the data set no study or series, or another patient than its study's, and that is "
        "rejected; or it is not valid by its IOD, and such are",
        Status.SUBOPERATIONS_WITH_FAILURES: "kept, and changed on arrival, or naming another "
        "patient than its study came with",
        Status.DATA_SET_MISMATCH: "another object with its UID is kept, and this one is not; or it "
        "is kept, and not valid by its IOD",
        Status.CANNOT_UNDERSTAND: "no data set, or none that can be read",
    }

    def __init__(
        self,
        archive: Archive,
        *,
        transfer_syntaxes: Sequence[str] = tuple(TRANSFER_SYNTAXES),
        private_sop_classes: bool = False,
        specialized_sop_classes: bool = True,
        stores: bool = True,
    ) -> None:
        self._archive = archive
        self._private = private_sop_classes
        self._stores = stores
        # A requestor that proposes the SCP role for itself wants to retrieve with C-GET.
        self._offer = Offer(
            transfer_syntaxes=tuple(transfer_syntaxes),
            scu_role=True,
            scp_role=True,
            extended=lambda _: _COERCING_SUPPORT if archive.rules.has_edits else _SUPPORT,
            takes_related=_is_of_storage if specialized_sop_classes else None,
        )
        self._retrieve_offer = replace(self._offer, scu_role=False, extended=None)

    def offer(self, abstract_syntax: str) -> Offer | None:
        known = abstract_syntax in STORAGE_SOP_CLASSES or (
            self._private and is_private(abstract_syntax)
        )
        if not known:
            return None
        takes = self._stores and self._archive.intake.takes(abstract_syntax)
        # Who may not be SCU there gets no C-STORE through (PS3.7 D.3.3.4).
        return self._offer if takes else self._retrieve_offer

    def _taken_as(self, context: PresentationContext) -> str:
        if context.related is None or self.offer(context.abstract_syntax) is not None:
            return context.abstract_syntax
        general = general_offer(self.offer, context.related)
        return context.abstract_syntax if general is None else general[0]

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, CStoreRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        if not operation.has_data_set:
            raise OperationError(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        association = operation.association
        ingest: Ingest | None = None
        operation.completion_notice = lambda: InstanceRefused(
            caller=association.caller,
            sop_class_uid=request.affected_sop_class_uid,
            sop_instance_uid=request.affected_sop_instance_uid,
            status=operation.status,
            comment=operation.comment,
            study_instance_uid="" if ingest is None else ingest.study_instance_uid,
            patient_id="" if ingest is None else ingest.patient_id,
        )
        ingest = await self._archive.receive(
            sop_class_uid=request.affected_sop_class_uid,
            sop_instance_uid=request.affected_sop_instance_uid,
            taken_as=self._taken_as(operation.context),
            transfer_syntax_uid=operation.context.transfer_syntax,
            source_ae_title=association.negotiated.calling_ae_title,
            called_ae_title=association.negotiated.called_ae_title,
        )
        async with ingest:
            async for fragments in operation.fragments():
                await ingest.write(fragments)
            result = await ingest.commit()
            record = ingest.record
        assert record is not None
        for what in (*result.changes, *result.forgiven):
            association.peer_log.write(
                log, logging.INFO, "instance %s: %s", record.sop_instance_uid, what
            )
        operation.completion_notice = lambda: stored_notice(
            association.caller, record, result.outcome
        )
        await operation.respond(
            CStoreResponse(
                message_id_being_responded_to=request.message_id,
                status=result.status,
                affected_sop_class_uid=request.affected_sop_class_uid,
                affected_sop_instance_uid=request.affected_sop_instance_uid,
                error_comment=result.comment,
            )
        )
