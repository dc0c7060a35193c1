"""What two sides hold to after they have negotiated over the wire: whole matrices (PS3.7 D.3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from engine.wire import CT, Wire, only
from isocenter.engine import pdu
from isocenter.engine.errors import LimitExceeded, LocalProtocolError
from isocenter.engine.events import AssociationAccepted
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    Acceptor,
    Negotiated,
    Offer,
    Role,
    negotiate,
    negotiated_from,
)
from isocenter.engine.pdu import AssociateAccept, AssociateRequest

IMPLICIT, EXPLICIT, BIG, JPEG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
)


def request_of(
    *contexts: ProposedContext, info: UserInformation | None = None, **fields: Any
) -> AssociateRequest:
    return AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="CT1",
        presentation_contexts=contexts or (ProposedContext(1, CT, (IMPLICIT,)),),
        user_information=info or UserInformation(),
        **fields,
    )


def acceptor_of(offers: dict[str, Offer], **fields: Any) -> Acceptor:
    return Acceptor(offer=offers.get, **{"max_pdu_length": 16_384} | fields)


def accept_of(request: AssociateRequest, acceptor: Acceptor) -> AssociateAccept:
    accept = negotiate(request, acceptor)
    assert isinstance(accept, AssociateAccept)
    return accept


def both(request: AssociateRequest, acceptor: Acceptor) -> tuple[Negotiated, Negotiated]:
    """What requestor and acceptor hold to, over the wire."""
    wire = Wire(how=acceptor).associate(request)
    first, second = (end.negotiated for end in wire.ends)
    assert first is not None
    assert second is not None
    assert only(wire.effects[0], AssociationAccepted).negotiated == first
    return first, second


def offers(*syntaxes: str, **fields: Any) -> dict[str, Offer]:
    return {CT: Offer(transfer_syntaxes=syntaxes, **fields)}


def test_each_context_gets_its_own_result() -> None:
    """Several of one abstract syntax, unknown ones, and the order of the request."""
    request = request_of(
        ProposedContext(9, CT, (EXPLICIT,)),
        ProposedContext(1, CT, (IMPLICIT,)),
        ProposedContext(3, "1.2.3", (IMPLICIT,)),
        ProposedContext(255, CT, (JPEG,)),
    )
    acceptor = acceptor_of(offers(EXPLICIT, IMPLICIT))
    accept = accept_of(request, acceptor)
    assert accept.presentation_contexts == (
        ContextResult(9, 0, EXPLICIT),
        ContextResult(1, 0, IMPLICIT),
        ContextResult(3, 3),
        ContextResult(255, 4),
    )
    for side in both(request, acceptor):
        assert {number: context.transfer_syntax for number, context in side.contexts.items()} == {
            9: EXPLICIT,
            1: IMPLICIT,
        }
        assert {context.abstract_syntax for context in side.contexts.values()} == {CT}


def test_nothing_in_common_is_still_an_association() -> None:
    """PS3.8 leaves it to the user whether to go on without a context."""
    for side in both(request_of(), acceptor_of({})):
        assert not side.contexts


@pytest.mark.parametrize("theirs", [0, 16, 16_384, 0xFFFF_FFFF])
@pytest.mark.parametrize("ours", [0, 4_096, 131_072])
def test_maximum_lengths_are_independent(theirs: int, ours: int) -> None:
    request = request_of(info=UserInformation(max_pdu_length=theirs))
    requestor, acceptor = both(request, acceptor_of({}, max_pdu_length=ours))
    assert (requestor.own_max_pdu_length, requestor.peer_max_pdu_length) == (theirs, ours)
    assert (acceptor.own_max_pdu_length, acceptor.peer_max_pdu_length) == (ours, theirs)


# Roles (PS3.7 D.3.3.4).

BOOLS = (False, True)


@pytest.mark.parametrize("asked", [None, *itertools.product(BOOLS, BOOLS)])
@pytest.mark.parametrize("offered", list(itertools.product(BOOLS, BOOLS)))
def test_roles(asked: tuple[bool, bool] | None, offered: tuple[bool, bool]) -> None:
    """Each role only if proposed and accepted; without a proposal the requestor is SCU."""
    roles = () if asked is None else (RoleSelection(CT, *asked),)
    request = request_of(info=UserInformation(role_selections=roles))
    scu, scp = offered
    acceptor = acceptor_of(offers(IMPLICIT, scu_role=scu, scp_role=scp))
    accept = accept_of(request, acceptor)
    agreed = (True, False)
    if not scu and not (scp and asked is not None and asked[1]):
        # No role is left to the requestor: there is nothing to do on the context.
        assert [one.result for one in accept.presentation_contexts] == [3]
        assert accept.user_information.role_selections == ()
        return
    if asked is None:
        assert accept.user_information.role_selections == ()
    else:
        agreed = (asked[0] and scu, asked[1] and scp)
        assert accept.user_information.role_selections == (RoleSelection(CT, *agreed),)
    requestor_side, acceptor_side = both(request, acceptor)
    context = requestor_side.contexts[1]
    assert (context.as_scu, context.as_scp) == agreed
    context = acceptor_side.contexts[1]
    assert (context.as_scp, context.as_scu) == agreed


def accept_with(**fields: Any) -> AssociateAccept:
    return AssociateAccept(
        called_ae_title="ISOCENTER",
        calling_ae_title="CT1",
        presentation_contexts=(ContextResult(1, 0, IMPLICIT),),
        user_information=UserInformation(**fields),
    )


def test_an_acceptor_that_does_not_answer_a_role_selection() -> None:
    """The default roles hold (D.3.3.4)."""
    request = request_of(info=UserInformation(role_selections=(RoleSelection(CT, False, True),)))
    context = negotiated_from(request, accept_with(), Role.REQUESTOR).contexts[1]
    assert (context.as_scu, context.as_scp) == (True, False)


# Extended negotiation (PS3.7 D.3.3.5).


@pytest.mark.parametrize(
    ("answering", "answer"),
    [
        (None, {}),
        (lambda asked: None, {}),
        (lambda asked: asked[:1], {CT: b"\1"}),
        (lambda asked: b"", {CT: b""}),
    ],
)
def test_extended_negotiation(
    answering: Callable[[bytes], bytes | None] | None, answer: dict[str, bytes]
) -> None:
    asked = (
        ExtendedNegotiation(CT, b"\1\2"),
        ExtendedNegotiation(CT, b"\3"),
        ExtendedNegotiation("1.9", b"\4"),
    )
    request = request_of(info=UserInformation(extended_negotiations=asked))
    for side in both(request, acceptor_of(offers(IMPLICIT, extended=answering))):
        assert side.extended_negotiations == answer


# Asynchronous operations window (PS3.7 D.3.3.3).


def smaller(one: int, other: int) -> int:
    unlimited = 1 << 20
    least = min(one or unlimited, other or unlimited)
    return 0 if least == unlimited else least


WINDOWS = (0, 1, 3, 0xFFFF)


@pytest.mark.parametrize("invoked", WINDOWS)
@pytest.mark.parametrize("performed", WINDOWS)
@pytest.mark.parametrize("ours", list(itertools.product((0, 1, 2), (0, 1, 2))))
def test_window(invoked: int, performed: int, ours: tuple[int, int]) -> None:
    """What one side may invoke is what the other is ready to perform; 0 is no limit."""
    window = AsynchronousOperationsWindow(invoked, performed)
    request = request_of(info=UserInformation(asynchronous_operations_window=window))
    acceptor = acceptor_of({}, max_operations_invoked=ours[0], max_operations_performed=ours[1])
    requestor_side, acceptor_side = both(request, acceptor)
    by_requestor, by_acceptor = smaller(invoked, ours[1]), smaller(performed, ours[0])
    assert requestor_side.operations_invoked == by_requestor
    assert requestor_side.operations_performed == by_acceptor
    assert acceptor_side.operations_invoked == by_acceptor
    assert acceptor_side.operations_performed == by_requestor


def test_without_a_window_operations_are_synchronous() -> None:
    acceptor = acceptor_of({}, max_operations_invoked=0, max_operations_performed=0)
    assert accept_of(request_of(), acceptor).user_information.asynchronous_operations_window is None
    for side in both(request_of(), acceptor):
        assert (side.operations_invoked, side.operations_performed) == (1, 1)


def test_more_than_128_contexts() -> None:
    """There are no more odd IDs: they repeat, and the 129th is judged before it is read."""
    contexts = tuple(ProposedContext(2 * number + 1, CT, (IMPLICIT,)) for number in range(129))
    with pytest.raises(LocalProtocolError):
        pdu.encode_associate_request(request_of(*contexts))
    whole = pdu.encode_associate_request(request_of(*contexts[:128]))
    decoded = pdu.decode_pdu(1, whole[6:], DEFAULT_LIMITS)
    assert isinstance(decoded, AssociateRequest)
    assert len(decoded.presentation_contexts) == 128
    one_more = whole[6:] + b"\x20\0\0\0"
    with pytest.raises(LimitExceeded) as caught:
        pdu.decode_pdu(1, one_more, DEFAULT_LIMITS)
    assert caught.value.limit == "presentation_contexts"


def test_identity_and_implementation_are_kept() -> None:
    identity = UserIdentity(1, False, b"who")
    info = UserInformation(
        implementation_class_uid="1.2.3",
        implementation_version_name="V",
        user_identity=identity,
    )
    requestor, acceptor = both(request_of(info=info), acceptor_of({}))
    assert acceptor.user_identity == identity
    assert acceptor.peer_implementation_class_uid == "1.2.3"
    assert acceptor.peer_implementation_version_name == "V"
    assert requestor.peer_implementation_class_uid.startswith("2.25.")
