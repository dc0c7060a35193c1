"""Whatever has the buffer protocol is bytes at the door, or is refused with nothing changed."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import ASSOCIATE_RQ, C_ECHO_COMMAND, CT, P_DATA_ECHO, STORE_CONTEXT, established
from isocenter.engine import pdu
from isocenter.engine.association import Association
from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.commands import SendDataSet, SendMessage
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ElementScanner,
    Encoding,
    Inflater,
    Reencoder,
    encoding_of,
    guess_encoding,
    read_data_set,
    read_file_meta,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.reader import read_fragments, read_items
from isocenter.engine.dimse import decode_message
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.effects import SendBytes
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import DataSetReceived
from isocenter.engine.framing import Framer
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Role
from isocenter.engine.uid import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.diagnostics.dissect.observer import Observer

STORE = CStoreRequest(message_id=7, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
#: What Python casts to, by the length of an item.
FORMATS = {"B": 1, "b": 1, "c": 1, "?": 1, "H": 2, "h": 2, "I": 4, "f": 4, "d": 8, "q": 8}


def in_memory_map(raw: bytes) -> memoryview:
    mapped = mmap.mmap(-1, max(len(raw), 1))
    mapped[: len(raw)] = raw
    return memoryview(mapped)[: len(raw)]


def of_other_byte_order(raw: bytes) -> memoryview:
    """Of a format that Python does not cast."""
    number = ctypes.c_uint16.__ctype_be__ * (len(raw) // 2)
    return memoryview(number.from_buffer_copy(raw))


@st.composite
def views(draw: st.DrawFn, raw: st.SearchStrategy[bytes] | None = None) -> tuple[bytes, Any]:
    """Bytes, and something with the buffer protocol that holds just these."""
    whole = draw(st.binary(max_size=200) if raw is None else raw)
    size = draw(st.sampled_from([n for n in (1, 2, 4, 8) if len(whole) % n == 0]))
    letter = draw(st.sampled_from([f for f, length in FORMATS.items() if length == size]))
    of = draw(st.sampled_from([bytes, bytearray, memoryview, in_memory_map]))
    kind = draw(st.sampled_from(["itself", "flat", "shaped", "array", "read-only", "other order"]))
    items = len(whole) // size
    if kind == "array":
        return whole, array.array("B" if size == 1 else {2: "H", 4: "I", 8: "d"}[size], whole)
    if kind == "other order" and whole and len(whole) % 2 == 0:
        return whole, of_other_byte_order(whole)
    buffer = of(whole)
    view = memoryview(buffer)
    if kind == "itself":
        return whole, buffer
    if not whole:
        return whole, view
    if kind == "shaped":
        rows = draw(st.sampled_from([n for n in range(1, items + 1) if items % n == 0]))
        view = view.cast("B").cast(letter, (rows, items // rows, 1))
    else:
        view = view.cast("B").cast(letter)
    return whole, view.toreadonly() if kind == "read-only" else view


def with_gaps(raw: bytes) -> memoryview:
    """A view of *raw* that a length and a start do not describe."""
    spread = bytearray(2 * len(raw))
    spread[::2] = raw
    return memoryview(spread)[::2]


@given(views())
def test_a_view_is_its_bytes(pair: tuple[bytes, Any]) -> None:
    raw, view = pair
    taken = octets(view)
    assert bytes(taken) == raw
    assert len(taken) == len(raw)
    if isinstance(taken, memoryview):
        assert (taken.format, taken.ndim, taken.itemsize) == ("B", 1, 1)


def test_memory_is_not_copied() -> None:
    numbers = array.array("H", [1, 2, 3])
    taken = octets(memoryview(numbers))
    numbers[0] = 0x0102
    assert bytes(taken[:2]) == numbers.tobytes()[:2]
    raw = b"as it is"
    assert octets(raw) is raw


@pytest.mark.parametrize("raw", [b"", b"\1\2"])
def test_what_has_no_items_or_one_alone(raw: bytes) -> None:
    flat = memoryview((ctypes.c_uint16 * (len(raw) // 2)).from_buffer_copy(raw))
    assert bytes(octets(flat)) == raw
    assert bytes(octets(memoryview(ctypes.c_uint8(5)))) == b"\5"  # of no dimension


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


@pytest.mark.parametrize(
    "what", [with_gaps(b"abc"), memoryview(b"abc")[::-1], released(), "text", 5, None]
)
def test_what_cannot_be_cut_is_refused(what: Any) -> None:
    with pytest.raises(LocalProtocolError):
        octets(what)


# Outwards.


def sent(end: Association, command: SendMessage | SendDataSet) -> bytes:
    return b"".join(b"".join(e.buffers) for e in end.send(command) if isinstance(e, SendBytes))


def storing() -> Association:
    end = established(Role.REQUESTOR)
    end.send(SendMessage(STORE_CONTEXT, STORE, has_data_set=True))
    return end


#: Some longer than one P-DATA-TF of the peer.
LENGTHS = st.sampled_from([0, 1, 2, 64, 16_376, 16_384, 50_000]).map(bytes)
LONG = LENGTHS | st.binary(max_size=64)


@given(views(LONG), st.booleans())
def test_a_data_set_leaves_as_its_bytes(pair: tuple[bytes, Any], is_last: bool) -> None:
    raw, view = pair
    part, expected = SendDataSet(STORE_CONTEXT, view, is_last), storing()
    assert sent(storing(), part) == sent(expected, SendDataSet(STORE_CONTEXT, raw, is_last))
    whole = SendMessage(STORE_CONTEXT, STORE, view)
    assert sent(established(Role.REQUESTOR), whole) == sent(
        established(Role.REQUESTOR), SendMessage(STORE_CONTEXT, STORE, raw)
    )


@given(st.binary(min_size=2, max_size=50), st.booleans())
def test_a_view_with_gaps_is_not_sent_and_nothing_has_changed(raw: bytes, is_last: bool) -> None:
    end = storing()
    with pytest.raises(LocalProtocolError, match="not contiguous"):
        end.send(SendDataSet(STORE_CONTEXT, with_gaps(raw), is_last))
    assert end.is_sending_data_set
    assert sent(end, SendDataSet(STORE_CONTEXT, raw, True))
    end = established(Role.REQUESTOR)
    with pytest.raises(LocalProtocolError, match="not contiguous"):
        end.send(SendMessage(STORE_CONTEXT, STORE, with_gaps(raw)))
    assert end.operations.invoked == {}
    assert sent(end, SendMessage(STORE_CONTEXT, STORE, raw))


@pytest.mark.parametrize("length", [1, 50_000])
def test_a_bytearray_cannot_shrink_while_it_is_on_its_way(length: int) -> None:
    """Its header has said its length already."""
    data = bytearray(length)
    effects = storing().send(SendDataSet(STORE_CONTEXT, data, is_last=True))
    with pytest.raises(BufferError):
        data.clear()
    del effects
    data.clear()


# Inwards.

STREAM = b"".join(
    b"".join(e.buffers)
    for e in established(Role.REQUESTOR).send(SendMessage(STORE_CONTEXT, STORE, b"data" * 75))
    if isinstance(e, SendBytes)
)


def heard(end: Association, chunk: Any) -> list[object]:
    return [
        bytes(event.data) if isinstance(event, DataSetReceived) else event
        for event in end.receive_data(chunk)
    ]


@given(views(st.just(STREAM) | st.just(P_DATA_ECHO) | st.just(b"\xff" * 16)))
def test_a_chunk_is_its_bytes(pair: tuple[bytes, Any]) -> None:
    raw, view = pair
    end, expected = established(), established()
    if raw.startswith(b"\xff"):  # causes are exceptions, which are never equal
        assert len(heard(end, view)) == len(heard(expected, raw))
    else:
        assert heard(end, view) == heard(expected, raw)
    assert end.state is expected.state


def test_a_chunk_with_gaps_is_refused_and_nothing_has_changed() -> None:
    end = established()
    end.receive_data(STREAM[:100])
    with pytest.raises(LocalProtocolError, match="not contiguous"):
        end.receive_data(with_gaps(STREAM[100:]))
    assert heard(end, STREAM[100:]) != []
    assert end.operations.performed.keys() == {7}


# Everything else that takes a buffer.

DEFLATED_EXPLICIT = encoding_of(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
DATA_SET = write_data_set(
    [(0x00080005, "CS", b"ISO_IR 192"), (0x00080060, "CS", b"CT"), (0x0020000D, "UI", b"1.2.3.4")],
    EXPLICIT_LITTLE,
)
DEFLATED = write_data_set([(0x00080060, "CS", b"CT" * 8)], DEFLATED_EXPLICIT)
FILE = write_file_meta(CT, "1.2.3", EXPLICIT_VR_LITTLE_ENDIAN) + DATA_SET
ITEM = bytes.fromhex("feff00e0 0a000000 08006000 43530200 4354")
FRAGMENTS = bytes.fromhex("feff00e0 00000000 feff00e0 02000000 0102 feffdde0 00000000")
CODEC = ElementScanner(EXPLICIT_LITTLE, frozenset())._codec
ASSOCIATE_BODY = ASSOCIATE_RQ[6:]


def scanned(buffer: Buffer) -> object:
    scanner = ElementScanner(EXPLICIT_LITTLE, frozenset([0x00080060]))
    scanner.feed(buffer)
    scanner.finish()
    return scanner.values


def reencoded(source: Encoding, target: Encoding) -> Callable[[Buffer], object]:
    def run(buffer: Buffer) -> object:
        reencoder = Reencoder(source, target, lambda tag: "UN")
        return b"".join([*map(bytes, reencoder.feed(buffer)), *reencoder.finish()])

    return run


def framed(buffer: Buffer) -> object:
    return [
        tuple(bytes(v) if isinstance(v, memoryview) else v for v in cut)
        for cut in Framer(DEFAULT_LIMITS).feed(buffer)
    ]


DOORS: dict[str, tuple[Callable[[Any], object], bytes]] = {
    "ElementScanner": (scanned, DATA_SET),
    "Reencoder": (reencoded(EXPLICIT_LITTLE, IMPLICIT_LITTLE), DATA_SET),
    "Reencoder, as it is": (reencoded(EXPLICIT_LITTLE, EXPLICIT_LITTLE), DATA_SET),
    "Reencoder, deflated": (reencoded(DEFLATED_EXPLICIT, IMPLICIT_LITTLE), DEFLATED),
    "Inflater": (lambda b: b"".join(Inflater().feed(b)), DEFLATED),
    "read_data_set": (lambda b: read_data_set(b, EXPLICIT_LITTLE), DATA_SET),
    "read_data_set, deflated": (lambda b: read_data_set(b, DEFLATED_EXPLICIT), DEFLATED),
    "read_items": (
        lambda b: read_items(b, CODEC, DEFAULT_LIMITS, frozenset(), 0x00081115, is_undefined=False),
        ITEM,
    ),
    "read_fragments": (lambda b: read_fragments(b, CODEC, DEFAULT_LIMITS), FRAGMENTS),
    "read_file_meta": (read_file_meta, FILE),
    "guess_encoding": (guess_encoding, DATA_SET),
    "write_data_set": (
        lambda b: write_data_set([(0x7FE00010, "OB", b)], EXPLICIT_LITTLE),
        b"\1\2\3\4\5\6\7\0",
    ),
    "decode_message": (decode_message, C_ECHO_COMMAND),
    "decode_pdu": (lambda b: pdu.decode_pdu(1, b, DEFAULT_LIMITS), ASSOCIATE_BODY),
    "Framer": (framed, P_DATA_ECHO),
    "Observer": (
        lambda b: Observer().observe(Role.REQUESTOR, b),
        ASSOCIATE_RQ,
    ),
}


@pytest.mark.parametrize("door", DOORS)
@given(data=st.data())
def test_every_door_takes_any_view(door: str, data: st.DataObject) -> None:
    run, raw = DOORS[door]
    _, view = data.draw(views(st.just(raw)))
    if door == "write_data_set" and not isinstance(view, bytes | bytearray | memoryview):
        view = memoryview(view)  # a value may also be a sequence of items
    assert run(view) == run(raw)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_a_view_with_gaps(door: str) -> None:
    run, raw = DOORS[door]
    with pytest.raises(LocalProtocolError, match="not contiguous"):
        run(cast(Buffer, with_gaps(raw)))
