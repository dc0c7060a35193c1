"""Refusals of N-services: what the response repeats of the request, and what it says of it."""

import pytest

from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    NActionRequest,
    NActionResponse,
    NCreateRequest,
    NCreateResponse,
    NDeleteRequest,
    NDeleteResponse,
    NGetRequest,
    NGetResponse,
    NSetRequest,
    NSetResponse,
    Request,
    Response,
)
from isocenter.services.service_classes.normalized.refusal import RequestRefusedError, refusal

ASKED, OTHER, INSTANCE = "1.2.3", "1.2.4", "1.2.5"
STATUS = 0x0106
TAG = 0x00400252
FAULT = RequestRefusedError(STATUS, "no such state " + "!" * 64, (TAG, TAG), 0xA710)
COMMENT = FAULT.comment

CASES: list[tuple[Request, Response]] = [
    (
        NCreateRequest(
            message_id=7, affected_sop_class_uid=ASKED, affected_sop_instance_uid=INSTANCE
        ),
        NCreateResponse(
            message_id_being_responded_to=7,
            status=STATUS,
            affected_sop_class_uid=ASKED,
            affected_sop_instance_uid=INSTANCE,
            attribute_identifier_list=(TAG,),
            error_comment=COMMENT,
            error_id=0xA710,
        ),
    ),
    (
        NSetRequest(
            message_id=7, requested_sop_class_uid=ASKED, requested_sop_instance_uid=INSTANCE
        ),
        NSetResponse(
            message_id_being_responded_to=7,
            status=STATUS,
            affected_sop_class_uid=ASKED,
            affected_sop_instance_uid=INSTANCE,
            attribute_identifier_list=(TAG,),
            error_comment=COMMENT,
            error_id=0xA710,
        ),
    ),
    (
        NGetRequest(
            message_id=7, requested_sop_class_uid=ASKED, requested_sop_instance_uid=INSTANCE
        ),
        NGetResponse(
            message_id_being_responded_to=7,
            status=STATUS,
            affected_sop_class_uid=ASKED,
            affected_sop_instance_uid=INSTANCE,
            attribute_identifier_list=(TAG,),
            error_comment=COMMENT,
            error_id=0xA710,
        ),
    ),
    (
        NActionRequest(
            message_id=7,
            requested_sop_class_uid=ASKED,
            requested_sop_instance_uid=INSTANCE,
            action_type_id=3,
        ),
        NActionResponse(
            message_id_being_responded_to=7,
            status=STATUS,
            affected_sop_class_uid=ASKED,
            affected_sop_instance_uid=INSTANCE,
            action_type_id=3,
            error_comment=COMMENT,
            error_id=0xA710,
        ),
    ),
    (
        NDeleteRequest(
            message_id=7, requested_sop_class_uid=ASKED, requested_sop_instance_uid=INSTANCE
        ),
        NDeleteResponse(
            message_id_being_responded_to=7,
            status=STATUS,
            affected_sop_class_uid=ASKED,
            affected_sop_instance_uid=INSTANCE,
            error_comment=COMMENT,
            error_id=0xA710,
        ),
    ),
]


@pytest.mark.parametrize(
    ("request_", "response"), CASES, ids=[type(each).__name__ for each, _ in CASES]
)
def test_the_response_names_the_instance_and_the_fault(
    request_: Request, response: Response
) -> None:
    assert len(COMMENT) == 64  # Error Comment is an LO
    assert refusal(request_, FAULT) == response


def test_the_sop_class_of_an_instance_may_be_another() -> None:
    """Of a workitem it is UPS Push, whatever it was asked for on (PS3.4 CC.3.1)."""
    request = NGetRequest(
        message_id=7, requested_sop_class_uid=ASKED, requested_sop_instance_uid=INSTANCE
    )
    response = refusal(request, FAULT, sop_class_uid=OTHER)
    assert isinstance(response, NGetResponse)
    assert response.affected_sop_class_uid == OTHER


def test_what_is_no_request_about_an_instance_stays_a_fault() -> None:
    with pytest.raises(RequestRefusedError) as raised:
        refusal(CEchoRequest(message_id=7, affected_sop_class_uid=ASKED), FAULT)
    assert raised.value is FAULT
