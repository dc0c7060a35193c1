"""What two sides agree on (PS3.8 7.1.1, PS3.7 D.3), for both roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dimse.message_codec import CEchoRequest, NActionRequest, NEventReportRequest
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    ANY,
    Acceptor,
    Negotiated,
    Offer,
    PresentationContext,
    Role,
    negotiate,
    negotiated_from,
    propose,
    provider_rejection,
)
from isocenter.engine.pdu import (
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    decode_pdu,
    encode_associate_accept,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"

OFFERS = {
    CT: Offer(transfer_syntaxes=(EXPLICIT, IMPLICIT), scp_role=True),
    GET: Offer(
        transfer_syntaxes=(IMPLICIT,),
        extended=lambda asked: bytes(byte & 1 for byte in asked) if asked else None,
    ),
}


def request(*contexts: ProposedContext, **info: Any) -> AssociateRequest:
    return AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="CT1",
        presentation_contexts=contexts,
        user_information=UserInformation(**info),
    )


def acceptor(**fields: Any) -> Acceptor:
    values: dict[str, Any] = {"offer": OFFERS.get, "max_pdu_length": 131_072}
    return Acceptor(**values | fields)


def accepted(asked: AssociateRequest, by: Acceptor | None = None) -> AssociateAccept:
    answer = negotiate(asked, by or acceptor())
    assert isinstance(answer, AssociateAccept)
    return answer


def both(asked: AssociateRequest, answer: AssociateAccept) -> tuple[Negotiated, Negotiated]:
    return negotiated_from(asked, answer, Role.REQUESTOR), negotiated_from(
        asked, answer, Role.ACCEPTOR
    )


# Presentation contexts.


def test_each_context_is_judged_by_itself() -> None:
    asked = request(
        ProposedContext(1, CT, (IMPLICIT, EXPLICIT)),
        ProposedContext(3, CT, (IMPLICIT,)),
        ProposedContext(5, CT, (JPEG,)),
        ProposedContext(7, MR, (IMPLICIT,)),
    )
    assert accepted(asked).presentation_contexts == (
        ContextResult(1, 0, EXPLICIT),
        ContextResult(3, 0, IMPLICIT),
        ContextResult(5, 4),
        ContextResult(7, 3),
    )


def test_no_context_accepted_is_still_an_accept() -> None:
    assert accepted(request()).presentation_contexts == ()
    answer = accepted(request(ProposedContext(1, MR, (IMPLICIT,))))
    assert answer.presentation_contexts == (ContextResult(1, 3),)


@pytest.mark.parametrize(
    ("offered", "prefer", "chosen"),
    [
        ((EXPLICIT, IMPLICIT), Role.ACCEPTOR, EXPLICIT),
        ((EXPLICIT, IMPLICIT), Role.REQUESTOR, IMPLICIT),
        ((ANY,), Role.ACCEPTOR, JPEG),
        ((ANY,), Role.REQUESTOR, JPEG),
        ((EXPLICIT, ANY), Role.ACCEPTOR, EXPLICIT),
        ((EXPLICIT, ANY), Role.REQUESTOR, JPEG),
        (("1.2.3", ANY), Role.ACCEPTOR, JPEG),
    ],
)
def test_whose_order_decides(offered: tuple[str, ...], prefer: Role, chosen: str) -> None:
    by = acceptor(offer=lambda _: Offer(transfer_syntaxes=offered), prefer=prefer)
    asked = request(ProposedContext(1, CT, (JPEG, IMPLICIT, EXPLICIT)))
    assert accepted(asked, by).presentation_contexts == (ContextResult(1, 0, chosen),)


def test_what_is_announced() -> None:
    answer = accepted(
        request(ProposedContext(1, CT, (IMPLICIT,)), max_pdu_length=16_384),
        acceptor(implementation_class_uid="1.2.3", implementation_version_name="ME"),
    )
    assert answer.user_information == UserInformation(
        max_pdu_length=131_072, implementation_class_uid="1.2.3", implementation_version_name="ME"
    )
    assert (answer.called_ae_title, answer.calling_ae_title) == ("ISOCENTER", "CT1")


# Common extended negotiation (PS3.7 D.3.3.6).

SPECIAL = "1.2.826.0.1.3680043.2.1"
STORAGE_SERVICE = "1.2.840.10008.4.2"


def takes_storage(said: CommonExtendedNegotiation) -> bool:
    return said.service_class_uid == STORAGE_SERVICE


RELATED = {
    CT: replace(OFFERS[CT], takes_related=takes_storage, extended=lambda asked: asked),
    MR: Offer(transfer_syntaxes=(JPEG,)),
}


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ([(SPECIAL, STORAGE_SERVICE, (CT,))], ContextResult(1, 0, EXPLICIT)),
        # The first that takes it, in whatever place.
        ([(SPECIAL, STORAGE_SERVICE, ("1.2.3", MR, CT))], ContextResult(1, 0, EXPLICIT)),
        # The first item of a SOP class counts.
        (
            [(SPECIAL, STORAGE_SERVICE, ("1.2.3",)), (SPECIAL, STORAGE_SERVICE, (CT,))],
            ContextResult(1, 3),
        ),
        ([], ContextResult(1, 3)),
        ([("1.2.3", STORAGE_SERVICE, (CT,))], ContextResult(1, 3)),
        ([(SPECIAL, STORAGE_SERVICE, ())], ContextResult(1, 3)),
        ([(SPECIAL, STORAGE_SERVICE, (MR,))], ContextResult(1, 3)),
        ([(SPECIAL, "1.2.840.10008.4.1", (CT,))], ContextResult(1, 3)),
        # What is behind the sixteenth is not looked at.
        ([(SPECIAL, STORAGE_SERVICE, (*["1.2.3"] * 16, CT))], ContextResult(1, 3)),
    ],
)
def test_an_unknown_sop_class_is_served_as_a_general_one(
    said: list[tuple[str, str, tuple[str, ...]]], result: ContextResult
) -> None:
    asked = request(
        ProposedContext(1, SPECIAL, (IMPLICIT, EXPLICIT)),
        common_extended_negotiations=tuple(CommonExtendedNegotiation(*one) for one in said),
    )
    answer = accepted(asked, acceptor(offer=RELATED.get))
    assert answer.presentation_contexts == (result,)
    # The acceptor sends none (PS3.7 D.3.3.6.2).
    assert answer.user_information.common_extended_negotiations == ()
    if result.result == 0:
        for side in both(asked, answer):
            assert side.contexts[1].abstract_syntax == SPECIAL
            assert side.contexts[1].related == CommonExtendedNegotiation(*said[0])


def test_a_known_sop_class_is_served_as_itself() -> None:
    asked = request(
        ProposedContext(1, MR, (EXPLICIT,)),
        common_extended_negotiations=(CommonExtendedNegotiation(MR, STORAGE_SERVICE, (CT,)),),
    )
    answer = accepted(asked, acceptor(offer=RELATED.get))
    assert answer.presentation_contexts == (ContextResult(1, 4),)


def test_roles_and_extended_negotiation_are_those_of_the_general_class() -> None:
    asked = request(
        ProposedContext(1, SPECIAL, (EXPLICIT,)),
        common_extended_negotiations=(CommonExtendedNegotiation(SPECIAL, STORAGE_SERVICE, (CT,)),),
        role_selections=(RoleSelection(SPECIAL, False, True),),
        extended_negotiations=(ExtendedNegotiation(SPECIAL, b"\1"),),
    )
    info = accepted(asked, acceptor(offer=RELATED.get)).user_information
    assert info.role_selections == (RoleSelection(SPECIAL, False, True),)
    assert info.extended_negotiations == (ExtendedNegotiation(SPECIAL, b"\1"),)


# Rejections of the service-provider (PS3.8 Table 9-21).


@pytest.mark.parametrize("version", [0, 2, 0x8000])
def test_protocol_version(version: int) -> None:
    asked = replace(request(), protocol_version=version)
    assert negotiate(asked, acceptor()) == provider_rejection(asked) == AssociateReject(1, 2, 2)


def test_only_bit_0_of_the_protocol_version_is_tested() -> None:
    assert provider_rejection(replace(request(), protocol_version=0xFFFF)) is None


def test_application_context() -> None:
    asked = replace(request(), application_context_name="1.2.3")
    assert negotiate(asked, acceptor()) == provider_rejection(asked) == AssociateReject(1, 1, 2)


# Titles that no answer could echo (PS3.8 9.3.3); the service-user may ask for more.


@pytest.mark.parametrize("title", ["", "A\\B", "M\xdcLLER", "A\tB", "SEVENTEEN LETTERS"])
def test_what_is_no_ae_title_is_not_recognized(title: str) -> None:
    called = replace(request(), called_ae_title=title)
    calling = replace(request(), calling_ae_title=title)
    assert provider_rejection(called) is provider_rejection(calling) is None
    assert negotiate(called, acceptor()) == AssociateReject(1, 1, 7)
    assert negotiate(calling, acceptor()) == AssociateReject(1, 1, 3)


# Roles (PS3.7 D.3.3.4).


@pytest.mark.parametrize(
    ("proposed", "offered", "answer", "requestor", "acceptor_"),
    [
        # No item: the requestor is SCU, the acceptor SCP.
        (None, (True, True), None, (True, False), (False, True)),
        ((False, True), (True, True), (False, True), (False, True), (True, False)),
        ((True, True), (True, True), (True, True), (True, True), (True, True)),
        ((True, True), (True, False), (True, False), (True, False), (False, True)),
        ((False, True), (True, False), (False, False), (False, False), (False, False)),
    ],
)
def test_roles(
    proposed: tuple[bool, bool] | None,
    offered: tuple[bool, bool],
    answer: tuple[bool, bool] | None,
    requestor: tuple[bool, bool],
    acceptor_: tuple[bool, bool],
) -> None:
    items = () if proposed is None else (RoleSelection(CT, *proposed),)
    asked = request(ProposedContext(1, CT, (IMPLICIT,)), role_selections=items)
    offer = Offer(transfer_syntaxes=(IMPLICIT,), scu_role=offered[0], scp_role=offered[1])
    accept = accepted(asked, acceptor(offer={CT: offer}.get))
    expected = () if answer is None else (RoleSelection(CT, *answer),)
    assert accept.user_information.role_selections == expected
    ours, peers = both(asked, accept)
    assert (ours.contexts[1].as_scu, ours.contexts[1].as_scp) == requestor
    assert (peers.contexts[1].as_scu, peers.contexts[1].as_scp) == acceptor_


@pytest.mark.parametrize("items", [(), (RoleSelection(CT, True, False),)])
def test_what_only_an_scp_may_have_is_not_accepted_from_an_scu(
    items: tuple[RoleSelection, ...],
) -> None:
    offer = Offer(transfer_syntaxes=(IMPLICIT,), scu_role=False, scp_role=True)
    asked = request(ProposedContext(1, CT, (IMPLICIT,)), role_selections=items)
    accept = accepted(asked, acceptor(offer={CT: offer}.get))
    assert [one.result for one in accept.presentation_contexts] == [3]
    asked = request(
        ProposedContext(1, CT, (IMPLICIT,)), role_selections=(RoleSelection(CT, True, True),)
    )
    accept = accepted(asked, acceptor(offer={CT: offer}.get))
    assert [one.result for one in accept.presentation_contexts] == [0]
    assert accept.user_information.role_selections == (RoleSelection(CT, False, True),)


def test_roles_are_answered_only_where_offered_and_proposed() -> None:
    asked = request(
        ProposedContext(1, CT, (IMPLICIT,)),
        ProposedContext(3, MR, (IMPLICIT,)),
        role_selections=(
            RoleSelection(CT, True, True),
            RoleSelection(CT, True, False),
            RoleSelection(MR, True, True),
            RoleSelection(GET, True, True),
        ),
    )
    assert accepted(asked).user_information.role_selections == (RoleSelection(CT, True, True),)


def test_an_answer_cannot_give_a_role_that_was_not_asked_for() -> None:
    asked = request(ProposedContext(1, CT, (IMPLICIT,)))
    accept = accepted(asked)
    generous = replace(
        accept,
        user_information=replace(
            accept.user_information, role_selections=(RoleSelection(CT, False, True),)
        ),
    )
    context = negotiated_from(asked, generous, Role.REQUESTOR).contexts[1]
    assert (context.as_scu, context.as_scp) == (True, False)


def test_items_that_are_passed_over_end_nothing() -> None:
    """Not proposed, asked for twice, not offered, not answered: each of the rest counts."""
    asked = request(
        ProposedContext(1, CT, (IMPLICIT,)),
        ProposedContext(3, GET, (IMPLICIT,)),
        ProposedContext(5, "1.2.3", (IMPLICIT,)),
        role_selections=tuple(RoleSelection(uid, True, True) for uid in (MR, "1.2.3", CT, CT, GET)),
        extended_negotiations=tuple(
            ExtendedNegotiation(uid, b"\1\2\3") for uid in (MR, "1.2.3", CT, CT, GET)
        ),
    )
    info = accepted(asked).user_information
    assert [item.sop_class_uid for item in info.role_selections] == [CT, GET]
    assert [item.sop_class_uid for item in info.extended_negotiations] == [GET]


def test_a_context_that_was_refused_hides_none_behind_it() -> None:
    asked = request(ProposedContext(1, "1.2.3", (IMPLICIT,)), ProposedContext(3, CT, (IMPLICIT,)))
    for side in both(asked, accepted(asked)):
        assert set(side.contexts) == {3}


def test_a_flood_of_items_asks_the_offer_once() -> None:
    calls: list[str] = []

    def offer(uid: str) -> Offer | None:
        calls.append(uid)
        return OFFERS.get(uid)

    asked = request(
        ProposedContext(1, GET, (IMPLICIT,)),
        role_selections=(RoleSelection(GET, True, True),) * 5_000,
        extended_negotiations=(ExtendedNegotiation(GET, b""),) * 5_000,
    )
    accepted(asked, acceptor(offer=offer))
    assert calls == [GET] * 3


@pytest.mark.parametrize("as_scu", [False, True])
@pytest.mark.parametrize("as_scp", [False, True])
def test_a_notification_goes_to_the_scu_and_all_else_to_the_scp(as_scu: bool, as_scp: bool) -> None:
    context = PresentationContext(1, CT, IMPLICIT, as_scu, as_scp)
    notification = NEventReportRequest(
        message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2", event_type_id=1
    )
    action = NActionRequest(
        message_id=1, requested_sop_class_uid=CT, requested_sop_instance_uid="1.2", action_type_id=1
    )
    echo = CEchoRequest(message_id=1, affected_sop_class_uid=CT)
    assert context.may_perform(notification) is as_scu
    assert context.may_perform(action) is as_scp
    assert context.may_perform(echo) is as_scp


# Asynchronous operations (PS3.7 D.3.3.3).


@pytest.mark.parametrize(
    ("proposed", "ours", "agreed"),
    [
        ((1, 1), (1, 1), (1, 1)),
        ((5, 3), (8, 8), (5, 3)),
        ((8, 8), (5, 3), (3, 5)),
        ((0, 0), (4, 6), (6, 4)),
        ((4, 6), (0, 0), (4, 6)),
        ((0, 0), (0, 0), (0, 0)),
    ],
)
def test_window(proposed: tuple[int, int], ours: tuple[int, int], agreed: tuple[int, int]) -> None:
    """*agreed* is the requestor's view: operations that it invokes and performs."""
    asked = request(asynchronous_operations_window=AsynchronousOperationsWindow(*proposed))
    by = acceptor(max_operations_invoked=ours[0], max_operations_performed=ours[1])
    answer = accepted(asked, by)
    window = answer.user_information.asynchronous_operations_window
    assert window == AsynchronousOperationsWindow(*agreed)
    requestor, acceptor_ = both(asked, answer)
    assert (requestor.operations_invoked, requestor.operations_performed) == agreed
    assert (acceptor_.operations_performed, acceptor_.operations_invoked) == agreed


