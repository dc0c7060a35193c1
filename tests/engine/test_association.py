"""The shell around the pure parts, as a playbook: an input, and the effects that must follow."""

from __future__ import annotations

import pytest

from engine.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    C_ECHO,
    CT,
    ECHO_CONTEXT,
    P_DATA_ECHO,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    STORE_CONTEXT,
    abort_pdu,
    answer,
    established,
    idle_requestor,
    joined,
    listening,
    only,
    opening,
    p_data,
    pdu_of,
    pdv,
    requested,
    requesting,
    sent,
)
from isocenter.engine import pdu
from isocenter.engine.association import Association
from isocenter.engine.commands import (
    Abort,
    AcceptAssociation,
    AcceptRelease,
    Command,
    RejectAssociation,
    RequestAssociation,
    RequestRelease,
    SendDataSet,
    SendMessage,
)
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CEchoResponse,
    CFindRequest,
    CStoreRequest,
    UnrecognizedMessage,
    encode_message,
    response_to,
)
from isocenter.engine.effects import CloseTransport, OpenTransport, SendBytes, StartArtim, StopArtim
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import (
    AssociationAccepted,
    AssociationRejected,
    AssociationReleased,
    AssociationRequested,
    CancelReceived,
    DataSetReceived,
    MessageReceived,
    ProviderAborted,
    ReleaseRequested,
)
from isocenter.engine.items import ContextResult, UserInformation
from isocenter.engine.negotiation import Negotiated, Role
from isocenter.engine.pdu import AssociateAccept, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import VERIFICATION

STORE = CStoreRequest(message_id=3, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")


def negotiated(end: Association) -> Negotiated:
    assert end.negotiated is not None
    return end.negotiated


def test_an_acceptor_from_the_connection_to_its_end() -> None:
    end = Association(Role.ACCEPTOR)
    assert (end.role, end.state) == (Role.ACCEPTOR, Sta.STA1)
    assert end.transport_opened() == (StartArtim(),)
    assert end.receive_data(ASSOCIATE_RQ) == (StopArtim(), AssociationRequested(REQUEST))
    accept = answer()
    assert end.send(AcceptAssociation(accept)) == (
        SendBytes((pdu.encode_associate_accept(accept),)),
    )
    assert list(negotiated(end).contexts) == [1, 3]
    assert end.receive_data(P_DATA_ECHO) == (
        MessageReceived(ECHO_CONTEXT, C_ECHO, has_data_set=False),
    )
    response = response_to(C_ECHO, 0)
    command = encode_message(response, has_data_set=False)
    assert sent(end.send(SendMessage(ECHO_CONTEXT, response))) == p_data(pdv(1, 3, command))
    assert end.receive_data(RELEASE_RQ) == (ReleaseRequested(),)
    assert end.send(AcceptRelease()) == (SendBytes((RELEASE_RP,)), StartArtim())
    assert end.transport_closed() == (StopArtim(),)
    assert end.state is Sta.STA1


def test_a_requestor_from_the_request_to_its_end() -> None:
    end = idle_requestor()
    assert end.send(RequestAssociation(REQUEST)) == (OpenTransport(),)
    assert end.transport_opened() == (SendBytes((ASSOCIATE_RQ,)),)
    accepted = only(end.receive_data(ASSOCIATE_AC), AssociationAccepted)
    assert accepted == AssociationAccepted(answer(), negotiated(end))
    assert negotiated(end).role is Role.REQUESTOR
    assert sent(end.send(SendMessage(ECHO_CONTEXT, C_ECHO))) == P_DATA_ECHO
    assert end.send(RequestRelease()) == (SendBytes((RELEASE_RQ,)),)
    assert end.receive_data(RELEASE_RP) == (AssociationReleased(), CloseTransport())
    assert end.state is Sta.STA1


def test_rejected_by_the_user() -> None:
    end = requested()
    assert end.send(RejectAssociation(REJECT)) == (SendBytes((ASSOCIATE_RJ,)), StartArtim())
    assert end.receive_data(P_DATA_ECHO) == ()
    end = requesting()
    assert end.receive_data(ASSOCIATE_RJ) == (AssociationRejected(REJECT), CloseTransport())


def test_a_connection_that_never_opened() -> None:
    end = opening()
    assert end.transport_closed() == (ProviderAborted(0, transport_lost=True),)
    end = opening()
    assert end.send(Abort()) == (StopArtim(), CloseTransport())


def test_one_object_is_good_for_one_connection() -> None:
    for end in (listening(), requesting(), established()):
        end.transport_closed()
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match="has ended"):
                end.transport_opened()
            with pytest.raises(LocalProtocolError, match="has ended"):
                end.send(RequestAssociation(REQUEST))
            assert end.receive_data(ASSOCIATE_RQ) == ()
            assert end.state is Sta.STA1


