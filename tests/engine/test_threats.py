"""What a hostile peer can make the engine hold, measured, and the page that says so.

`THREATS` has the worst input we know of each kind, and the most that it may cost.  The
inputs are played to an association while every allocation is counted; a second test
compares the page with the same numbers, so that page and code cannot disagree.
"""

from __future__ import annotations

import gc
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from engine.wire import (
    A_ABORT,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CT,
    P_DATA_ECHO,
    PDUS,
    STORE_CONTEXT,
    end_in,
    established,
    in_chunks,
    listening,
    p_data,
    pdu_of,
    pdv,
    sent,
)
from isocenter.engine import describe
from isocenter.engine.association import Association
from isocenter.engine.commands import AcceptAssociation, SendMessage
from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    IMPLICIT_LITTLE,
    DataSetLimitError,
    ElementScanner,
    read_data_set,
)
from isocenter.engine.dimse import command_set_cache as layouts
from isocenter.engine.dimse import message_codec as messages
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CStoreRequest,
    UnrecognizedMessage,
    encode_message,
    response_to,
)
from isocenter.engine.effects import CloseTransport, Effect, PeerFault, StopArtim
from isocenter.engine.errors import LimitExceeded
from isocenter.engine.events import AssociationRequested, MessageReceived, ProviderAborted
from isocenter.engine.limits import Limits
from isocenter.engine.negotiation import Acceptor, Offer, Role, negotiate
from isocenter.engine.pdu import AssociateAccept
from isocenter.engine.states import Sta

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "denial-of-service.md"
KIBIBYTE: Final = 1 << 10
MEBIBYTE: Final = 1 << 20
#: What a driver reads at once; what one call may be given.
CHUNK: Final = 256 << 10

