"""What drivers share: requests, contexts, and why an association ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine import pdu
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CStoreRequest,
    NEventReportRequest,
    Request,
    UnrecognizedMessage,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    LocalProtocolError,
    ProviderAbortedError,
    RemoteProtocolError,
    TransportLostError,
)
from isocenter.engine.events import (
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    Event,
    ProviderAborted,
    ReleaseRequested,
    end_reason,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    Acceptor,
    Negotiated,
    Offer,
    PresentationContext,
    Role,
    associate_request,
    context_for,
    negotiate,
    negotiated_from,
    storage_offer,
)
from isocenter.engine.pdv import Part, parts_of
from isocenter.engine.refusal import refusal_of
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    UNCOMPRESSED,
    VERIFICATION,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
FAULT = RemoteProtocolError("P-DATA-TF in Sta3", 2)


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (
            AssociationRejected(pdu.AssociateReject(1, 1, 7)),
            AssociationRejectedError,
            "called AE title not recognized",
        ),
        (AssociationAborted(0, 0), AssociationAbortedError, "by the peer"),
        (ProviderAborted(6), ProviderAbortedError, "invalid PDU parameter value"),
        (ProviderAborted(2, FAULT), ProviderAbortedError, "P-DATA-TF in Sta3"),
        (ProviderAborted(0, transport_lost=True), TransportLostError, "transport connection"),
    ],
)
def test_an_end_is_an_exception(event: Event, kind: type[AssociationError], text: str) -> None:
    reason = end_reason(event)
    assert type(reason) is kind
    assert text in str(reason)
    assert reason.__cause__ is getattr(event, "cause", None)


@pytest.mark.parametrize("event", [AssociationReleased(), ReleaseRequested()])
def test_what_is_no_end_or_was_asked_for_is_none(event: Event) -> None:
    assert end_reason(event) is None


def test_a_request_survives_the_wire() -> None:
    request = associate_request("CALLED", "CALLING", [(CT, [IMPLICIT_VR_LITTLE_ENDIAN])])
    body = pdu.encode_associate_request(request)[6:]
    assert pdu.decode_pdu(pdu.PduType.A_ASSOCIATE_RQ, body, DEFAULT_LIMITS) == request
    assert request.user_information.max_pdu_length == DEFAULT_LIMITS.max_pdu_length


@pytest.mark.parametrize("count", [0, 129])
def test_one_association_carries_1_to_128_contexts(count: int) -> None:
    with pytest.raises(LocalProtocolError, match="1 to 128"):
        associate_request("CALLED", "CALLING", [(CT, [IMPLICIT_VR_LITTLE_ENDIAN])] * count)


def negotiated(*contexts: tuple[str, str]) -> Negotiated:
    request = associate_request("CALLED", "CALLING", [(uid, [syntax]) for uid, syntax in contexts])
    offer = Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN))
    acceptor = Acceptor(offer=lambda uid: offer if uid != MR else None, max_pdu_length=0)
    accept = negotiate(request, acceptor)
    assert isinstance(accept, pdu.AssociateAccept)
    return negotiated_from(request, accept, Role.REQUESTOR)


def test_the_context_is_that_of_the_class_and_the_syntax() -> None:
    both = negotiated(
        (VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN),
        (CT, IMPLICIT_VR_LITTLE_ENDIAN),
        (CT, EXPLICIT_VR_LITTLE_ENDIAN),
        (MR, EXPLICIT_VR_LITTLE_ENDIAN),
    )
    assert context_for(both, CT).context_id == 3
    assert context_for(both, CT, IMPLICIT_VR_LITTLE_ENDIAN).context_id == 3
    assert context_for(both, CT, EXPLICIT_VR_LITTLE_ENDIAN).context_id == 5
    with pytest.raises(LocalProtocolError, match="accepted no context"):
        context_for(both, MR, EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(LocalProtocolError, match="accepted no context"):
        context_for(both, VERIFICATION, EXPLICIT_VR_LITTLE_ENDIAN)


def test_a_context_on_which_we_are_not_SCU_is_none_to_request_on() -> None:
    request = associate_request("CALLED", "CALLING", [(CT, [IMPLICIT_VR_LITTLE_ENDIAN])])
    offer = Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,))
    accept = negotiate(request, Acceptor(offer=lambda _: offer, max_pdu_length=0))
    assert isinstance(accept, pdu.AssociateAccept)
    with pytest.raises(LocalProtocolError, match="accepted no context"):
        context_for(negotiated_from(request, accept, Role.ACCEPTOR), CT)


@pytest.mark.parametrize(("asked", "ours", "agreed"), [(8, 4, 4), (4, 8, 4), (0, 0, 0), (1, 5, 1)])
def test_a_larger_window_is_asked_for(asked: int, ours: int, agreed: int) -> None:
    request = associate_request(
        "A", "B", [(CT, [IMPLICIT_VR_LITTLE_ENDIAN])], operations_invoked=asked
    )
    window = request.user_information.asynchronous_operations_window
    assert (window is None) is (asked == 1)
    how = Acceptor(offer=storage_offer, max_pdu_length=0, max_operations_performed=ours)
    accept = negotiate(request, how)
    assert isinstance(accept, pdu.AssociateAccept)
    at_requestor = negotiated_from(request, accept, Role.REQUESTOR)
    assert at_requestor.operations_invoked == agreed
    assert negotiated_from(request, accept, Role.ACCEPTOR).operations_performed == agreed


def context(uid: str, *, as_scu: bool = False, as_scp: bool = True) -> PresentationContext:
    return PresentationContext(1, uid, IMPLICIT_VR_LITTLE_ENDIAN, as_scu, as_scp)


ECHO = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
STORE = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
REPORT = NEventReportRequest(
    message_id=1,
    affected_sop_class_uid=CT,
    affected_sop_instance_uid="1.2",
    event_type_id=1,
)
MISTYPED = UnrecognizedMessage(
    command_field=1, message_id=1, status=Status.MISTYPED_ARGUMENT, error="(0000,0002) is missing"
)


@pytest.mark.parametrize(
    ("on", "request_", "members", "status"),
    [
        (context(VERIFICATION), ECHO, (), None),
        (context(CT), ECHO, (), Status.SOP_CLASS_NOT_SUPPORTED),
        (context(MR), STORE, {CT}, None),
        (context(MR), STORE, {VERIFICATION}, Status.SOP_CLASS_NOT_SUPPORTED),
        (context(CT, as_scu=True, as_scp=False), STORE, (), Status.UNRECOGNIZED_OPERATION),
        (context(CT, as_scu=True, as_scp=False), REPORT, (), None),
        (context(CT), REPORT, (), Status.UNRECOGNIZED_OPERATION),
        (context(CT), MISTYPED, (), Status.MISTYPED_ARGUMENT),
    ],
)
def test_a_request_is_refused_for_its_role_and_its_class(
    on: PresentationContext, request_: Request, members: frozenset[str], status: int | None
) -> None:
    refusal = refusal_of(on, request_, members)
    assert (refusal and refusal.status) == status
    assert refusal is None or 0 < len(refusal.comment) <= 64, "Error Comment is LO"


@given(st.integers(0, 500), st.integers(0, 2_000), st.integers(1, 700))
def test_parts_are_the_whole_in_order_with_the_last_one_marked(
    start: int, size: int, length: int
) -> None:
    parts = list(parts_of(start, start + size, length))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [part.length for part in parts[:-1]] == [length] * (len(parts) - 1)
    assert 0 < parts[-1].length <= length or parts == [Part(start, 0, True)]
    position = start
    for part in parts:
        assert part.start == position
        position += part.length
    assert position == start + size


def test_a_storage_scp_takes_what_it_is_sent() -> None:
    request = associate_request(
        "A", "B", [(VERIFICATION, UNCOMPRESSED), (CT, ["1.2.3"]), ("1.2.840.10008.5.1.4.31", "1")]
    )
    accept = negotiate(request, Acceptor(offer=storage_offer, max_pdu_length=0))
    assert isinstance(accept, pdu.AssociateAccept)
    assert [each.transfer_syntax for each in accept.presentation_contexts] == [
        EXPLICIT_VR_LITTLE_ENDIAN,
        "1.2.3",
        "",
    ]
