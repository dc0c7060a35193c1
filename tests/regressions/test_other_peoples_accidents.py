"""Faults that took other implementations down, by name; here they cost an A-ABORT.

Each class of accident is public: see the advisories and trackers of DCMTK, Orthanc,
pynetdicom and fo-dicom.
"""

from __future__ import annotations

import gc
import struct
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.wire import (
    A_ABORT,
    ASSOCIATE_RQ,
    C_ECHO_COMMAND,
    CT,
    P_DATA_ECHO,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_CONTEXT,
    UNRECOGNIZED,
    abort_pdu,
    established,
    in_chunks,
    joined,
    kinds,
    listening,
    only,
    p_data,
    pdu_of,
    pdv,
    requested,
    sent,
)
from isocenter.engine.commands import Abort, AcceptRelease, RequestRelease
from isocenter.engine.dimse.message_codec import CFindRequest, CStoreRequest, encode_message
from isocenter.engine.effects import CloseTransport, PeerFault, SendBytes, StartArtim, StopArtim
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import (
    AssociationAborted,
    DataSetReceived,
    MessageReceived,
    ProviderAborted,
    ReleaseRequested,
)
from isocenter.engine.states import Sta

STORE = CStoreRequest(message_id=3, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
STORE_PDU = p_data(pdv(STORE_CONTEXT, 3, encode_message(STORE, has_data_set=True)))
MEBIBYTE = 1 << 20


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


@pytest.mark.parametrize("length", [MEBIBYTE + 1, 1 << 30, 0xFFFF_FFFF])
def test_a_gigabyte_of_A_ASSOCIATE_is_announced(length: int) -> None:
    end = listening()
    with memory_below(100_000):
        effects = end.receive_data(struct.pack(">BxI", 1, length))
        for _ in range(100):  # and it really comes
            assert end.receive_data(bytes(65_536)) == ()
    assert kinds(effects) == [SendBytes, StartArtim, PeerFault]
    assert sent(effects) == abort_pdu(0, 0)


@pytest.mark.parametrize(
    "head",
    [
        struct.pack(">BxI", 4, 0xFFFF_FFFF),
        struct.pack(">BxII", 4, 0xFFFF_FFFF, 0xFFFF_FFFB),
        struct.pack(">BxIIBB", 4, 100, 0xFFFF_FFFF, 1, 3),
        struct.pack(">BxIIBB", 4, 100, 0x8000_0000, 1, 2),
    ],
)
def test_four_gibibytes_of_P_DATA(head: bytes) -> None:
    end = established()
    with memory_below(100_000):
        effects = end.receive_data(head)
        for _ in range(100):
            assert end.receive_data(bytes(65_536)) == ()
    assert kinds(effects) == [SendBytes, ProviderAborted, StartArtim]
    assert sent(effects) == abort_pdu(2, 6)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: pacs:104\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0" * 100,
        b"\xff" * 100,
    ],
    ids=["HTTP", "TLS client hello", "SSH", "zeros", "ones"],
)
def test_somebody_elses_protocol(garbage: bytes) -> None:
    for chunks in ([garbage], list(in_chunks(garbage, 1))):
        end = listening()
        effects = [effect for chunk in chunks for effect in end.receive_data(chunk)]
        assert kinds(effects) == [SendBytes, StartArtim, PeerFault]
        assert sent(effects) == abort_pdu(0, 0)
        # What the peer wrote is not repeated to the log.
        assert len(str(only(effects, PeerFault).cause)) < 100
        assert end.timer_expired() == (StopArtim(), CloseTransport())


def test_a_PDV_longer_than_its_PDU() -> None:
    """The rest of the PDU after it would be read as a PDU of the peer's choice."""
    end = established()
    inside = struct.pack(">BxIIBB", 4, 20, 200, 1, 3) + bytes(14) + A_ABORT
    effects = end.receive_data(inside)
    assert kinds(effects) == [SendBytes, ProviderAborted, StartArtim]
    assert end.state is Sta.STA13


def test_a_flood_of_PDVs_without_data() -> None:
    """Legal by the letter; a million of them would be work without end."""
    end = established()
    end.receive_data(STORE_PDU)
    flood = p_data(*[pdv(STORE_CONTEXT, 0, b"")] * 999)
    assert end.receive_data(flood) == ()
    with memory_below(MEBIBYTE):
        effects = end.receive_data(flood)
    assert sent(effects) == abort_pdu(2, 6)
    aborted = only(effects, ProviderAborted)
    assert getattr(aborted.cause, "limit", None) == "empty_fragments"


def test_a_flood_of_command_fragments() -> None:
    """A command set that never ends is bounded, byte by byte."""
    end = established()
    chunk = p_data(pdv(1, 1, b"\0"))
    with memory_below(MEBIBYTE):
        received = 0
        while end.state is Sta.STA6:
            end.receive_data(chunk)
            received += 1
    assert received == 65_537


def test_a_release_in_the_middle_of_a_data_set() -> None:
    """Asked for and confirmed, and nobody is told that the data set was complete."""
    end = established()
    effects = end.receive_data(STORE_PDU + p_data(pdv(STORE_CONTEXT, 0, b"half")) + RELEASE_RQ)
    assert joined(effects) == [
        MessageReceived(STORE_CONTEXT, STORE, has_data_set=True),
        ("unfinished", b"half"),
        ReleaseRequested(),
    ]
    rest = end.receive_data(p_data(pdv(STORE_CONTEXT, 2, b"other half")))
    assert not any(isinstance(effect, DataSetReceived) for effect in rest)
    assert sent(rest) == abort_pdu(2, 2)