def test_no_window_is_one() -> None:
    asked = request()
    answer = accepted(asked, acceptor(max_operations_invoked=9, max_operations_performed=9))
    assert answer.user_information.asynchronous_operations_window is None
    for side in both(asked, answer):
        assert (side.operations_invoked, side.operations_performed) == (1, 1)


def test_an_answer_cannot_widen_the_window() -> None:
    asked = request(asynchronous_operations_window=AsynchronousOperationsWindow(2, 2))
    answer = replace(
        accepted(asked),
        user_information=UserInformation(
            asynchronous_operations_window=AsynchronousOperationsWindow(0, 9)
        ),
    )
    side = negotiated_from(asked, answer, Role.REQUESTOR)
    assert (side.operations_invoked, side.operations_performed) == (2, 2)


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_window_needs_both_sides(is_asked: bool) -> None:
    """PS3.7 D.3.3.3: without either item the association is synchronous."""
    window = AsynchronousOperationsWindow(4, 4)
    asked = request(asynchronous_operations_window=window if is_asked else None)
    answer = replace(
        accepted(asked),
        user_information=UserInformation(
            asynchronous_operations_window=None if is_asked else window
        ),
    )
    for side in both(asked, answer):
        assert (side.operations_invoked, side.operations_performed) == (1, 1)


