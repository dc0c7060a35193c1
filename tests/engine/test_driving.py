"""What drivers share: requests, contexts, and why an association ended."""

from __future__ import annotations

import pytest

from isocenter.engine import pdu
from isocenter.engine.driving import associate_request, context_for, end_reason
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
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Acceptor, Negotiated, Offer, Role, established, negotiate
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
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
    return established(request, accept, Role.REQUESTOR)


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
        context_for(established(request, accept, Role.ACCEPTOR), CT)
