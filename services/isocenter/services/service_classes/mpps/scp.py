"""Modality performed procedure step as SCP (PS3.4 F.7): N-CREATE and N-SET.

The response leaves when the step is durable.
"""

from __future__ import annotations

import logging
from typing import Final

from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import (
    NCreateRequest,
    NCreateResponse,
    NSetRequest,
    NSetResponse,
    Response,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import is_safe_uid
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.attribute_list import AttributeList, text_of
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import OperationError
from isocenter.services.notices import ProcedureRecordRead
from isocenter.services.service_classes.mpps.manager import (
    PATIENT_ID,
    PATIENT_NAME,
    PerformedStepManager,
    change_of,
)
from isocenter.services.service_classes.mpps.performed_step import (
    MPPS,
    MPPS_RETRIEVE,
    SCHEDULED_STEP_ATTRIBUTES,
    STUDY_INSTANCE_UID,
    PerformedStep,
    StepError,
)
from isocenter.services.service_classes.mpps.ports import Steps
from isocenter.services.service_classes.normalized.operations import (
    AttributeScp,
    read_attribute_list,
)
from isocenter.services.service_classes.normalized.refusal import refusal

log = logging.getLogger("isocenter.operation")

_OFFER: Final = Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES)


class PerformedStepScp:
    """Performs N-CREATE and N-SET of modality performed procedure steps."""

    name = "performed procedure steps"
    statuses: Final[Statuses] = {
        Status.SUCCESS: "it is durable",
        Status.NO_SUCH_ATTRIBUTE: "an attribute may not be set, or not any more",
        Status.INVALID_ATTRIBUTE_VALUE: "a value that the attribute may not have",
        Status.PROCESSING_FAILURE: "the step is final (Error ID A710H), or the data set cannot be "
        "read, or as for all",
        Status.DUPLICATE_SOP_INSTANCE: "there is such a step already",
        Status.NO_SUCH_SOP_INSTANCE: "there is no such step",
        Status.INVALID_SOP_INSTANCE: "the SOP Instance UID is none",
        Status.MISSING_ATTRIBUTE: "there is no data set, or an attribute is not in it",
        Status.MISSING_ATTRIBUTE_VALUE: "an attribute has no value",
        Status.RESOURCE_LIMITATION: "the step, or the data set, is over a limit",
    }

    def __init__(self, manager: PerformedStepManager) -> None:
        self._manager = manager

    def offer(self, abstract_syntax: str) -> Offer | None:
        return _OFFER if abstract_syntax == MPPS else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, NCreateRequest | NSetRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        attributes = await read_attribute_list(operation)
        try:
            if isinstance(request, NCreateRequest):
                response = await self._create(operation, request, attributes)
            else:
                response = await self._set(operation, request, attributes)
        except StepError as fault:
            operation.association.peer_log.write(
                log, logging.WARNING, "%s: %s", describe(request), fault
            )
            is_value = fault.status == Status.INVALID_ATTRIBUTE_VALUE
            wrong = attributes.only(fault.attributes) if is_value else None
            await operation.respond(
                refusal(request, fault, sop_class_uid=MPPS),
                # The attributes whose values are wrong, as they came (F.7.2.1.3).
                wrong.encode(operation.context.transfer_syntax)
                if wrong is not None and wrong.elements
                else None,
            )
        else:
            await operation.respond(response)

    async def _create(
        self, operation: Operation, request: NCreateRequest, attributes: AttributeList
    ) -> Response:
        uid = _checked(request.affected_sop_instance_uid or new_uid())
        negotiated = operation.association.negotiated
        step = await self._manager.create(
            uid,
            attributes,
            source=negotiated.calling_ae_title,
            as_ae_title=negotiated.called_ae_title,
            limits=operation.association.limits,
        )
        _tell(operation, step, is_new=True)
        return NCreateResponse(
            message_id_being_responded_to=request.message_id,
            status=Status.SUCCESS,
            affected_sop_class_uid=MPPS,
            affected_sop_instance_uid=uid,
        )

    async def _set(
        self, operation: Operation, request: NSetRequest, changes: AttributeList
    ) -> Response:
        uid = _checked(request.requested_sop_instance_uid)
        step = await self._manager.change(
            uid,
            changes,
            as_ae_title=operation.association.negotiated.called_ae_title,
            limits=operation.association.limits,
        )
        _tell(operation, step, is_new=False)
        return NSetResponse(
            message_id_being_responded_to=request.message_id,
            status=Status.SUCCESS,
            affected_sop_class_uid=MPPS,
            affected_sop_instance_uid=uid,
        )


def _tell(operation: Operation, step: PerformedStep, *, is_new: bool) -> None:
    caller = operation.association.caller
    operation.completion_notice = lambda: change_of(step, caller, is_new=is_new)


def _checked(sop_instance_uid: str) -> str:
    if not is_safe_uid(sop_instance_uid):
        raise OperationError(Status.INVALID_SOP_INSTANCE, "SOP Instance UID is no UID")
    return sop_instance_uid


def retrieve_steps(steps: Steps) -> AttributeScp:
    """The N-GET of the retrieve SOP class (F.8) on *steps*."""

    async def attributes_of(sop_instance_uid: str) -> AttributeList | None:
        step = await steps.get(sop_instance_uid)
        return None if step is None else step.attributes

    # Some SCUs name the SOP class that the instance was created with.
    return AttributeScp(
        {MPPS_RETRIEVE: attributes_of}, members={MPPS_RETRIEVE: [MPPS]}, on_read=_tell_of_read
    )


def _tell_of_read(operation: Operation, uid: str, attributes: AttributeList) -> None:
    studies = [
        text_of(item, STUDY_INSTANCE_UID) for item in attributes.items(SCHEDULED_STEP_ATTRIBUTES)
    ]
    operation.association.notices.publish(
        ProcedureRecordRead(
            caller=operation.association.caller,
            kind="Performed Procedure Step",
            sop_instance_uid=uid,
            study_instance_uids=tuple(dict.fromkeys(filter(None, studies))),
            patient_id=attributes.text(PATIENT_ID),
            patient_name=attributes.text(PATIENT_NAME),
        )
    )