# Extended negotiation (PS3.7 D.3.3.5).


def test_extended_negotiation() -> None:
    asked = request(
        ProposedContext(1, GET, (IMPLICIT,)),
        ProposedContext(3, CT, (IMPLICIT,)),
        extended_negotiations=(
            ExtendedNegotiation(GET, b"\1\2\3"),
            ExtendedNegotiation(CT, b"\1"),
            ExtendedNegotiation(MR, b"\1"),
        ),
    )
    answer = accepted(asked)
    assert answer.user_information.extended_negotiations == (ExtendedNegotiation(GET, b"\1\0\1"),)
    for side in both(asked, answer):
        assert side.extended_negotiations == {GET: b"\1\0\1"}


def test_extended_negotiation_without_an_answer() -> None:
    contexts = ProposedContext(1, GET, (IMPLICIT,))
    asked = request(contexts, extended_negotiations=(ExtendedNegotiation(GET, b""),))
    assert accepted(asked).user_information.extended_negotiations == ()
    not_proposed = request(extended_negotiations=(ExtendedNegotiation(GET, b"\1"),))
    assert accepted(not_proposed).user_information.extended_negotiations == ()


def test_an_answer_to_what_was_not_asked_is_ignored() -> None:
    asked = request(ProposedContext(1, GET, (IMPLICIT,)))
    answer = replace(
        accepted(asked),
        user_information=UserInformation(extended_negotiations=(ExtendedNegotiation(GET, b"\1"),)),
    )
    assert negotiated_from(asked, answer, Role.REQUESTOR).extended_negotiations == {}