def test_an_acceptor_requests_nothing() -> None:
    with pytest.raises(LocalProtocolError, match="acceptor"):
        Association(Role.ACCEPTOR).send(RequestAssociation(REQUEST))


# Messages and data sets.


def store(context_id: int = STORE_CONTEXT) -> bytes:
    return p_data(pdv(context_id, 3, encode_message(STORE, has_data_set=True)))


def test_a_data_set_leaves_as_views_of_what_came() -> None:
    end = established()
    assert end.receive_data(store()) == (MessageReceived(STORE_CONTEXT, STORE, True),)
    abc, def_ = b"abc" * 100, b"def" * 100
    chunk = p_data(pdv(3, 0, abc), pdv(3, 0, b""), pdv(3, 2, def_))
    first, last = end.receive_data(chunk)
    assert isinstance(first, DataSetReceived)
    assert isinstance(last, DataSetReceived)
    assert (bytes(first.data), first.is_last) == (abc, False)
    assert (bytes(last.data), last.is_last) == (def_, True)
    assert first.data.obj is last.data.obj is chunk


def test_short_pieces_of_a_data_set_leave_joined() -> None:
    end = established()
    end.receive_data(store())
    pieces = [bytes((number,)) * 3 for number in range(200)]
    *parts, last = end.receive_data(p_data(*(pdv(3, 2 * (p is pieces[-1]), p) for p in pieces)))
    assert all(isinstance(part, DataSetReceived) and not part.is_last for part in parts)
    assert isinstance(last, DataSetReceived)
    assert last.is_last
    assert joined([*parts, last]) == [(STORE_CONTEXT, b"".join(pieces))]
    assert len(parts) == 2
    # Never with the data set before it.
    empty = p_data(pdv(3, 2, b""))
    effects = end.receive_data((store() + empty) * 2)
    assert [type(effect) for effect in effects] == [MessageReceived, DataSetReceived] * 2


def test_a_data_set_may_be_empty_and_end_with_nothing() -> None:
    end = established()
    end.receive_data(store())
    (only_part,) = end.receive_data(p_data(pdv(3, 2, b"")))
    assert isinstance(only_part, DataSetReceived)
    assert (bytes(only_part.data), only_part.is_last) == (b"", True)
    assert end.receive_data(P_DATA_ECHO) == (MessageReceived(1, C_ECHO, has_data_set=False),)


def test_reserved_bits_of_the_control_header_are_ignored() -> None:
    """PS3.8 E.2: bits 2 to 7."""
    end = established()
    command = encode_message(C_ECHO, has_data_set=False)
    assert end.receive_data(p_data(pdv(1, 0xFC | 3, command))) == (
        MessageReceived(1, C_ECHO, has_data_set=False),
    )


def test_cancel_comes_as_an_event_of_its_own() -> None:
    end = established()
    find = CFindRequest(message_id=9, affected_sop_class_uid=CT)
    end.receive_data(p_data(pdv(3, 3, encode_message(find, True)), pdv(3, 2, b"identifier")))
    cancel = CCancelRequest(message_id_being_responded_to=9)
    command = encode_message(cancel, has_data_set=False)
    assert end.receive_data(p_data(pdv(3, 3, command))) == (CancelReceived(3, cancel),)
    # Whatever it says: a C-CANCEL-RQ has no data set, so the next message may follow.
    command = encode_message(cancel, has_data_set=True)
    assert end.receive_data(p_data(pdv(3, 3, command))) == (CancelReceived(3, cancel),)
    assert end.receive_data(P_DATA_ECHO) == (MessageReceived(1, C_ECHO, has_data_set=False),)


def element(number: int, value: bytes) -> bytes:
    return bytes((0, 0, *number.to_bytes(2, "little"), *len(value).to_bytes(4, "little"))) + value


