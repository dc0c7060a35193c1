"""Decisions on association requests, without a connection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isocenter.engine.items import ContextResult
from isocenter.engine.negotiation import Acceptor, Offer, associate_request
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.association.access import (
    LOCAL_LIMIT_EXCEEDED,
    NO_REASON_GIVEN,
    AccessControl,
    Admitted,
    AeTitleRules,
    ConnectionOrigin,
    RefusedContext,
    Rejected,
)
from isocenter.services.association.server.request_handler import Decision, RequestHandler
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.notices import Caller

STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ORIGIN = ConnectionOrigin(host="192.0.2.7")
UNKNOWN = Caller(association="1-1", address="192.0.2.7:5000", certificate="CT1")
REQUEST = associate_request(
    "ISOCENTER",
    "CT1",
    [(VERIFICATION, [IMPLICIT_VR_LITTLE_ENDIAN]), (STORAGE, [IMPLICIT_VR_LITTLE_ENDIAN])],
)


class Answering:
    """Access control that has made up its mind."""

    def __init__(self, verdict: Admitted | Rejected) -> None:
        self._verdict = verdict

    async def admit(
        self, request: AssociateRequest, origin: ConnectionOrigin
    ) -> Admitted | Rejected:
        assert (request.called_ae_title, origin) == ("ISOCENTER", ORIGIN)
        return self._verdict


class VerificationOnly:
    """A grant for nothing but C-ECHO."""

    def refusal(self, abstract_syntax: str, request: object) -> str:
        return "" if abstract_syntax == VERIFICATION else "no"

    def is_given(self, operation: str) -> bool:
        return operation == "C-ECHO"

    def restrict_contexts(
        self, request: AssociateRequest, accept: AssociateAccept
    ) -> tuple[AssociateAccept, tuple[RefusedContext, ...]]:
        first, second = accept.presentation_contexts
        contexts = (first, ContextResult(second.context_id, 1))
        return replace(accept, presentation_contexts=contexts), (
            RefusedContext("C-STORE", STORAGE, "no"),
        )


async def decide(
    access: AccessControl, request: AssociateRequest = REQUEST, *, full: str = ""
) -> Decision:
    offer = Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,))
    acceptor = Acceptor(offer=lambda _: offer, max_pdu_length=16_384)

    def limit_reached(host: str, calling_ae_title: str) -> str:
        assert (host, calling_ae_title) == (ORIGIN.host, request.calling_ae_title)
        return full

    return await RequestHandler(access, acceptor, limit_reached).handle(request, ORIGIN, UNKNOWN)


def results(decision: Decision) -> list[int]:
    assert isinstance(decision.answer, AssociateAccept)
    return [context.result for context in decision.answer.presentation_contexts]


async def test_who_is_admitted_without_a_grant_may_do_everything() -> None:
    decision = await decide(Answering(Admitted()))
    assert results(decision) == [0, 0]
    assert decision.caller == replace(UNKNOWN, calling_ae_title="CT1", called_ae_title="ISOCENTER")
    assert (decision.grant, decision.refused, decision.why) == (None, (), "")


async def test_a_grant_restricts_contexts_and_stays() -> None:
    grant = VerificationOnly()
    decision = await decide(Answering(Admitted(grant=grant, user="smith", response=b"ticket")))
    assert results(decision) == [0, 1]
    assert isinstance(decision.answer, AssociateAccept)
    assert decision.answer.user_information.user_identity_response == b"ticket"
    assert (decision.grant, decision.caller.user) == (grant, "smith")
    assert decision.refused == (RefusedContext("C-STORE", STORAGE, "no"),)


async def test_who_is_rejected_hears_why_only_by_a_number() -> None:
    rejected = Rejected(NO_REASON_GIVEN, "not in the policy", "isocenter ae add CT1")
    decision = await decide(Answering(rejected))
    assert decision.answer == NO_REASON_GIVEN
    assert decision.why == "not in the policy; admit it with isocenter ae add CT1"
    assert decision.cure == "isocenter ae add CT1"
    assert (decision.grant, decision.caller.user) == (None, "")


async def test_no_room_for_who_was_admitted() -> None:
    decision = await decide(
        Answering(Admitted(grant=VerificationOnly(), user="smith")), full="the server is stopping"
    )
    assert decision.answer == LOCAL_LIMIT_EXCEEDED
    assert (decision.why, decision.cure, decision.grant) == ("the server is stopping", "", None)
    assert decision.caller.user == "smith", "the trail names whom it was"


async def test_another_application_context_is_rejected() -> None:
    decision = await decide(
        Answering(Admitted()), replace(REQUEST, application_context_name="1.2.3")
    )
    assert isinstance(decision.answer, AssociateReject)
    assert decision.why.startswith("protocol version or application context name")


# -- Rules by AE title and certificate ---------------------------------------------------


CERTIFICATE = PeerIdentity(
    common_name="CT2",
    subject="CN=CT2",
    subject_alternative_names=(),
    fingerprint="00" * 32,
    serial_number=1,
)


@pytest.mark.parametrize(
    ("rules", "identity", "why"),
    [
        (AeTitleRules(), None, None),
        (AeTitleRules(ae_titles=frozenset({"ISOCENTER"}), allow=("CT?",)), None, None),
        (AeTitleRules(ae_titles=frozenset({"OTHER"})), None, "called AE title 'ISOCENTER' is not"),
        (AeTitleRules(allow=("MR*",)), None, "calling AE title 'CT1' is not on the list"),
        (AeTitleRules(), CERTIFICATE, "the certificate of 'CT2' does not own the calling AE"),
        (AeTitleRules(certificate_owns_ae_title=False), CERTIFICATE, None),
    ],
)
async def test_rules_by_ae_title(
    rules: AeTitleRules, identity: PeerIdentity | None, why: str | None
) -> None:
    origin = ConnectionOrigin(host="192.0.2.7", is_tls=identity is not None, identity=identity)
    verdict = await rules.admit(REQUEST, origin)
    if why is None:
        assert verdict == Admitted()
        return
    assert isinstance(verdict, Rejected)
    assert verdict.why.startswith(why)
    assert verdict.reject != NO_REASON_GIVEN
    uniform = await replace(rules, uniform_rejection=True).admit(REQUEST, origin)
    assert uniform == replace(verdict, reject=NO_REASON_GIVEN)