def test_our_own_release_does_not_cut_a_data_set() -> None:
    """AR-6: what was under way when we asked still arrives, whole."""
    end = established()
    first = end.receive_data(STORE_PDU + p_data(pdv(STORE_CONTEXT, 0, b"half")))
    end.send(RequestRelease())
    rest = end.receive_data(p_data(pdv(STORE_CONTEXT, 2, b" and half")))
    assert joined([*first, *rest])[1] == (STORE_CONTEXT, b"half and half")


def test_an_abort_after_a_release() -> None:
    """In Sta13 it closes, in Sta8 it is an indication; nothing is answered twice."""
    end = established()
    end.receive_data(RELEASE_RQ)
    assert end.receive_data(A_ABORT) == (AssociationAborted(0, 0), CloseTransport())
    with pytest.raises(LocalProtocolError):
        end.send(AcceptRelease())
    end = established()
    end.receive_data(RELEASE_RQ)
    end.send(AcceptRelease())
    assert end.receive_data(A_ABORT) == (StopArtim(), CloseTransport())
    assert end.receive_data(A_ABORT) == ()


def test_a_request_and_its_abort_in_one_chunk() -> None:
    """Whoever answers the request afterwards is told that there is no more association."""
    end = listening()
    effects = end.receive_data(ASSOCIATE_RQ + A_ABORT)
    assert effects[-2:] == (AssociationAborted(0, 0), CloseTransport())
    assert end.state is Sta.STA1


def test_data_that_does_not_wait_for_the_accept() -> None:
    end = requested()
    effects = end.receive_data(P_DATA_ECHO)
    assert sent(effects) == abort_pdu(2, 2)
    assert not any(isinstance(effect, MessageReceived) for effect in effects)


def test_messages_after_our_abort_are_not_served() -> None:
    end = established()
    end.receive_data(STORE_PDU)
    end.send(Abort())
    for chunk in (p_data(pdv(STORE_CONTEXT, 2, b"rest")), STORE_PDU, P_DATA_ECHO):
        assert end.receive_data(chunk) == ()


def test_after_our_abort_nobody_looks_into_data() -> None:
    """A flood of tiny PDVs would cost its receiver more than its sender."""
    broken = pdu_of(4, b"\0\0\0\0\0\0" + b"\xff" * 20)  # a PDV of no length
    cut = pdv(STORE_CONTEXT, 0, b"x" * 40)[:25]
    for size in (1, 5, 7, 1_000):
        end = established()
        end.receive_data(STORE_PDU)
        end.receive_data(pdu_of(4, bytes(200))[:6] + cut)  # in the middle of a PDV
        end.send(Abort())
        rest = bytes(200 - len(cut)) + broken + STORE_PDU
        for chunk in in_chunks(rest, size):
            assert end.receive_data(chunk) == ()
        said = [end.receive_data(chunk) for chunk in in_chunks(abort_pdu(0, 0), size)]
        assert CloseTransport() in said[-1]


FIND = encode_message(CFindRequest(message_id=1, affected_sop_class_uid=CT), has_data_set=True)


@pytest.mark.parametrize(
    "stream",
    [
        p_data(pdv(1, 1, FIND[:20]), pdv(3, 3, FIND[20:])),
        p_data(pdv(3, 3, FIND), pdv(1, 2, b"identifier")),
        p_data(pdv(3, 3, FIND), pdv(3, 0, b"iden")) + P_DATA_ECHO,
        p_data(pdv(3, 3, FIND), pdv(3, 0, b"iden"), pdv(3, 3, FIND)),
        p_data(pdv(3, 2, b"identifier"), pdv(3, 3, FIND)),
        p_data(pdv(1, 3, C_ECHO_COMMAND), pdv(1, 2, b"data that nobody announced")),
        p_data(pdv(1, 3, C_ECHO_COMMAND), pdv(1, 3, b"")),
        p_data(pdv(5, 3, C_ECHO_COMMAND)),
        p_data(pdv(253, 3, C_ECHO_COMMAND)),
        p_data(pdv(0, 3, C_ECHO_COMMAND)),
        p_data(pdv(254, 3, C_ECHO_COMMAND)),
    ],
    ids=[
        "a command on two contexts",
        "its data set on another context",
        "another message within the data set",
        "a command within the data set",
        "data before its command",
        "data after no data set",
        "a command fragment after the last",
        "a context that was refused",
        "a context that was never proposed",
        "context 0",
        "an even context",
    ],
)
def test_fragments_out_of_order(stream: bytes) -> None:
    for chunks in ([stream], list(in_chunks(stream, 1))):
        end = established()
        effects = [effect for chunk in chunks for effect in end.receive_data(chunk)]
        assert sent(effects) == abort_pdu(2, 6)
        assert only(effects, ProviderAborted).cause is not None
        assert not any(isinstance(e, DataSetReceived) and e.is_last for e in effects)
        assert end.state is Sta.STA13


@pytest.mark.parametrize(
    "stream",
    [
        UNRECOGNIZED,
        pdu_of(1, bytes(10)),
        pdu_of(4, b"\0\0\0\x7f\1\3"),
        p_data(pdv(5, 3, C_ECHO_COMMAND)),
        p_data(pdv(1, 3, b"no command set")),
        RELEASE_RP,
        A_ABORT,
    ],
)
def test_nothing_is_left_of_an_association_that_ended(stream: bytes) -> None:
    """Without any help of the garbage collector, and while the fault is still being told."""
    gc.collect()
    gc.disable()
    try:
        end = established()
        gone = weakref.ref(end)
        chunk = bytearray(stream)
        effects = end.receive_data(chunk)
        assert end.state in {Sta.STA13, Sta.STA1}
        del end
        assert gone() is None
        assert any(isinstance(effect, ProviderAborted | AssociationAborted) for effect in effects)
        chunk.extend(b"not exported to any view any longer")
    finally:
        gc.enable()