@pytest.mark.parametrize(
    ("elements", "status"),
    [
        ({0x0100: b"\x60\x01", 0x0110: b"\7\0", 0x0800: b"\1\1"}, 0x0211),
        ({0x0100: b"\x01\0", 0x0110: b"\7\0", 0x0002: b"1.2 ", 0x0800: b"\1\1"}, 0x0212),
        ({0x0100: b"\x30\0", 0x0110: b"\7\0", 0x0002: b"1.2 "}, 0x0212),
        ({0x0100: b"\x30\0", 0x0110: b"\7\0", 0x0002: b"1.2 ", 0x0800: b"\1"}, 0x0212),
    ],
    ids=[
        "no command of the standard",
        "C-STORE without an instance",
        "no data set type",
        "one byte",
    ],
)
def test_requests_that_are_answered_but_not_understood(
    elements: dict[int, bytes], status: int
) -> None:
    end = established()
    data = b"".join(element(number, value) for number, value in elements.items())
    received = only(end.receive_data(p_data(pdv(1, 3, data))), MessageReceived)
    message = received.message
    assert isinstance(message, UnrecognizedMessage)
    assert (message.message_id, message.status) == (7, status)
    assert end.state is Sta.STA6
    response = response_to(message, message.status, error_comment=message.error)
    back = established(Role.REQUESTOR)
    stream = sent(end.send(SendMessage(1, response)))
    assert stream[12 + 8 :]
    # A response with that command field means nothing to us, but has the bit of one.
    assert int.from_bytes(elements[0x0100], "little") | 0x8000 == response_field(stream)
    assert back.receive_data(stream)


def response_field(stream: bytes) -> int:
    position = stream.index(b"\0\0\0\1\2\0\0\0") + 8
    return int.from_bytes(stream[position : position + 2], "little")


@pytest.mark.parametrize(
    "elements",
    [
        {0x0110: b"\7\0", 0x0800: b"\1\1"},
        {0x0100: b"\x30\0", 0x0002: b"1.2 ", 0x0800: b"\1\1"},
        {0x0100: b"\x30\0", 0x0110: b"\7", 0x0002: b"1.2 ", 0x0800: b"\1\1"},
        {0x0100: b"\x60\x01", 0x0800: b"\1\1"},
        {0x0100: b"\x30", 0x0110: b"\7\0", 0x0800: b"\1\1"},
        {0x0100: b"\x60\x81", 0x0120: b"\7\0", 0x0800: b"\1\1", 0x0900: b"\0\0"},
        {0x0100: b"\x30\x80", 0x0120: b"\7\0", 0x0800: b"\1\1"},
        {0x0100: b"\x30\x80", 0x0800: b"\1\1", 0x0900: b"\0\0"},
        {0x0100: b"\xff\x0f", 0x0800: b"\1\1"},
    ],
    ids=[
        "no command field",
        "no message ID",
        "message ID of one byte",
        "unknown request without message ID",
        "command field of one byte",
        "unknown response",
        "response without status",
        "response to nothing",
        "cancel of nothing",
    ],
)
def test_what_cannot_even_be_answered(elements: dict[int, bytes]) -> None:
    """Evt19: A-ABORT with source 2, reason 6."""
    end = established()
    data = b"".join(element(number, value) for number, value in elements.items())
    effects = end.receive_data(p_data(pdv(1, 3, data)))
    assert sent(effects) == abort_pdu(2, 6)
    assert end.state is Sta.STA13


# What we may not send, and that nothing changes by trying.


def refuse(end: Association, command: Command, match: str) -> None:
    before = dict(vars(end))
    with pytest.raises(LocalProtocolError, match=match):
        end.send(command)
    assert dict(vars(end)) == before


def test_only_accepted_contexts_carry_messages() -> None:
    for role in Role:
        end = established(role)
        refuse(end, SendMessage(5, C_ECHO), "5 was not accepted")
        refuse(end, SendMessage(7, C_ECHO), "7 was not accepted")
        refuse(end, SendDataSet(5, b"", is_last=True), "5 was not accepted")


def test_a_data_set_belongs_to_its_message() -> None:
    end = established()
    refuse(end, SendDataSet(3, b"data", is_last=True), "awaits a data set")
    assert end.send(SendMessage(3, STORE, has_data_set=True))
    assert end.is_sending_data_set
    refuse(end, SendDataSet(1, b"data", is_last=True), "awaits a data set")
    refuse(end, SendMessage(1, C_ECHO), "before the end of a data set")
    refuse(end, SendMessage(3, STORE, b"data"), "before the end of a data set")
    refuse(end, RequestRelease(), "before the end of a data set")
    assert end.send(SendDataSet(3, b"", is_last=False)) == ()
    assert sent(end.send(SendDataSet(3, b"data", is_last=True))) == p_data(pdv(3, 2, b"data"))
    refuse(end, SendDataSet(3, b"more", is_last=True), "awaits a data set")
    assert end.send(RequestRelease())


