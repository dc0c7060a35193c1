"""Unified procedure steps as SCP (PS3.4 CC.2, CC.3): Push, Pull, Watch and Query.

Events leave on associations of ours (`isocenter.services.service_classes.normalized
.report_delivery`).  The response leaves when a change is durable.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import (
    CFindRequest,
    NActionRequest,
    NActionResponse,
    NCreateRequest,
    NCreateResponse,
    NGetRequest,
    NGetResponse,
    NSetRequest,
    NSetResponse,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.extended_negotiation import FindFlags
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import is_safe_uid
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.attribute_list import SPECIFIC_CHARACTER_SET, AttributeList
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.notices import ProcedureRecordRead
from isocenter.services.service_classes.normalized.operations import read_attribute_list
from isocenter.services.service_classes.normalized.refusal import refusal
from isocenter.services.service_classes.query_retrieve.find_responses import (
    FIND_STATUSES,
    FindResponses,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    names_of,
    negotiated_information,
)
from isocenter.services.service_classes.ups.manager import WorkitemManager, receiver_of
from isocenter.services.service_classes.ups.ports import Channel
from isocenter.services.service_classes.ups.query import parse_workitem_keys
from isocenter.services.service_classes.ups.workitem import (
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_INSTANCE_UID,
    UPS_PULL,
    UPS_PUSH,
    UPS_QUERY,
    UPS_WATCH,
    UpsError,
    UpsStatus,
)

log = logging.getLogger("isocenter.operation")

CHANGE_STATE: Final = 1
REQUEST_CANCEL: Final = 2
SUBSCRIBE: Final = 3
UNSUBSCRIBE: Final = 4
SUSPEND: Final = 5

_SUPPORTS: Final = FindFlags(
    fuzzy_person_names=True, empty_value_matching=True, multiple_value_matching=True
)
#: Which actions there are on which SOP class (Table CC.2-1).
_ACTIONS: Final = {
    UPS_PUSH: frozenset({REQUEST_CANCEL}),
    UPS_PULL: frozenset({CHANGE_STATE}),
    UPS_WATCH: frozenset({REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND}),
}
_OPERATIONS: Final = {
    UPS_PUSH: (NCreateRequest, NActionRequest, NGetRequest),
    UPS_PULL: (CFindRequest, NGetRequest, NSetRequest, NActionRequest),
    UPS_WATCH: (CFindRequest, NGetRequest, NActionRequest),
    UPS_QUERY: (CFindRequest,),
}


class UnifiedProcedureStepScp:
    """Performs what is asked of workitems.

    Args:
        max_results: matches of one C-FIND; 0: no limit.
        undeclared: the character set of identifiers that declare none.
        fuzzy_names: agree to fuzzy semantic matching of person names.
    """

    name = "unified procedure steps"
    statuses: Final[Statuses] = {
        **FIND_STATUSES,
        Status.SUCCESS: "it is durable, or the end of the matches",
        Status.WARNING: "without the attributes that the instance does not have",
        Status.NO_SUCH_ATTRIBUTE: "an attribute may not be set",
        Status.INVALID_ATTRIBUTE_VALUE: "a value that the attribute may not have",
        Status.PROCESSING_FAILURE: "the data set cannot be read, or as for all",
        Status.DUPLICATE_SOP_INSTANCE: "there is such a workitem already",
        Status.INVALID_ARGUMENT_VALUE: "no such state, or no such lock",
        Status.INVALID_SOP_INSTANCE: "the SOP Instance UID is none, or none of a workitem",
        Status.MISSING_ATTRIBUTE: "there is no data set, no UID, or an attribute is not in it",
        Status.MISSING_ATTRIBUTE_VALUE: "an attribute has no value",
        Status.NO_SUCH_ACTION_TYPE: "an action that the SOP class does not have",
        Status.RESOURCE_LIMITATION: "the workitem, or the data set, is over a limit",
        UpsStatus.CREATED_WITH_MODIFICATIONS: "created, with a worklist label of ours",
        UpsStatus.DELETION_LOCK_NOT_GRANTED: "subscribed, without the lock (`ups.deletion_locks`)",
        UpsStatus.ALREADY_CANCELED: "it is CANCELED already",
        UpsStatus.ALREADY_COMPLETED: "it is COMPLETED already",
        UpsStatus.NO_LONGER_UPDATED: "it is final",
        UpsStatus.WRONG_TRANSACTION: "the Transaction UID is not that of the performer",
        UpsStatus.ALREADY_IN_PROGRESS: "it is IN PROGRESS already",
        UpsStatus.SCHEDULED_BY_CREATE_ONLY: "SCHEDULED was asked for",
        UpsStatus.FINAL_STATE_NOT_MET: "it lacks what the final state requires",
        UpsStatus.NO_SUCH_WORKITEM: "there is no such workitem",
        UpsStatus.RECEIVER_UNKNOWN: "where the receiving AE listens is not known",
        UpsStatus.NOT_CREATED_SCHEDULED: "a new one has another state than SCHEDULED",
        UpsStatus.NOT_YET_IN_PROGRESS: "nobody performs it yet",
        UpsStatus.IS_COMPLETED: "it is COMPLETED, and cannot be cancelled",
        UpsStatus.PERFORMER_NOT_REACHED: "nobody has subscribed who could cancel it",
        UpsStatus.ACTION_NOT_APPROPRIATE: "the action is not for this instance, or has no filter",
    }

    def __init__(
        self,
        manager: WorkitemManager,
        *,
        max_results: int = 0,
        undeclared: tuple[str, ...] = (),
        fuzzy_names: bool = True,
    ) -> None:
        supported = replace(_SUPPORTS, fuzzy_person_names=fuzzy_names)
        self._manager = manager
        self._max_results = max_results
        self._undeclared = undeclared
        find = Offer(
            transfer_syntaxes=IDENTIFIER_SYNTAXES,
            members=frozenset({UPS_PUSH, UPS_PULL, UPS_WATCH, UPS_QUERY}),
            extended=lambda asked: supported.both(FindFlags.decode(asked)).encode(),
        )
        # A request names the class of the instance, which is Push, or that of the context.
        push = Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES)
        self._offers = {UPS_PUSH: push, UPS_PULL: find, UPS_WATCH: find, UPS_QUERY: find}

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offers.get(abstract_syntax)

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        allowed: tuple[type, ...] = _OPERATIONS[operation.context.abstract_syntax]
        if not isinstance(request, allowed):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        if isinstance(request, CFindRequest):
            await self._find(operation)
            return
        try:
            match request:
                case NCreateRequest():
                    await self._create(operation, request)
                case NSetRequest():
                    await self._set(operation, request)
                case NGetRequest():
                    await self._get(operation, request)
                case NActionRequest():
                    await self._act(operation, request)
        except UpsError as fault:
            operation.association.peer_log.write(
                log, logging.WARNING, "%s: %s", describe(request), fault
            )
            await operation.respond(refusal(request, fault, sop_class_uid=UPS_PUSH))

    async def _create(self, operation: Operation, request: NCreateRequest) -> None:
        uid = request.affected_sop_instance_uid
        if not uid:
            raise UpsError(Status.MISSING_ATTRIBUTE, "a UPS is created with a SOP Instance UID")
        _check_uid(uid)
        attributes = await read_attribute_list(operation)
        status = await self._manager.create(
            uid,
            attributes,
            limits=operation.association.limits,
            caller=operation.association.caller,
        )
        await operation.respond(
            NCreateResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=UPS_PUSH,
                affected_sop_instance_uid=uid,
            )
        )

    async def _set(self, operation: Operation, request: NSetRequest) -> None:
        uid = request.requested_sop_instance_uid
        _check_uid(uid)
        changes = await read_attribute_list(operation)
        status = await self._manager.change(
            uid,
            changes,
            limits=operation.association.limits,
            caller=operation.association.caller,
        )
        await operation.respond(
            NSetResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=UPS_PUSH,
                affected_sop_instance_uid=uid,
            )
        )

    async def _get(self, operation: Operation, request: NGetRequest) -> None:
        uid = request.requested_sop_instance_uid
        _check_uid(uid)
        workitem = await self._manager.get(uid)
        if workitem is None:
            raise UpsError(UpsStatus.NO_SUCH_WORKITEM, "there is no such UPS")
        attributes = workitem.attributes
        study = attributes.text(STUDY_INSTANCE_UID)
        operation.association.notices.publish(
            ProcedureRecordRead(
                caller=operation.association.caller,
                kind="Unified Procedure Step",
                sop_instance_uid=uid,
                study_instance_uids=(study,) if study else (),
                patient_id=attributes.text(PATIENT_ID),
                patient_name=attributes.text(PATIENT_NAME),
            )
        )
        asked = request.attribute_identifier_list
        # The Transaction UID is among what there is not, whoever asks.
        unknown = [
            tag for tag in asked if tag not in attributes.elements and tag != SPECIFIC_CHARACTER_SET
        ]
        if asked:
            attributes = attributes.only(asked)
        await operation.respond(
            NGetResponse(
                message_id_being_responded_to=request.message_id,
                status=Status.WARNING if unknown else Status.SUCCESS,
                affected_sop_class_uid=UPS_PUSH,
                affected_sop_instance_uid=uid,
                attribute_identifier_list=tuple(unknown),
            ),
            attributes.encode(operation.context.transfer_syntax),
        )

    async def _act(self, operation: Operation, request: NActionRequest) -> None:
        uid = request.requested_sop_instance_uid
        _check_uid(uid)
        kind = request.action_type_id
        if kind not in _ACTIONS[operation.context.abstract_syntax]:
            raise UpsError(Status.NO_SUCH_ACTION_TYPE, "not an action of this SOP class")
        is_global = uid in (GLOBAL_SUBSCRIPTION, FILTERED_SUBSCRIPTION)
        if is_global and kind in (CHANGE_STATE, REQUEST_CANCEL):
            raise UpsError(UpsStatus.ACTION_NOT_APPROPRIATE, "that is the global subscription")
        # A request to cancel may say nothing (Table CC.2.2-1).
        information = AttributeList({})
        if operation.has_data_set or kind != REQUEST_CANCEL:
            information = await read_attribute_list(operation)
        negotiated, caller = operation.association.negotiated, operation.association.caller
        manager = self._manager
        acts: dict[int, Callable[[], Awaitable[int]]] = {
            CHANGE_STATE: lambda: manager.change_state(uid, information, caller=caller),
            REQUEST_CANCEL: lambda: manager.request_cancel(
                uid, information, requester=negotiated.calling_ae_title, caller=caller
            ),
            SUBSCRIBE: lambda: manager.subscribe_by_action(
                uid, information, as_ae_title=negotiated.called_ae_title
            ),
            UNSUBSCRIBE: lambda: manager.unsubscribe(uid, receiver_of(information), Channel.DIMSE),
            SUSPEND: lambda: manager.suspend(uid, receiver_of(information), Channel.DIMSE),
        }
        status = await acts[kind]()
        await operation.respond(
            NActionResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=UPS_PUSH,
                affected_sop_instance_uid=uid,
                action_type_id=kind,
            )
        )

    async def _find(self, operation: Operation) -> None:
        syntax = operation.context.transfer_syntax
        answers = await FindResponses.begin(operation)
        answers.limit = self._max_results
        keys = parse_workitem_keys(
            answers.identifier,
            syntax,
            undeclared=self._undeclared,
            names=names_of(FindFlags.decode(negotiated_information(operation))),
        )
        answers.report_unsupported(keys.unsupported)
        async with self._manager.find(keys) as blocks:
            async for block in blocks:
                if not await answers.add(
                    keys.response(found.attributes).encode(syntax) for found in block
                ):
                    break
        await answers.finish()


def _check_uid(sop_instance_uid: str) -> None:
    if not is_safe_uid(sop_instance_uid):
        raise UpsError(Status.INVALID_SOP_INSTANCE, "SOP Instance UID is no UID")