# What holds afterwards.


def test_established() -> None:
    identity = UserIdentity(1, False, b"user")
    asked = request(
        ProposedContext(1, CT, (IMPLICIT, EXPLICIT)),
        ProposedContext(3, MR, (IMPLICIT,)),
        max_pdu_length=16_384,
        implementation_class_uid="1.2.3",
        implementation_version_name="PEER",
        user_identity=identity,
    )
    by = acceptor(implementation_class_uid="1.2.4", implementation_version_name="ME")
    requestor, acceptor_ = both(asked, accepted(asked, by))
    assert requestor.contexts == {1: PresentationContext(1, CT, EXPLICIT, True, False)}
    assert acceptor_.contexts == {1: PresentationContext(1, CT, EXPLICIT, False, True)}
    for side in (requestor, acceptor_):
        assert (side.called_ae_title, side.calling_ae_title) == ("ISOCENTER", "CT1")
    assert (requestor.role, acceptor_.role) == (Role.REQUESTOR, Role.ACCEPTOR)
    assert (acceptor_.peer_max_pdu_length, acceptor_.own_max_pdu_length) == (16_384, 131_072)
    assert (requestor.peer_max_pdu_length, requestor.own_max_pdu_length) == (131_072, 16_384)
    assert acceptor_.peer_implementation_class_uid == "1.2.3"
    assert requestor.peer_implementation_class_uid == "1.2.4"
    assert acceptor_.peer_implementation_version_name == "PEER"
    assert requestor.peer_implementation_version_name == "ME"
    assert acceptor_.user_identity is identity


