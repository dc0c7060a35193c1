"""DIMSE messages as frozen classes, one for each (PS3.7 9.3, 10.3).

Which field is which element, and whether it must be there, says `message_table`.
UIDs and AE titles are text without padding, not judged; an empty text, an empty
tuple and None stand for an element that is not there.
"""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass


class PerformableRequest:
    """Each request that an operation or notification begins with."""

    __slots__ = ()


class PerformedResponse:
    """Each response to a `PerformableRequest`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRequest(PerformableRequest):
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""

    message_id: int
    affected_sop_class_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoResponse(PerformedResponse):
    """C-ECHO-RSP (PS3.7 9.3.5.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRequest(PerformableRequest):
    """C-STORE-RQ (PS3.7 9.3.1.1).  Priority: 0 medium, 1 high, 2 low."""

    message_id: int
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    priority: int = 0
    move_originator_ae_title: str = ""
    move_originator_message_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreResponse(PerformedResponse):
    """C-STORE-RSP (PS3.7 9.3.1.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindRequest(PerformableRequest):
    """C-FIND-RQ (PS3.7 9.3.2.1)."""

    message_id: int
    affected_sop_class_uid: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindResponse(PerformedResponse):
    """C-FIND-RSP (PS3.7 9.3.2.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetRequest(PerformableRequest):
    """C-GET-RQ (PS3.7 9.3.3.1)."""

    message_id: int
    affected_sop_class_uid: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetResponse(PerformedResponse):
    """C-GET-RSP (PS3.7 9.3.3.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveRequest(PerformableRequest):
    """C-MOVE-RQ (PS3.7 9.3.4.1)."""

    message_id: int
    affected_sop_class_uid: str
    #: Empty or missing, it is an unknown destination (A801H).
    move_destination: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveResponse(PerformedResponse):
    """C-MOVE-RSP (PS3.7 9.3.4.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CCancelRequest:
    """C-CANCEL-RQ (PS3.7 9.3.2.3, 9.3.3.3, 9.3.4.3)."""

    message_id_being_responded_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NEventReportRequest(PerformableRequest):
    """N-EVENT-REPORT-RQ (PS3.7 10.3.1.1).  Goes from the SCP to the SCU."""

    message_id: int
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    event_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NEventReportResponse(PerformedResponse):
    """N-EVENT-REPORT-RSP (PS3.7 10.3.1.2).  With an event reply it names the event type."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    event_type_id: int | None = None
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NGetRequest(PerformableRequest):
    """N-GET-RQ (PS3.7 10.3.2.1).  No attribute identifiers: all attributes are asked for."""

    message_id: int
    requested_sop_class_uid: str
    requested_sop_instance_uid: str
    attribute_identifier_list: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NGetResponse(PerformedResponse):
    """N-GET-RSP (PS3.7 10.3.2.2).  Attribute identifiers: those that the status is about."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    attribute_identifier_list: tuple[int, ...] = ()
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NSetRequest(PerformableRequest):
    """N-SET-RQ (PS3.7 10.3.3.1)."""

    message_id: int
    requested_sop_class_uid: str
    requested_sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NSetResponse(PerformedResponse):
    """N-SET-RSP (PS3.7 10.3.3.2).  Attribute identifiers: those that the status is about."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    attribute_identifier_list: tuple[int, ...] = ()
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NActionRequest(PerformableRequest):
    """N-ACTION-RQ (PS3.7 10.3.4.1)."""

    message_id: int
    requested_sop_class_uid: str
    requested_sop_instance_uid: str
    action_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NActionResponse(PerformedResponse):
    """N-ACTION-RSP (PS3.7 10.3.4.2).  With an action reply it names the action type."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    action_type_id: int | None = None
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NCreateRequest(PerformableRequest):
    """N-CREATE-RQ (PS3.7 10.3.5.1).  Without an instance UID the performer makes one."""

    message_id: int
    affected_sop_class_uid: str
    affected_sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NCreateResponse(PerformedResponse):
    """N-CREATE-RSP (PS3.7 10.3.5.2).  Names the instance that the request did not name."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    attribute_identifier_list: tuple[int, ...] = ()
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NDeleteRequest(PerformableRequest):
    """N-DELETE-RQ (PS3.7 10.3.6.1)."""

    message_id: int
    requested_sop_class_uid: str
    requested_sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NDeleteResponse(PerformedResponse):
    """N-DELETE-RSP (PS3.7 10.3.6.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecognizedMessage:
    """A request that can be answered but not performed.

    Attributes:
        command_field: as it came.
        status: what to answer: 0211H for an unknown command field, 0212H for a field that
            is missing or has a wrong form.
        error: the fault in words, for Error Comment.
    """

    command_field: int
    message_id: int
    status: int
    error: str
    affected_sop_class_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecognizedMessageResponse:
    """The answer to an `UnrecognizedMessage`, whatever its command field was."""

    command_field: int
    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


CRequest = CEchoRequest | CStoreRequest | CFindRequest | CGetRequest | CMoveRequest
CResponse = CEchoResponse | CStoreResponse | CFindResponse | CGetResponse | CMoveResponse
NRequest = (
    NEventReportRequest
    | NGetRequest
    | NSetRequest
    | NActionRequest
    | NCreateRequest
    | NDeleteRequest
)
NResponse = (
    NEventReportResponse
    | NGetResponse
    | NSetResponse
    | NActionResponse
    | NCreateResponse
    | NDeleteResponse
)
Request = CRequest | NRequest | UnrecognizedMessage
Response = CResponse | NResponse | UnrecognizedMessageResponse
Message = Request | Response | CCancelRequest
