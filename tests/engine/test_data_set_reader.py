"""Whole small data sets: read, written, and refused."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    Element,
    Encoding,
    Fragments,
    encoding_of,
    read_data_set,
    read_file_meta,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.limits import Limits

# What pydicom has to say of its own test files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data"
ENCODINGS = [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE]
ROOMY = Limits(identifier=1 << 22)
SEQUENCE = 0x00400275

#: Files that cannot be read whole, and why.
UNREADABLE = {
    "MR_truncated.dcm": "ends within the pixel data",
    "rtplan_truncated.dcm": "ends within a sequence",
    "DICOMDIR-nooffset": "the last directory record announces 8 bytes more than there are",
}


def files() -> list[Path]:
    return [
        path
        for path in sorted(DATA.rglob("*"))
        if path.is_file() and path.read_bytes()[128:132] == b"DICM"
    ]


def test_every_bundled_file_is_read_and_written_the_same() -> None:
    rewritten = 0
    for path in files():
        content = path.read_bytes()
        meta = read_file_meta(content)
        encoding = encoding_of(meta.transfer_syntax_uid)
        data_set = content[meta.data_set_offset :]
        if path.name in UNREADABLE:
            with pytest.raises(DataSetError):
                read_data_set(data_set, encoding, ROOMY)
            continue
        elements = read_data_set(data_set, encoding, ROOMY)
        expected = list(map(int, pydicom.dcmread(path).keys()))
        assert list(elements) == expected or sorted(elements) == sorted(expected), path.name
        if path.name == "nested_priv_SQ.dcm":
            continue  # one tag, in implicit VR, is a sequence and within it text
        sequences = frozenset(e.tag for e in elements.values() if not isinstance(e.value, bytes))
        try:
            written = write_data_set(elements.values(), encoding)
        except LocalProtocolError:
            continue  # out of order, or without VRs where they should be
        again = read_data_set(written, encoding, ROOMY, sequences)
        assert list(again) == list(elements)
        for tag, element in elements.items():
            if isinstance(element.value, bytes):
                assert again[tag].value[: len(element.value)] == element.value
        rewritten += 1
    assert rewritten > 150


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pydicom_reads_what_is_written(encoding: Encoding) -> None:
    sign = ">" if encoding.big_endian else "<"
    data = write_data_set(
        [
            (0x00080005, "CS", b"ISO_IR 192"),
            (0x00080018, "UI", b"1.2.3"),
            (0x00100010, "PN", "Åse^B".encode()),
            (0x00280010, "US", struct.pack(sign + "H", 512)),
            (0x00400008, "SQ", []),
            (SEQUENCE, "SQ", [[(0x00400009, "SH", b"1"), (0x00401001, "SH", b"22")], []]),
            (0x00420011, "OB", memoryview(b"abc")),
        ],
        encoding,
    )
    uid = {
        IMPLICIT_LITTLE: "1.2.840.10008.1.2",
        EXPLICIT_LITTLE: "1.2.840.10008.1.2.1",
        EXPLICIT_BIG: "1.2.840.10008.1.2.2",
        DEFLATED_LITTLE: "1.2.840.10008.1.2.1.99",
    }[encoding]
    file = write_file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", uid, "STORE_SCU") + data
    ds = pydicom.dcmread(io.BytesIO(file))
    assert ds.file_meta.TransferSyntaxUID == uid
    assert ds.SOPInstanceUID == "1.2.3"
    assert str(ds.PatientName) == "Åse^B"
    assert ds.Rows == 512
    assert [len(item) for item in ds.RequestAttributesSequence] == [2, 0]
    assert ds.RequestAttributesSequence[0].RequestedProcedureID == "22"
    assert ds.EncapsulatedDocument == b"abc\0"


tags = st.integers(0x00080001, 0x7FDFFFFF).filter(lambda tag: tag & 0xFFFF)
plain = st.dictionaries(
    tags,
    st.tuples(st.sampled_from(["CS", "UI", "US", "OB", "UN", "UT"]), st.binary(max_size=9)),
    max_size=4,
)


@given(outer=plain, inner=st.lists(plain, max_size=3), encoding=st.sampled_from(ENCODINGS))
def test_round_trip(
    outer: dict[int, tuple[str, bytes]],
    inner: list[dict[int, tuple[str, bytes]]],
    encoding: Encoding,
) -> None:
    def elements(of: dict[int, tuple[str, bytes]]) -> list[tuple[int, str, bytes]]:
        return [(tag, *of[tag]) for tag in sorted(of) if tag != SEQUENCE]

    def assert_read(read: dict[int, Element], of: dict[int, tuple[str, bytes]]) -> None:
        for tag, vr, value in elements(of):
            assert read[tag].vr == (None if encoding.implicit_vr else vr)
            padding = b" " if vr in {"CS", "UT"} else b"\0"
            assert read[tag].value == value + padding * (len(value) & 1)

    whole = sorted(
        [*elements(outer), (SEQUENCE, "SQ", [elements(item) for item in inner])],
        key=lambda element: element[0],
    )
    data = write_data_set(whole, encoding)  # type: ignore[arg-type]
    read = read_data_set(data, encoding, sequences=frozenset({SEQUENCE}))
    assert list(read) == [tag for tag, _, _ in whole]
    assert_read(read, outer)
    items = read[SEQUENCE].value
    assert isinstance(items, tuple)
    assert not isinstance(items, Fragments)
    assert len(items) == len(inner)
    for item, original in zip(items, inner, strict=True):
        assert_read(item, original)
    assert write_data_set(read.values(), encoding) == data


def test_a_value_too_long_for_its_vr_becomes_un() -> None:
    for length, vr in ((0xFFFE, "LO"), (0xFFFF, "UN"), (0x10000, "UN")):
        data = write_data_set([(0x00100010, "LO", b"x" * length)], EXPLICIT_LITTLE)
        assert read_data_set(data, EXPLICIT_LITTLE)[0x00100010].vr == vr


@pytest.mark.parametrize(
    "elements",
    [
        [(0x00100020, "LO", b""), (0x00100010, "PN", b"")],
        [(0x00100020, "LO", b""), (0x00100020, "LO", b"")],
        [(0x00100020, "ZZ", b"")],
        [(0x00100020, None, b"")],
        [(0x00100020, "LO", [])],
        [(0x00100020, "LO", Fragments((b"",)))],
    ],
)
def test_what_cannot_be_written(elements: list[tuple[int, str, bytes]]) -> None:
    with pytest.raises(LocalProtocolError):
        write_data_set(elements, EXPLICIT_LITTLE)


def test_the_reader_is_bounded() -> None:
    with pytest.raises(DataSetError) as caught:
        read_data_set(bytes(100), IMPLICIT_LITTLE, Limits(identifier=99))
    assert caught.value.limit == "identifier"
    bomb = write_data_set([(0x00080001, "OB", bytes(2 << 20))], DEFLATED_LITTLE)
    with pytest.raises(DataSetError) as caught:
        read_data_set(bomb, DEFLATED_LITTLE)
    assert caught.value.limit == "identifier"
    empty = b"".join([struct.pack("<HHI", 8, number, 0) for number in range(1, 200)])
    with pytest.raises(DataSetLimitError) as caught:
        read_data_set(empty, IMPLICIT_LITTLE, Limits(identifier_elements=100))
    assert caught.value.limit == "identifier_elements"


def test_a_deflated_identifier_is_bounded_by_what_comes_out() -> None:
    data = write_data_set([(0x00080001, "OB", random.Random(1).randbytes(1_000))], DEFLATED_LITTLE)
    assert read_data_set(data, DEFLATED_LITTLE, Limits(identifier=1_012))
    with pytest.raises(DataSetError) as caught:
        read_data_set(data, DEFLATED_LITTLE, Limits(identifier=1_011))
    assert caught.value.limit == "identifier"


def mark(element: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", 0xFFFE, element, length)


ENCAPSULATED = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)


STEP = write_data_set([(0x00400009, "SH", b"STEP")], EXPLICIT_LITTLE)
CODE = write_data_set([(0x00080100, "SH", b"CODE")], EXPLICIT_LITTLE)
OPEN = struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
OPEN_ITEM = mark(0xE000, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (ENCAPSULATED + mark(0xE000, 2) + b"ab" + mark(0xE0DD)[:7], "an encapsulated value"),
        (ENCAPSULATED + struct.pack("<HHI", 0x0010, 0x0010, 0), "an encapsulated value"),
        (OPEN_ITEM, "in an item"),
        (mark(0xE000, 4), "an item is longer"),
        (OPEN + struct.pack("<HHI", 0x0008, 0x0010, 0), "in a sequence"),
        (OPEN[:8] + struct.pack("<I", 16) + mark(0xE000, 8) + OPEN_ITEM, "in an item"),
    ],
)
def test_what_stands_where_it_may_not(data: bytes, text: str) -> None:
    with pytest.raises(DataSetError, match=text):
        read_data_set(data, EXPLICIT_LITTLE)


@pytest.mark.parametrize(
    "data",
    [
        mark(0xE000, 8) + bytes(8),
        mark(0xE00D),
        mark(0xE0DD, 7),
        ENCAPSULATED,
        ENCAPSULATED + mark(0xE00D),
        ENCAPSULATED + mark(0xE0DD, 4),
        bytes(3),
    ],
)
def test_what_is_passed_over_at_the_end(data: bytes) -> None:
    elements = read_data_set(STEP + data, EXPLICIT_LITTLE)
    assert elements.pop(0x00400009).value == b"STEP"
    assert all(element.value == () for element in elements.values())


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (OPEN_ITEM + CODE + mark(0xE00D, 4) + mark(0xE0DD, 4), 1),
        (OPEN_ITEM + CODE + mark(0xE0DD), 1),
        ((OPEN_ITEM + CODE) * 2 + mark(0xE00D) + mark(0xE0DD), 2),
        (mark(0xE000, len(CODE)) + CODE + mark(0xE00D) + mark(0xE0DD), 1),
        (mark(0xE000, len(CODE)) + CODE, 1),
        (OPEN_ITEM + CODE + mark(0xE00D), 1),
    ],
)
def test_delimitation_items_in_the_wrong_place(content: bytes, items: int) -> None:
    """In a sequence of undefined length, with something behind it, and of a defined one."""
    for data in (OPEN + content, OPEN[:8] + struct.pack("<I", len(content)) + content):
        elements = read_data_set(data + STEP, EXPLICIT_LITTLE)
        assert elements[0x00400009].value == b"STEP"
        found = elements[0x00081140].value
        assert [item[0x00080100].value for item in found] == [b"CODE"] * items


def test_fragments_are_counted() -> None:
    def data(count: int) -> bytes:
        return ENCAPSULATED + mark(0xE000) * count + mark(0xE0DD)

    assert read_data_set(data(9), EXPLICIT_LITTLE, Limits(identifier_elements=10))
    with pytest.raises(DataSetError) as caught:
        read_data_set(data(10), EXPLICIT_LITTLE, Limits(identifier_elements=10))
    assert caught.value.limit == "identifier_elements"


@pytest.mark.parametrize("undefined", [True, False])
def test_twenty_thousand_nested_sequences(undefined: bool) -> None:
    depth = 20_000
    parts = []
    for level in range(depth):
        rest = (depth - level) * 20 - 12
        lengths = (0xFFFFFFFF, 0xFFFFFFFF) if undefined else (rest, rest - 8)
        parts.append(struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", lengths[0]))
        parts.append(struct.pack("<HHI", 0xFFFE, 0xE000, lengths[1]))
    data = b"".join(parts)
    with pytest.raises(DataSetError) as caught:
        read_data_set(data, EXPLICIT_LITTLE)
    assert caught.value.limit == "nesting"


@pytest.mark.parametrize("encoding", [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG])
def test_every_truncation_is_seen(encoding: Encoding) -> None:
    elements = [
        (0x00080060, "CS", b"CT"),
        (SEQUENCE, "SQ", [[(0x00400009, "SH", b"1 ")], [(0x00401001, "OB", b"22")]]),
        (0x00420011, "OB", b"abcd"),
    ]
    data = write_data_set(elements, encoding)
    ends = [len(write_data_set(elements[:count], encoding)) for count in range(4)]
    clean = []
    for length in range(len(data) + 1):
        try:
            read_data_set(data[:length], encoding, sequences=frozenset({SEQUENCE}))
        except DataSetError:
            continue
        clean.append(length)
    # Of the next header a NUL has come, which may as well be padding.
    padded = [end + 1 for end in ends[:-1] if end and not data[end]]
    assert clean == sorted([*ends, *padded])


@given(data=st.binary(max_size=200))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for encoding in ENCODINGS:
        try:
            read_data_set(data, encoding, sequences=frozenset({SEQUENCE}))
        except DataSetError:
            pass


def test_items_may_be_given_as_they_were_read() -> None:
    read = read_data_set(
        write_data_set([(SEQUENCE, "SQ", [[(0x00100020, "LO", b"1")]])], EXPLICIT_LITTLE),
        EXPLICIT_LITTLE,
    )
    assert read[SEQUENCE] == Element(
        SEQUENCE, "SQ", ({0x00100020: Element(0x00100020, "LO", b"1 ")},)
    )