@pytest.mark.parametrize(
    "result",
    [ContextResult(5, 0, IMPLICIT), ContextResult(1, 0, JPEG), ContextResult(1, 0)],
)
def test_accepting_what_was_not_proposed(result: ContextResult) -> None:
    asked = request(ProposedContext(1, CT, (IMPLICIT,)))
    answer = replace(accepted(asked), presentation_contexts=(result,))
    with pytest.raises(RemoteProtocolError) as caught:
        negotiated_from(asked, answer, Role.REQUESTOR)
    assert caught.value.reason == INVALID_PDU_PARAMETER_VALUE
    with pytest.raises(LocalProtocolError):
        negotiated_from(asked, answer, Role.ACCEPTOR)


def test_a_refusal_of_what_was_not_proposed_means_nothing() -> None:
    asked = request(ProposedContext(1, CT, (IMPLICIT,)))
    answer = replace(accepted(asked), presentation_contexts=(ContextResult(9, 3),))
    assert negotiated_from(asked, answer, Role.REQUESTOR).contexts == {}


uids = st.sampled_from([CT, MR, GET])
syntaxes = st.lists(st.sampled_from([IMPLICIT, EXPLICIT, JPEG]), min_size=1).map(tuple)
windows = st.integers(0, 3)


@given(
    st.lists(st.tuples(uids, syntaxes), max_size=8),
    st.lists(st.builds(RoleSelection, uids, st.booleans(), st.booleans()), max_size=4).map(tuple),
    st.none() | st.builds(AsynchronousOperationsWindow, windows, windows),
    windows,
    st.sampled_from(Role),
)
def test_both_sides_hold_to_the_same(
    contexts: list[tuple[str, tuple[str, ...]]],
    roles: tuple[RoleSelection, ...],
    window: AsynchronousOperationsWindow | None,
    own_window: int,
    prefer: Role,
) -> None:
    """Whatever was asked: the answer can be sent, and each side's view mirrors the other's."""
    proposed = propose(contexts)[0] if contexts else ()
    asked = request(*proposed, role_selections=roles, asynchronous_operations_window=window)
    by = acceptor(prefer=prefer, max_operations_invoked=own_window)
    answer = accepted(asked, by)
    encoded = encode_associate_accept(answer)
    assert decode_pdu(encoded[0], encoded[6:], DEFAULT_LIMITS) == answer
    assert [result.context_id for result in answer.presentation_contexts] == [
        context.context_id for context in proposed
    ]
    requestor, acceptor_ = both(asked, answer)
    assert requestor.operations_invoked == acceptor_.operations_performed
    assert requestor.operations_performed == acceptor_.operations_invoked
    assert requestor.contexts.keys() == acceptor_.contexts.keys()
    for context_id, context in requestor.contexts.items():
        mirrored = acceptor_.contexts[context_id]
        assert context == replace(mirrored, as_scu=mirrored.as_scp, as_scp=mirrored.as_scu)


# Proposing.


def test_propose() -> None:
    assert propose([]) == ()
    assert propose([(CT, [EXPLICIT, IMPLICIT]), (CT, [JPEG])]) == (
        (ProposedContext(1, CT, (EXPLICIT, IMPLICIT)), ProposedContext(3, CT, (JPEG,))),
    )


@given(st.integers(1, 400))
def test_propose_splits_past_128(count: int) -> None:
    groups = propose((f"1.2.{number}", [IMPLICIT]) for number in range(count))
    assert [context.abstract_syntax for group in groups for context in group] == [
        f"1.2.{number}" for number in range(count)
    ]
    assert all(len(group) == 128 for group in groups[:-1])
    for group in groups:
        assert [context.context_id for context in group] == list(range(1, 2 * len(group), 2))
        assert group[-1].context_id <= 255
