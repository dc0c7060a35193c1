"""The answers that PS3.8 9.2 and Table 9-26 ask for, byte by byte, in each state."""

from __future__ import annotations

import pytest

from engine.wire import (
    A_ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    C_ECHO_COMMAND,
    P_DATA_ECHO,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    UNRECOGNIZED,
    abort_pdu,
    end_in,
    established,
    kinds,
    listening,
    only,
    p_data,
    pdu_of,
    pdv,
    requesting,
    sent,
)
from isocenter.engine.association import Association
from isocenter.engine.commands import AcceptRelease
from isocenter.engine.effects import CloseTransport, PeerFault, SendBytes, StartArtim, StopArtim
from isocenter.engine.events import AssociationRejected, ProviderAborted
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import AssociateReject
from isocenter.engine.states import Sta

LATER = [Sta.STA3, Sta.STA5, *(Sta(f"Sta{number}") for number in range(6, 13))]

#: A PDU that is wrong wherever it comes, and the reason of PS3.8 Table 9-26 that fits.
INVALID = {
    "unrecognized type": (UNRECOGNIZED, 1),
    "type 0": (pdu_of(0, b"\0\0\0\0"), 1),
    "A-RELEASE-RQ of five bytes": (pdu_of(5, bytes(5)), 6),
    "A-RELEASE-RP of no bytes": (pdu_of(6, b""), 6),
    "A-ABORT of three bytes": (pdu_of(7, bytes(3)), 6),
    "A-ASSOCIATE-RQ cut short": (pdu_of(1, bytes(40)), 6),
    "A-ASSOCIATE-AC cut short": (pdu_of(2, bytes(40)), 6),
    "A-ASSOCIATE-RJ of five bytes": (pdu_of(3, bytes(5)), 6),
    "A-ASSOCIATE-RQ with two application contexts": (
        pdu_of(1, ASSOCIATE_RQ[6:] + ASSOCIATE_RQ[74:99]),
        5,
    ),
}


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("sta", LATER, ids=str)
def test_invalid_pdus(name: str, sta: Sta) -> None:
    """Evt19, AA-8: source 2, and the reason that says what was wrong."""
    data, reason = INVALID[name]
    end = end_in(sta)
    effects = end.receive_data(data)
    assert kinds(effects) == [SendBytes, ProviderAborted, StartArtim]
    assert sent(effects) == abort_pdu(2, reason)
    aborted = only(effects, ProviderAborted)
    assert aborted.reason == reason
    assert aborted.cause is not None
    assert aborted.cause.reason == reason
    assert end.state is Sta.STA13


@pytest.mark.parametrize(
    "data",
    [
        UNRECOGNIZED,
        pdu_of(1, bytes(10)),
        ASSOCIATE_AC,
        ASSOCIATE_RJ,
        P_DATA_ECHO,
        RELEASE_RQ,
        RELEASE_RP,
    ],
)
def test_in_Sta2_the_abort_gives_no_reason(data: bytes) -> None:
    """AA-1: source 0, reason 0; there is nobody to indicate it to."""
    end = listening()
    effects = end.receive_data(data)
    assert kinds(effects) == [SendBytes, StartArtim, PeerFault]
    assert sent(effects) == abort_pdu(0, 0)
    assert end.state is Sta.STA13


@pytest.mark.parametrize("name", ["A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-RELEASE-RP"])
def test_unexpected_pdus(name: str) -> None:
    data = {
        "A-ASSOCIATE-RQ": ASSOCIATE_RQ,
        "A-ASSOCIATE-AC": ASSOCIATE_AC,
        "A-RELEASE-RP": RELEASE_RP,
    }[name]
    for sta in (Sta.STA3, Sta.STA6, Sta.STA8):
        end = end_in(sta)
        effects = end.receive_data(data)
        assert sent(effects) == abort_pdu(2, 2)
        assert only(effects, ProviderAborted).reason == 2
        assert name in str(only(effects, ProviderAborted).cause)