def test_a_release_waits_for_our_data_set_and_an_abort_does_not() -> None:
    end = established()
    end.send(SendMessage(3, STORE, has_data_set=True))
    assert end.receive_data(RELEASE_RQ) == (ReleaseRequested(),)
    refuse(end, AcceptRelease(), "before the end of a data set")
    assert end.send(SendDataSet(3, b"data", is_last=True))  # AR-7
    assert end.send(AcceptRelease())
    end = established()
    end.send(SendMessage(3, STORE, has_data_set=True))
    assert sent(end.send(Abort())) == abort_pdu(0, 0)


def test_an_unencodable_command_changes_nothing() -> None:
    end = established()
    refuse(
        end, SendMessage(1, CEchoResponse(message_id_being_responded_to=1, status=1 << 16)), "US"
    )
    refuse(
        end,
        SendMessage(3, CStoreRequest(
            message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid=""
        ), has_data_set=True),
        "without affected_sop_instance_uid",
    )  # fmt: skip
    refuse(idle_requestor(), RequestAssociation(with_titles("")), "AE title")
    refuse(requested(), AcceptAssociation(accepting(ContextResult(9, 0, "1.2"))), "not proposed")
    refuse(requested(), AcceptAssociation(accepting(ContextResult(1, 0, "1.2"))), "not proposed")
    refuse(requested(), RejectAssociation(type(REJECT)(3, 1, 1)), "Table 9-21")
    refuse(established(), SendMessage(1, unrecognized()), "only received")


def with_titles(called: str) -> AssociateRequest:
    return AssociateRequest(
        called_ae_title=called,
        calling_ae_title="CT1",
        presentation_contexts=REQUEST.presentation_contexts,
        user_information=UserInformation(),
    )


def accepting(*results: ContextResult) -> AssociateAccept:
    return AssociateAccept(
        called_ae_title="ISOCENTER",
        calling_ae_title="CT1",
        presentation_contexts=results,
        user_information=UserInformation(),
    )


def unrecognized() -> UnrecognizedMessage:
    return UnrecognizedMessage(command_field=0x160, message_id=1, status=0x211, error="")


# What a peer may not agree to.


@pytest.mark.parametrize(
    "result", [ContextResult(9, 0, "1.2.840.10008.1.2"), ContextResult(1, 0, "1.2.840.10008.1.2.1")]
)
def test_an_accept_of_what_was_not_proposed(result: ContextResult) -> None:
    end = requesting()
    effects = end.receive_data(pdu.encode_associate_accept(accepting(result)))
    assert sent(effects) == abort_pdu(2, 6)
    assert end.state is Sta.STA13
    assert end.negotiated is None


@pytest.mark.parametrize("length", [1, 6, 15])
def test_a_maximum_length_that_carries_nothing(length: int) -> None:
    info = UserInformation(max_pdu_length=length)
    accept = AssociateAccept(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=(),
        user_information=info,
    )
    assert sent(requesting().receive_data(pdu.encode_associate_accept(accept))) == abort_pdu(2, 6)
    request = AssociateRequest(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=REQUEST.presentation_contexts,
        user_information=info,
    )
    end = listening()
    assert sent(end.receive_data(pdu.encode_associate_request(request))) == abort_pdu(0, 0)


def test_what_follows_an_end_in_the_same_chunk_is_not_understood() -> None:
    end = established()
    effects = end.receive_data(abort_pdu(2, 0) + P_DATA_ECHO)
    assert effects == (ProviderAborted(0), CloseTransport())
    end = established()
    effects = end.receive_data(RELEASE_RQ + P_DATA_ECHO)
    assert effects[0] == ReleaseRequested()
    assert sent(effects) == abort_pdu(2, 2)


def test_a_find_on_any_context_is_the_users_business() -> None:
    """The engine knows contexts, not SOP classes: 0122H is answered above."""
    end = established()
    find = CFindRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
    data = encode_message(find, has_data_set=True)
    assert end.receive_data(p_data(pdv(3, 3, data))) == (MessageReceived(3, find, True),)


def test_type_and_body_of_a_pdu_may_come_apart() -> None:
    end = listening()
    whole = pdu_of(1, ASSOCIATE_RQ[6:])
    assert whole == ASSOCIATE_RQ
    assert end.receive_data(whole[:6]) == ()
    assert end.receive_data(whole[6:]) == (StopArtim(), AssociationRequested(REQUEST))