#: Plays one chunk and says what the peer gets.
Receive = Callable[[bytes], Iterable[Effect] | str]
Scene = tuple[Receive, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Threat:
    """One kind of hostile input.

    Attributes:
        scenes: what is played, each from a fresh start; made before anything is counted.
        peak: the most that is held at any time, in KiB; the input itself is the driver's.
        kept: what is held when its effects have been carried out, in KiB.
        gets: how the peer is answered; None where each scene is answered in its own way.
    """

    scenes: Callable[[], Iterable[Scene]]
    peak: int
    kept: int
    gets: str | None


def to(end: Association, *chunks: bytes) -> Iterator[Scene]:
    yield end.receive_data, chunks


def filled(unit: bytes, size: int = CHUNK) -> bytes:
    """As many of *unit* as fit."""
    return unit * (size // len(unit))


# A-ASSOCIATE.


def item(item_type: int, value: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(value)) + value


def counted(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


FIXED: Final = struct.pack(">H2x16s16s32x", 1, b"ISOCENTER".ljust(16), b"CT1".ljust(16))
APPLICATION_CONTEXT: Final = item(0x10, b"1.2.840.10008.3.1.1.1")
HEAD: Final = FIXED + APPLICATION_CONTEXT


def context(number: int, syntaxes: Iterable[bytes], abstract_syntax: bytes = b"1.2.3") -> bytes:
    proposed = b"".join(item(0x40, syntax) for syntax in syntaxes)
    head = bytes(((2 * number + 1) & 0xFF, 0, 0, 0))
    return item(0x20, head + item(0x30, abstract_syntax) + proposed)


def uids(count: int, length: int = 58) -> list[bytes]:
    """Names that are not alike, all of the same length."""
    return [b"1.%0*d" % (length - 2, number) for number in range(count)]


def as_many(room: int, of: Callable[[int], bytes]) -> bytes:
    parts: list[bytes] = []
    for number in range(room):
        part = of(number + 1_000)
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return b"".join(parts)


@cache
def largest_request() -> bytes:
    """128 contexts × 128 transfer syntaxes, and user information with role selections."""
    roles = as_many(0xFFFF, lambda number: item(0x54, counted(b"%d" % number) + b"\1\1"))
    contexts = b"".join(context(n, uids(128, 55), b"1.%d" % n) for n in range(128))
    request = pdu_of(1, HEAD + contexts + item(0x50, roles))
    assert 0.98 * MEBIBYTE < len(request) <= MEBIBYTE
    return request


def in_user_information(of: Callable[[int], bytes]) -> bytes:
    return pdu_of(1, HEAD + context(0, uids(1)) + item(0x50, as_many(0xFFFF, of)))


def accepted(request: bytes) -> Iterator[Scene]:
    """The request, and an acceptor that takes all of it."""
    end = listening()
    offer = Offer(transfer_syntaxes=("*",), scp_role=True)

    def receive(chunk: bytes) -> tuple[Effect, ...]:
        effects = end.receive_data(chunk)
        for effect in effects:
            if isinstance(effect, AssociationRequested):
                acceptor = Acceptor(offer=lambda _: offer, max_pdu_length=131_072)
                accept = negotiate(effect.request, acceptor)
                assert isinstance(accept, AssociateAccept)
                end.send(AcceptAssociation(accept))
        assert end.state is Sta.STA6
        return ()

    yield receive, [request]


def item_floods() -> Iterator[Scene]:
    """Many items of the smallest size: role selections, both extended negotiations."""
    one, two = counted(b"1"), counted(b"2")
    for of in (
        lambda number: item(0x54, counted(b"%d" % number) + b"\1\1"),
        lambda number: item(0x56, counted(b"%d" % number)),
        lambda number: item(0x57, one + two + counted(counted(b"%d" % number))),
    ):
        yield from to(listening(), in_user_information(of))
    related = b"".join(counted(b"%d" % number) for number in range(1_000, 10_000))
    request = pdu_of(1, HEAD + item(0x50, item(0x57, one + two + counted(related))))
    yield from to(listening(), request)


# Messages.


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


def command(field: int, message_id: int, *elements: bytes) -> bytes:
    """A whole command set in a PDU of its own."""
    return p_data(pdv(1, 3, us(0x0100, field) + us(0x0110, message_id) + b"".join(elements)))


NO_DATA_SET: Final = us(0x0800, 0x0101)
CANCEL: Final = p_data(pdv(1, 3, us(0x0100, 0x0FFF) + us(0x0120, 1) + NO_DATA_SET))
STORE: Final = p_data(
    pdv(
        STORE_CONTEXT,
        3,
        encode_message(
            CStoreRequest(
                message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3"
            ),
            has_data_set=True,
        ),
    )
)
FIND: Final = p_data(
    pdv(
        STORE_CONTEXT,
        3,
        encode_message(
            CFindRequest(message_id=1, affected_sop_class_uid=CT),
            has_data_set=True,
        ),
    ),
    pdv(STORE_CONTEXT, 2, b""),
)
#: (0000,1005) of an N-GET-RQ: as many tags as a command set holds.
MANY_ATTRIBUTES: Final = element(0x1005, b"\x10\0\x20\0" * 16_300)


def echo(message_id: int) -> bytes:
    return command(0x0030, message_id, NO_DATA_SET, element(0x0002, b"1.2"))


def get_attributes(message_id: int) -> bytes:
    names = element(0x0003, b"1.2"), element(0x1001, b"1.2")
    return command(0x0110, message_id, NO_DATA_SET, *names, MANY_ATTRIBUTES)


def never_alike() -> Iterator[bytes]:
    """Command sets of every length that is remembered, five of each."""
    for length in range(80, 520):
        for count in range(5):
            start = us(0x0100, 0x0001) + us(0x0110, 1) + us(0x0800, 1) + element(0x0002, b"1")
            start += b"".join(element(0x3000 + number, b"") for number in range(count))
            if len(start) + 8 <= length:
                start += element(0x1000, b"1" * (length - len(start) - 8))
                yield p_data(pdv(1, 3, start), pdv(1, 2, b""))


def long_names() -> Iterator[Scene]:
    """Asked and answered, each time with another name."""
    end = established()

    def receive(chunk: bytes) -> tuple[Effect, ...]:
        effects = end.receive_data(chunk)
        for effect in effects:
            assert isinstance(effect, MessageReceived)
            assert isinstance(effect.message, CEchoRequest)
            end.send(SendMessage(1, response_to(effect.message, 0)))
        return ()

    yield (
        receive,
        [
            command(0x0030, 1, NO_DATA_SET, element(0x0002, b"%d" % number + b"1" * 65_000))
            for number in range(1_000, 1_300)
        ],
    )


def responses() -> Iterator[Scene]:
    """Pending for ever, to a C-FIND-RQ of ours."""
    end = established(Role.REQUESTOR)
    end.send(SendMessage(STORE_CONTEXT, CFindRequest(message_id=1, affected_sop_class_uid=CT), b""))
    pending = CFindResponse(message_id_being_responded_to=1, status=0xFF00)
    unit = p_data(pdv(STORE_CONTEXT, 3, encode_message(pending, has_data_set=False)))
    yield from to(end, filled(unit), unit)


def unasked() -> Iterator[Scene]:
    response = CFindResponse(message_id_being_responded_to=7, status=0xFF00)
    unit = p_data(pdv(STORE_CONTEXT, 3, encode_message(response, has_data_set=False)))
    yield from to(established(Role.REQUESTOR), filled(unit))
    # Of another kind than the request.
    end = established(Role.REQUESTOR)
    get = CGetRequest(message_id=7, affected_sop_class_uid=CT)
    end.send(SendMessage(STORE_CONTEXT, get, b""))
    yield from to(end, unit)


def cancels() -> Iterator[Scene]:
    yield from to(established(), filled(CANCEL, 64 * KIBIBYTE))
    end = established()
    end.receive_data(FIND)
    yield from to(end, filled(CANCEL))


def unread() -> Iterator[Scene]:
    """What we send to a peer that takes nothing is the driver's to hold."""
    end = established()
    end.receive_data(FIND)
    pending = CFindResponse(message_id_being_responded_to=1, status=0xFF00)

    def receive(data: bytes) -> tuple[Effect, ...]:
        end.send(SendMessage(STORE_CONTEXT, pending, data))
        return ()

    yield receive, [bytes(MEBIBYTE)] * 50


def every_pdu_in_every_state() -> Iterator[Scene]:
    for sta in Sta:
        for pdu in PDUS.values():
            yield end_in(sta).receive_data, [pdu, pdu]


def control_characters() -> Iterator[Scene]:
    evil = b"\x1b[31m\r\nforged\0line"
    info = item(0x52, evil * 100) + item(0x55, evil * 100)
    end = listening()

    def receive(chunk: bytes) -> tuple[Effect, ...]:
        effects = end.receive_data(chunk)
        for effect in effects:
            line = describe(effect)
            assert line.isprintable()
            assert len(line) <= 200
        return effects

    yield receive, [pdu_of(1, HEAD + context(0, uids(1)) + item(0x50, info))]


# Data sets.


def scanned(data: bytes, encoding: object = IMPLICIT_LITTLE) -> Iterator[Scene]:
    """What an archive does with an object: some elements, a sequence among them, are wanted."""
    scanner = ElementScanner(
        encoding,  # type: ignore[arg-type]
        frozenset({0x0008_1115, 0x0010_0010}),
        sequences=frozenset({0x0008_1115}),
    )

    def receive(chunk: bytes) -> str:
        try:
            scanner.feed(chunk)
        except DataSetLimitError as error:
            return f"`{error.limit}`"
        return ""

    yield receive, list(in_chunks(data, CHUNK))


def read(data: bytes, encoding: object = IMPLICIT_LITTLE) -> Iterator[Scene]:
    """What an SCP does with an identifier."""

    def receive(chunk: bytes) -> str:
        try:
            read_data_set(chunk, encoding, sequences=frozenset({0x0008_1115}))  # type: ignore[arg-type]
        except DataSetLimitError as error:
            return f"`{error.limit}`"
        return ""

    yield receive, [data]


def dataset_element(tag: int, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value


EMPTY_ELEMENTS: Final = b"".join(
    struct.pack("<HHI", 0x0010 + (number >> 16), number & 0xFFFF, 0)
    for number in range(MEBIBYTE // 8)
)
ITEM_OF_ONE: Final = dataset_element(0xFFFE_E000, dataset_element(0x0008_1116, b""))
ITEMS: Final = dataset_element(0x0008_1115, filled(ITEM_OF_ONE, MEBIBYTE - 16))
UNDEFINED: Final = 0xFFFF_FFFF
DEEP: Final = 60_000 * (
    dataset_element(0x0008_1115, b"", UNDEFINED) + dataset_element(0xFFFE_E000, b"", UNDEFINED)
)


@cache
def bomb() -> bytes:
    """Half a megabyte that would be half a gigabyte."""
    deflater = zlib.compressobj(9, wbits=-15)
    parts = [deflater.compress(dataset_element(0x7FE0_0010, b"", 0xFFFF_FFF0))]
    parts += [deflater.compress(bytes(MEBIBYTE)) for _ in range(512)]
    return b"".join([*parts, deflater.flush()])


def whole_identifiers() -> Iterator[Scene]:
    for data in (EMPTY_ELEMENTS, ITEMS):
        yield from read(data)
        yield from scanned(data)


THREATS: Final[dict[str, Threat]] = {
    # Before the association.
    "a connection, and nothing more": Threat(
        lambda: [(lambda _: _silent(), [b""])], 4, 2, "nothing"
    ),
    "an A-ASSOCIATE-RQ, byte by byte": Threat(
        lambda: to(listening(), *in_chunks(ASSOCIATE_RQ[:-1], 1)), 8, 2, "nothing"
    ),
    "a protocol that is none of ours": Threat(
        lambda: to(listening(), filled(b"GET / HTTP/1.1\r\n"), filled(b"\xff")),
        4,
        2,
        "A-ABORT (0, 0)",
    ),
    "4 GiB announced as A-ASSOCIATE-RQ": Threat(
        lambda: to(listening(), struct.pack(">BxI", 1, UNDEFINED), *[bytes(CHUNK)] * 8),
        4,
        2,
        "A-ABORT (0, 0)",
    ),
    "an item longer than what holds it": Threat(
        lambda: to(listening(), pdu_of(1, HEAD + b"\x50\0\xff\xff" + bytes(100))),
        8,
        2,
        "A-ABORT (0, 0)",
    ),
    "1 MiB of A-ASSOCIATE-RQ: 128 contexts with 128 transfer syntaxes, 7,000 role selections": (
        Threat(lambda: to(listening(), largest_request()), 4_096, 3_072, "nothing")
    ),
    "the same, accepted": Threat(lambda: accepted(largest_request()), 4_096, 64, "nothing"),
    "1 MiB of items that nobody knows": Threat(
        lambda: to(listening(), pdu_of(1, HEAD + filled(b"\x99\0\0\0", MEBIBYTE - 200))),
        2_304,
        2,
        "nothing",
    ),
    "64 KiB of the smallest role selections or extended negotiations": Threat(
        item_floods, 1_024, 768, "nothing"
    ),
    "129 presentation contexts": Threat(
        lambda: to(
            listening(), pdu_of(1, HEAD + b"".join(context(n, uids(1)) for n in range(129)))
        ),
        64,
        2,
        "A-ABORT (0, 0)",
    ),
    "129 transfer syntaxes in a context": Threat(
        lambda: to(listening(), pdu_of(1, HEAD + context(0, uids(129)))), 48, 2, "A-ABORT (0, 0)"
    ),
    "control characters in names": Threat(control_characters, 24, 8, "nothing"),
    # Framing.
    "4 GiB announced as P-DATA-TF, or as PDV": Threat(
        lambda: [
            *to(established(), struct.pack(">BxI", 4, UNDEFINED), *[bytes(CHUNK)] * 8),
            *to(established(), struct.pack(">BxIIBB", 4, 100, UNDEFINED, 1, 3), bytes(CHUNK)),
        ],
        4,
        2,
        "A-ABORT (2, 6)",
    ),
    "a PDV without context ID, a P-DATA-TF without PDV": Threat(
        lambda: [
            *to(established(), p_data(struct.pack(">IBB", 0, 1, 3))),
            *to(established(), p_data()),
        ],
        4,
        2,
        "A-ABORT (2, 6)",
    ),
    "an even context ID, or one that was not accepted": Threat(
        lambda: [
            *to(established(), p_data(pdv(2, 3, b""))),
            *to(established(), p_data(pdv(253, 3, b""))),
        ],
        4,
        2,
        "A-ABORT (2, 6)",
    ),
    "fragments without data": Threat(
        lambda: to(
            established(), STORE, filled(p_data(*[pdv(STORE_CONTEXT, 0, b"")] * 1_000)), A_ABORT
        ),
        8,
        4,
        "A-ABORT (2, 6)",
    ),
    "fragments of one byte": Threat(
        lambda: to(established(), STORE, filled(p_data(*[pdv(STORE_CONTEXT, 0, b"x")] * 18_000))),
        128,
        4,
        "nothing",
    ),
    "interleaved messages, data before its command": Threat(
        lambda: [
            *to(established(), STORE, P_DATA_ECHO),
            *to(established(), p_data(pdv(STORE_CONTEXT, 0, b"x"))),
        ],
        8,
        4,
        "A-ABORT (2, 6)",
    ),
    # Command sets.
    "a command set that does not end": Threat(
        lambda: to(established(), filled(p_data(*[pdv(1, 1, b"x" * 64)] * 1_100))),
        96,
        80,
        "A-ABORT (2, 6)",
    ),
    "an element longer than its command set": Threat(
        lambda: to(established(), p_data(pdv(1, 3, struct.pack("<HHI", 0, 2, UNDEFINED)))),
        8,
        2,
        "A-ABORT (2, 6)",
    ),
    "a command set of 8,000 empty elements": Threat(
        lambda: to(
            established(),
            command(
                0x30,
                1,
                element(2, b"1.2"),
                NO_DATA_SET,
                *(element(0x2000 + n, b"") for n in range(8_000)),
            ),
        ),
        768,
        2,
        "nothing",
    ),
    "an N-GET-RQ for 16,300 attributes": Threat(
        lambda: to(established(), *[get_attributes(1)] * 4), 1_536, 768, "0210H"
    ),
    "names of 64 KiB, 300 of them": Threat(long_names, 320, 2, "nothing"),
    "command sets that never look alike": Threat(
        lambda: to(established(), *never_alike()), 1_024, 1_024, "0210H"
    ),
    # Operations.
    "a Message ID that is taken, 256 KiB of it": Threat(
        lambda: to(established(), filled(echo(1))), 1_280, 4, "0210H"
    ),
    "as many C-ECHO-RQ as there are Message IDs": Threat(
        lambda: to(established(), *in_chunks(b"".join(map(echo, range(1, 65_536))), CHUNK)),
        14_336,
        14_336,
        "nothing",
    ),
    "responses to nothing, or of another kind": Threat(unasked, 8, 2, "A-ABORT (2, 6)"),
    "pending responses without end": Threat(responses, 1_024, 2, "nothing"),
    "C-CANCEL-RQ without end": Threat(cancels, 768, 2, "nothing"),
    # The end.
    "each PDU in each state": Threat(every_pdu_in_every_state, 16, 4, None),
    "garbage after the abort": Threat(
        lambda: to(end_in(Sta.STA13), filled(b"\x99\1"), filled(P_DATA_ECHO)),
        4,
        2,
        "A-ABORT (2, 1)",
    ),
    "A-ASSOCIATE-RJ after the abort, again and again": Threat(
        lambda: to(end_in(Sta.STA13), filled(ASSOCIATE_RJ, 64 * KIBIBYTE)), 4, 2, "nothing"
    ),
    "A-ASSOCIATE-RQ after the abort, 256 KiB of them": Threat(
        lambda: to(end_in(Sta.STA13), filled(pdu_of(1, HEAD))), 2_048, 2, "A-ABORT (2, 2)"
    ),
    "a peer that takes no bytes, as we send 50 MiB": Threat(unread, 32, 2, "nothing"),
    # Data sets.
    "sequences nested 60,000 deep": Threat(
        lambda: [*scanned(DEEP), *read(DEEP)], 96, 16, "`nesting`"
    ),
    "a deflate bomb, half a MiB that inflates to 512 MiB, as an object": Threat(
        lambda: scanned(bomb(), DEFLATED_LITTLE), 1_536, 1_024, "nothing"
    ),
    "the same as an identifier": Threat(
        lambda: read(bomb(), DEFLATED_LITTLE), 4_608, 2, "`identifier`"
    ),
    "1 MiB of elements without values, or of items": Threat(
        whole_identifiers, 8_192, 8_192, "`identifier_elements`"
    ),
}


#: They take more than two seconds as every allocation is counted.
LONG: Final = frozenset({"as many C-ECHO-RQ as there are Message IDs"})


def _silent() -> tuple[Effect, ...]:
    end = listening()
    assert end.timer_expired() == (StopArtim(), CloseTransport())
    return ()


@dataclass(slots=True)
class Measured:
    """What one threat cost, and what the peer got."""

    peak: int = 0
    kept: int = 0
    limits: frozenset[str] = frozenset()
    gets: frozenset[str] = frozenset()


def answers(outcome: Iterable[Effect] | str) -> Iterator[str]:
    """What the peer gets, in the words of the page."""
    if isinstance(outcome, str):
        if outcome:
            yield outcome
        return
    effects = list(outcome)
    data = sent(effects)
    for start in range(0, len(data), len(A_ABORT)):
        abort = data[start : start + len(A_ABORT)]
        assert abort[:8] == A_ABORT[:8]
        yield f"A-ABORT ({abort[8]}, {abort[9]})"
    for effect in effects:
        if isinstance(effect, MessageReceived) and isinstance(effect.message, UnrecognizedMessage):
            yield f"{effect.message.status:04X}H"


def limits_named(outcome: Iterable[Effect] | str) -> Iterator[str]:
    if not isinstance(outcome, str):
        for effect in outcome:
            cause = effect.cause if isinstance(effect, ProviderAborted | PeerFault) else None
            if isinstance(cause, LimitExceeded):
                yield cause.limit


def measure(threat: Threat) -> Measured:
    result = Measured()
    scenes = list(threat.scenes())
    gc.collect()
    gc.freeze()  # what is there already need not be looked at again and again
    while scenes:
        receive, chunks = scenes.pop(0)
        tracemalloc.start()
        try:
            for chunk in chunks:
                outcome = receive(chunk)
                _, peak = tracemalloc.get_traced_memory()
                result.peak = max(result.peak, peak)
                result.gets |= frozenset(answers(outcome))
                result.limits |= frozenset(limits_named(outcome))
                del outcome
                tracemalloc.reset_peak()
            gc.collect()
            result.kept = max(result.kept, tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    gc.unfreeze()
    return result


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in THREATS]
)
def test_it_costs_no_more_than_the_page_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threat = THREATS[name]
    for receive, chunks in threat.scenes():  # what Python itself keeps, the first time
        for chunk in chunks[:2]:
            receive(chunk)
    # Command sets are read as if they were the first of the process.
    monkeypatch.setattr(messages, "_LAYOUTS", layouts.Layouts())
    measured = measure(threat)
    assert measured.peak <= threat.peak * KIBIBYTE
    assert measured.kept <= threat.kept * KIBIBYTE
    # A bound that is far off says nothing.
    assert measured.peak >= threat.peak * KIBIBYTE / 4
    if threat.gets is not None:
        assert (measured.gets or {"nothing"}) == {threat.gets}
    for limit in measured.limits:
        assert f"`Limits.{limit}`" in row_of(name).bounded_by


# The page.


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the page's table of the engine."""

    name: str
    bounded_by: str
    peak: str
    kept: str
    work: str
    gets: str


@cache
def rows() -> dict[str, Row]:
    section = PAGE.read_text("utf-8").split("\n## ")[1]
    found = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ")
    )
    next(found)  # the head
    next(found)  # and the line under it
    return {cells[0]: Row(*cells) for cells in found}


def row_of(name: str) -> Row:
    return rows()[name]


def test_the_page_has_a_row_for_each() -> None:
    assert list(rows()) == list(THREATS)


@pytest.mark.parametrize("name", THREATS)
def test_the_page_says_what_is_measured(name: str) -> None:
    row, threat = row_of(name), THREATS[name]
    assert row.peak == f"{threat.peak:,}"
    assert row.kept == f"{threat.kept:,}"
    assert re.fullmatch(r"[\d,]+|<1|–", row.work)
    if threat.gets is not None:
        assert row.gets.startswith(threat.gets)


def test_every_bound_of_the_page_has_its_name_and_its_default() -> None:
    """``Limits.name`` of the engine; settings of the server as ``isocenter serve`` has them."""
    from isocenter.services.settings.settings import SETTINGS

    defaults = {setting.key: setting.default for setting in SETTINGS}
    defaults |= {f"Limits.{field.name}": field.default for field in fields(Limits)}
    text = PAGE.read_text("utf-8")
    pattern = r"`((?:Limits|server|deadlines|limits)\.\w+)`(?: \(([\d,.]+)(?: s)?\))?"
    named = re.findall(pattern, text)
    assert {name for name, _ in named} <= defaults.keys()
    for name, shown in named:
        if shown:
            assert float(shown.replace(",", "")) == defaults[name], name
    # No bound that a peer meets is left out.
    bounds = {f"Limits.{field.name}" for field in fields(Limits)}
    bounds |= {name for name in defaults if name.startswith("server.max_")}
    assert bounds - {"server.max_pdu_length"} <= {name for name, _ in named}


def test_every_guard_of_the_page_is_a_test() -> None:
    guards = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text("utf-8"))
    assert len(guards) > 10
    for file, test in guards:
        source = (ROOT / file).read_text("utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"