#: Fragments that break PS3.8 9.3.5 or Annex E while everything is established.
BAD_FRAGMENTS = {
    "context not accepted": p_data(pdv(5, 3, C_ECHO_COMMAND)),
    "context never proposed": p_data(pdv(7, 3, C_ECHO_COMMAND)),
    "even context": p_data(pdv(2, 3, C_ECHO_COMMAND)),
    "PDV longer than its PDU": pdu_of(4, b"\0\0\0\x09\x01\x03" + bytes(6)),
    "PDV without a control header": pdu_of(4, b"\0\0\0\x01\x01" + bytes(1)),
    "PDVs that do not fill their PDU": pdu_of(4, pdv(1, 1, b"ab") + b"\0\0\0"),
    "PDU without a PDV": pdu_of(4, b""),
    "data before its command": p_data(pdv(1, 2, b"data")),
    "data before its command is complete": p_data(pdv(1, 1, b"com"), pdv(1, 2, b"data")),
    "one command on two contexts": p_data(pdv(1, 1, b"com"), pdv(3, 3, b"mand")),
    "no command set": p_data(pdv(1, 3, b"GET / HTTP/1.1\r\n")),
    "an empty command set": p_data(pdv(1, 3, b"")),
}


@pytest.mark.parametrize("name", BAD_FRAGMENTS)
@pytest.mark.parametrize("sta", [Sta.STA6, Sta.STA7], ids=str)
def test_bad_fragments(name: str, sta: Sta) -> None:
    end = end_in(sta)
    effects = end.receive_data(BAD_FRAGMENTS[name])
    assert kinds(effects) == [SendBytes, ProviderAborted, StartArtim]
    assert sent(effects) == abort_pdu(2, 6)
    assert end.state is Sta.STA13


# A-ASSOCIATE-RJ that is the service-provider's own (Table 9-21).


def changed_request(position: int, value: bytes) -> bytes:
    return ASSOCIATE_RQ[:position] + value + ASSOCIATE_RQ[position + len(value) :]


@pytest.mark.parametrize(
    ("data", "reject"),
    [
        (changed_request(6, b"\0\2"), AssociateReject(1, 2, 2)),
        (changed_request(6, b"\0\0"), AssociateReject(1, 2, 2)),
        (ASSOCIATE_RQ.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2"),
         AssociateReject(1, 1, 2)),
    ],
    ids=["version 2 only", "no version", "application context"],
)  # fmt: skip
def test_rejected_by_the_provider(data: bytes, reject: AssociateReject) -> None:
    end = listening()
    effects = end.receive_data(data)
    assert kinds(effects) == [SendBytes, StartArtim, AssociationRejected]
    assert sent(effects) == bytes(
        (3, 0, 0, 0, 0, 4, 0, reject.result, reject.source, reject.reason)
    )
    assert only(effects, AssociationRejected) == AssociationRejected(reject, by_peer=False)
    assert end.state is Sta.STA13


def test_only_bit_0_of_the_protocol_version_is_tested() -> None:
    assert listening().receive_data(changed_request(6, b"\xff\xff"))[0] == StopArtim()


# Sta13: nothing is served any more (AA-6), only A-ABORT and a lost connection end it.


@pytest.fixture(params=["user abort", "release", "provider abort", "bad fragment", "rejected"])
def waiting_to_close(request: pytest.FixtureRequest) -> Association:
    match request.param:
        case "user abort":
            end = end_in(Sta.STA13)
        case "release":
            end = end_in(Sta.STA8)
            end.send(AcceptRelease())
        case "provider abort":
            end = established()
            end.receive_data(RELEASE_RP)
        case "bad fragment":
            end = established()
            end.receive_data(BAD_FRAGMENTS["context not accepted"])
        case _:
            end = listening()
            end.receive_data(changed_request(6, b"\0\2"))
    assert end.state is Sta.STA13
    return end


