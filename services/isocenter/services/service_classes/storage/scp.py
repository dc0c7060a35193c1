"""Storage service class as SCP (PS3.4 Annex B): objects into the archive.

The data set is written as it arrives and kept as it arrived.  The response leaves
when the object is durable and the index knows it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.extended_negotiation import (
    ElementCoercion,
    SignatureLevel,
    StorageLevel,
    StorageSupport,
)
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.store_answers import stored_notice
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, is_private
from isocenter.services.errors import OperationError
from isocenter.services.notices import InstanceRefused

log = logging.getLogger("isocenter.storage")


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
        "rejected",
        Status.SUBOPERATIONS_WITH_FAILURES: "kept, and changed on arrival, or naming another "
        "patient than its study came with",
        Status.DATA_SET_MISMATCH: "another object with its UID is kept, and this one is not",
        Status.CANNOT_UNDERSTAND: "no data set, or none that can be read",
    }

    def __init__(
        self,
        archive: Archive,
        *,
        transfer_syntaxes: Sequence[str] = tuple(TRANSFER_SYNTAXES),
        private_sop_classes: bool = False,
    ) -> None:
        self._archive = archive
        self._private = private_sop_classes
        # A requestor that proposes the SCP role for itself wants to retrieve with C-GET.
        self._offer = Offer(
            transfer_syntaxes=tuple(transfer_syntaxes),
            scu_role=True,
            scp_role=True,
            extended=lambda _: _COERCING_SUPPORT if archive.rules.has_edits else _SUPPORT,
        )

    def offer(self, abstract_syntax: str) -> Offer | None:
        if abstract_syntax in STORAGE_SOP_CLASSES or (
            self._private and is_private(abstract_syntax)
        ):
            return self._offer
        return None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, CStoreRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        if not operation.has_data_set:
            raise OperationError(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        association = operation.association
        operation.completion_notice = lambda: InstanceRefused(
            caller=association.caller,
            sop_class_uid=request.affected_sop_class_uid,
            sop_instance_uid=request.affected_sop_instance_uid,
            status=operation.status,
        )
        async with await self._archive.receive(
            sop_class_uid=request.affected_sop_class_uid,
            sop_instance_uid=request.affected_sop_instance_uid,
            transfer_syntax_uid=operation.context.transfer_syntax,
            source_ae_title=association.negotiated.calling_ae_title,
            called_ae_title=association.negotiated.called_ae_title,
        ) as ingest:
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
