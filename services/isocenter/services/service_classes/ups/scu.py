"""Unified procedure step SCU (PS3.4 CC.2): every operation on an association of ours.

uid = new_uid()
await create_workitem(association, uid, new_workitem("Read the study", start=now))
await change_state(association, uid, WorkitemState.IN_PROGRESS, transaction_uid)
await set_workitem(association, uid, changes, transaction_uid)
await change_state(association, uid, WorkitemState.COMPLETED, transaction_uid)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from isocenter.engine.dimse.message_codec import NEventReportRequest, response_to
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.services.association.operation import Operation
from isocenter.services.association.requestor import Context
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, IDENTIFIER_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.normalized.operations import (
    NServiceResponse,
    n_action,
    n_create,
    n_get,
    n_set,
    read_attribute_list,
)
from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
from isocenter.services.service_classes.ups.events import EventType, WorkitemEvent
from isocenter.services.service_classes.ups.scp import (
    CHANGE_STATE,
    REQUEST_CANCEL,
    SUBSCRIBE,
    SUSPEND,
    UNSUBSCRIBE,
)
from isocenter.services.service_classes.ups.workitem import (
    DELETION_LOCK,
    GLOBAL_SUBSCRIPTION,
    RECEIVING_AE,
    STATE,
    TRANSACTION_UID,
    UPS_EVENT,
    UPS_PULL,
    UPS_PUSH,
    UPS_QUERY,
    UPS_WATCH,
    WorkitemState,
    element,
    with_elements,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydicom.dataset import Dataset

#: What is proposed to do all of it.
CONTEXTS: Final[Sequence[Context]] = tuple(
    (uid, BASIC_SYNTAXES) for uid in (UPS_PUSH, UPS_PULL, UPS_WATCH, UPS_QUERY)
)


def new_workitem(
    label: str,
    *,
    start: datetime,
    worklist_label: str = "",
    priority: str = "MEDIUM",
    input_readiness: str = "READY",
    patient_id: str = "",
    patient_name: str = "",
) -> Dataset:
    """The attributes of an N-CREATE: everything that Table CC.2.5-3 has as type 1 or 2.

    Args:
        start: when it is scheduled, with its offset from UTC.
    """
    from pydicom import Dataset

    made = Dataset()
    made.ScheduledProcedureStepPriority = priority
    made.ProcedureStepLabel = label
    made.WorklistLabel = worklist_label
    made.ScheduledProcessingParametersSequence = []
    made.ScheduledStationNameCodeSequence = []
    made.ScheduledStationClassCodeSequence = []
    made.ScheduledStationGeographicLocationCodeSequence = []
    made.ScheduledProcedureStepStartDateTime = start.strftime("%Y%m%d%H%M%S%z")
    made.ScheduledWorkitemCodeSequence = []
    made.InputReadinessState = input_readiness
    made.InputInformationSequence = []
    made.StudyInstanceUID = ""
    made.PatientName = patient_name
    made.PatientID = patient_id
    made.PatientBirthDate = ""
    made.PatientSex = ""
    made.AdmissionID = ""
    made.AdmittingDiagnosesDescription = ""
    made.ReferencedRequestSequence = []
    made.ProcedureStepState = WorkitemState.SCHEDULED.value
    made.ProcedureStepProgressInformationSequence = []
    made.UnifiedProcedureStepPerformedProcedureSequence = []
    return made


async def create_workitem(
    association: ClientAssociation, sop_instance_uid: str, workitem: AttributeList | Dataset
) -> NServiceResponse:
    """N-CREATE of a workitem; raises as `n_create`."""
    return await n_create(association, UPS_PUSH, sop_instance_uid, workitem)


async def set_workitem(
    association: ClientAssociation,
    sop_instance_uid: str,
    changes: AttributeList | Dataset,
    transaction_uid: str = "",
) -> NServiceResponse:
    """N-SET of a workitem; raises as `n_create`.

    Args:
        transaction_uid: the lock, once it is IN PROGRESS.
    """
    if not isinstance(changes, AttributeList):
        changes = AttributeList.from_dataset(changes)
    if transaction_uid:
        changes = with_elements(changes, [element(TRANSACTION_UID, "UI", transaction_uid)])
    return await n_set(association, UPS_PUSH, sop_instance_uid, changes, context=UPS_PULL)


async def get_workitem(
    association: ClientAssociation,
    sop_instance_uid: str,
    tags: Sequence[int] = (),
    *,
    context: str = UPS_PULL,
) -> NServiceResponse:
    """N-GET of a workitem, whole or some attributes of it; raises as `n_create`.

    Args:
        context: the SOP class that was negotiated for it: Push, Pull or Watch.
    """
    return await n_get(association, UPS_PUSH, sop_instance_uid, tags, context=context)


async def change_state(
    association: ClientAssociation,
    sop_instance_uid: str,
    state: WorkitemState,
    transaction_uid: str,
) -> NServiceResponse:
    """N-ACTION "Change UPS State"; raises as `n_create`."""
    information = AttributeList(
        {
            TRANSACTION_UID: element(TRANSACTION_UID, "UI", transaction_uid),
            STATE: element(STATE, "CS", state.value),
        }
    )
    return await n_action(
        association, UPS_PUSH, sop_instance_uid, CHANGE_STATE, information, context=UPS_PULL
    )


async def request_cancel(
    association: ClientAssociation,
    sop_instance_uid: str,
    information: AttributeList | Dataset | None = None,
    *,
    context: str = UPS_PUSH,
) -> NServiceResponse:
    """N-ACTION "Request UPS Cancel"; raises as `n_create`.

    Args:
        information: reasons, and whom to contact.
        context: the SOP class that was negotiated for it: Push or Watch.
    """
    return await n_action(
        association, UPS_PUSH, sop_instance_uid, REQUEST_CANCEL, information, context=context
    )


async def subscribe(
    association: ClientAssociation,
    receiving_ae_title: str,
    sop_instance_uid: str = GLOBAL_SUBSCRIPTION,
    *,
    has_lock: bool = False,
    keys: AttributeList | None = None,
) -> NServiceResponse:
    """N-ACTION "Subscribe to Receive UPS Event Reports"; raises as `n_create`.

    Args:
        sop_instance_uid: by default all workitems.
        has_lock: they are not to be deleted.
        keys: of `FILTERED_SUBSCRIPTION`.
    """
    information = with_elements(
        keys or AttributeList({}),
        [
            element(DELETION_LOCK, "LO", "TRUE" if has_lock else "FALSE"),
            element(RECEIVING_AE, "AE", receiving_ae_title),
        ],
    )
    return await n_action(
        association, UPS_PUSH, sop_instance_uid, SUBSCRIBE, information, context=UPS_WATCH
    )


async def unsubscribe(
    association: ClientAssociation,
    receiving_ae_title: str,
    sop_instance_uid: str = GLOBAL_SUBSCRIPTION,
) -> NServiceResponse:
    """N-ACTION "Unsubscribe from Receiving UPS Event Reports"; raises as `n_create`."""
    return await _named(association, receiving_ae_title, sop_instance_uid, UNSUBSCRIBE)


async def suspend(association: ClientAssociation, receiving_ae_title: str) -> NServiceResponse:
    """N-ACTION "Suspend Global Subscription"; raises as `n_create`."""
    return await _named(association, receiving_ae_title, GLOBAL_SUBSCRIPTION, SUSPEND)


def find_workitems(
    association: ClientAssociation, keys: AttributeList | Dataset, *, context: str = UPS_QUERY
) -> FindResults:
    """C-FIND of workitems, as `ClientAssociation.find`.

    Args:
        context: the SOP class that was negotiated for it: Query, Pull or Watch.
    """
    asked = keys if isinstance(keys, AttributeList) else AttributeList.from_dataset(keys)
    return association.find(asked.encode, sop_class_uid=context)


class WorkitemEventScu:
    """Takes events of workitems: a service for a server of ours, of which the SCP is a peer.

    Args:
        take: called with each event and the AE title that sent it; when it returns, the event has
            been taken.
    """

    name = "unified procedure step events"
    statuses: Final[Statuses] = {
        Status.SUCCESS: "the event was taken",
        Status.NO_SUCH_EVENT_TYPE: "an event type that there is not",
        Status.MISSING_ATTRIBUTE: "there is no data set",
        Status.PROCESSING_FAILURE: "the data set cannot be read, or as for all",
        Status.RESOURCE_LIMITATION: "the data set is over a limit",
    }

    def __init__(self, take: Callable[[WorkitemEvent, str], Awaitable[None]]) -> None:
        self._take = take
        self._offer = Offer(
            transfer_syntaxes=IDENTIFIER_SYNTAXES,
            scu_role=True,
            scp_role=True,
            members=frozenset({UPS_PUSH}),
        )

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax == UPS_EVENT else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, NEventReportRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        information = await read_attribute_list(operation)
        try:
            kind = EventType(request.event_type_id)
        except ValueError:
            raise OperationError(Status.NO_SUCH_EVENT_TYPE) from None
        event = WorkitemEvent(kind, request.affected_sop_instance_uid, information)
        await self._take(event, operation.association.negotiated.calling_ae_title)
        await operation.respond(response_to(request, Status.SUCCESS))


async def _named(
    association: ClientAssociation, receiving_ae_title: str, sop_instance_uid: str, action: int
) -> NServiceResponse:
    information = AttributeList({RECEIVING_AE: element(RECEIVING_AE, "AE", receiving_ae_title)})
    return await n_action(
        association, UPS_PUSH, sop_instance_uid, action, information, context=UPS_WATCH
    )