@pytest.mark.parametrize("data", [P_DATA_ECHO, ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP])
def test_ignored_in_Sta13(waiting_to_close: Association, data: bytes) -> None:
    """AA-6, however often; then A-ABORT still closes (AA-2)."""
    for _ in range(3):
        assert waiting_to_close.receive_data(data) == ()
        assert waiting_to_close.state is Sta.STA13
    assert waiting_to_close.receive_data(A_ABORT) == (StopArtim(), CloseTransport())
    assert waiting_to_close.state is Sta.STA1


def test_A_ASSOCIATE_RQ_in_Sta13(waiting_to_close: Association) -> None:
    """AA-7: an A-ABORT, and ARTIM is not started anew."""
    effects = waiting_to_close.receive_data(ASSOCIATE_RQ)
    assert kinds(effects) == [SendBytes, PeerFault]
    assert sent(effects) == abort_pdu(2, 2)
    assert waiting_to_close.receive_data(A_ABORT) == (StopArtim(), CloseTransport())


@pytest.mark.parametrize("name", INVALID)
def test_invalid_pdu_in_Sta13(waiting_to_close: Association, name: str) -> None:
    data, reason = INVALID[name]
    effects = waiting_to_close.receive_data(data)
    assert kinds(effects) == [SendBytes, PeerFault]
    assert sent(effects) == abort_pdu(2, reason)
    # Whoever goes on like this is not listened to any longer, so that there is one line of log.
    assert waiting_to_close.receive_data(data * 3) == ()
    assert waiting_to_close.timer_expired() == (StopArtim(), CloseTransport())
    assert waiting_to_close.state is Sta.STA1


def test_fragments_in_Sta13_are_not_looked_at(waiting_to_close: Association) -> None:
    assert waiting_to_close.receive_data(BAD_FRAGMENTS["data before its command"]) == ()


def test_the_connection_ends_in_Sta13(waiting_to_close: Association) -> None:
    assert waiting_to_close.transport_closed() == (StopArtim(),)
    assert waiting_to_close.state is Sta.STA1
    assert waiting_to_close.receive_data(ASSOCIATE_RQ) == ()


# ARTIM.


def test_ARTIM_in_Sta2() -> None:
    """It runs from the connection on, bytes do not restart it, and it closes without a PDU."""
    end = Association(Role.ACCEPTOR)
    assert end.transport_opened() == (StartArtim(),)
    for byte in ASSOCIATE_RQ[:-1]:
        assert end.receive_data(bytes((byte,))) == ()
    assert end.timer_expired() == (StopArtim(), CloseTransport())
    assert end.state is Sta.STA1
    assert end.receive_data(ASSOCIATE_RQ[-1:]) == ()


def test_ARTIM_that_was_stopped_says_nothing() -> None:
    end = established()
    assert end.timer_expired() == ()
    assert end.state is Sta.STA6


def test_reserved_fields_of_A_ABORT_and_release_are_ignored() -> None:
    assert established().receive_data(b"\x05\xff" + RELEASE_RQ[2:6] + b"\xff" * 4)
    end = established()
    effects = end.receive_data(b"\x07\xff\0\0\0\x04\xff\xff\x02\x05")
    assert effects == (ProviderAborted(5), CloseTransport())


def test_a_requestor_is_told_of_a_rejection_once() -> None:
    end = requesting()
    assert end.receive_data(ASSOCIATE_RJ) == (
        AssociationRejected(AssociateReject(1, 1, 7)),
        CloseTransport(),
    )
    assert end.receive_data(ASSOCIATE_RJ) == ()
    assert end.transport_closed() == ()


def test_titles_come_without_their_padding() -> None:
    effects = listening().receive_data(ASSOCIATE_RQ)
    (event,) = [effect for effect in effects if not isinstance(effect, StopArtim)]
    assert getattr(event, "request", None) == REQUEST
