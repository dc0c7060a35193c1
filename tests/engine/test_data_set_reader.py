"""Whole small data sets and File Meta Information: read, written, and refused."""

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
    Element,
    Encoding,
    Fragments,
    encoding_of,
    guess_encoding,
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
    assert caught.value.limit in {"identifier", "inflate_ratio"}
    with pytest.raises(DataSetError) as caught:
        read_data_set(bytes(8 * 200), IMPLICIT_LITTLE, Limits(elements=100))
    assert caught.value.limit == "elements"


def test_a_deflated_identifier_is_bounded_by_what_comes_out() -> None:
    data = write_data_set([(0x00080001, "OB", random.Random(1).randbytes(1_000))], DEFLATED_LITTLE)
    assert read_data_set(data, DEFLATED_LITTLE, Limits(identifier=1_012))
    with pytest.raises(DataSetError) as caught:
        read_data_set(data, DEFLATED_LITTLE, Limits(identifier=1_011))
    assert caught.value.limit == "identifier"


def mark(element: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", 0xFFFE, element, length)


ENCAPSULATED = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (mark(0xE000), "an item"),
        (mark(0xE00D), "an item"),
        (mark(0xE0DD), "an item"),
        (ENCAPSULATED, "an encapsulated value"),
        (ENCAPSULATED + mark(0xE000, 2) + b"ab" + mark(0xE0DD)[:7], "an encapsulated value"),
        (ENCAPSULATED + mark(0xE00D), "an encapsulated value"),
        (ENCAPSULATED + mark(0xE0DD, 4) + bytes(4), "an encapsulated value"),
        (ENCAPSULATED + struct.pack("<HHI", 0x0010, 0x0010, 0), "an encapsulated value"),
    ],
)
def test_what_stands_where_it_may_not(data: bytes, text: str) -> None:
    with pytest.raises(DataSetError, match=text):
        read_data_set(data, EXPLICIT_LITTLE)


def test_fragments_are_counted() -> None:
    def data(count: int) -> bytes:
        return ENCAPSULATED + mark(0xE000) * count + mark(0xE0DD)

    assert read_data_set(data(9), EXPLICIT_LITTLE, Limits(elements=10))
    with pytest.raises(DataSetError) as caught:
        read_data_set(data(10), EXPLICIT_LITTLE, Limits(elements=10))
    assert caught.value.limit == "elements"


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
    assert clean == ends


@given(data=st.binary(max_size=200))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for encoding in ENCODINGS:
        try:
            read_data_set(data, encoding, sequences=frozenset({SEQUENCE}))
        except DataSetError:
            pass
    for call in (read_file_meta, lambda d: read_file_meta(bytes(128) + b"DICM\x02\0" + d)):
        try:
            call(data)
        except DataSetError:
            pass
    guess_encoding(data)


# --- File Meta Information --------------------------------------------------------------------


def test_every_bundled_meta_is_what_pydicom_reads() -> None:
    for path in files():
        meta = read_file_meta(path.read_bytes())
        theirs = pydicom.dcmread(path).file_meta
        assert meta.transfer_syntax_uid == theirs.get("TransferSyntaxUID", ""), path.name
        assert meta.media_storage_sop_instance_uid == theirs.get("MediaStorageSOPInstanceUID", "")
        assert set(meta.elements) - {0x00020000} == set(map(int, theirs.keys())) - {0x00020000}


META = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2", "AE")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (b"\x02\0", "ends within group 0002"),
        (b"\x02\0\x16\0AE\x02", "ends within group 0002"),
        (b"\x02\0\x02\x01OB\0\0", "ends within group 0002"),
        (b"\x02\0\x16\0AE\x02\0A", r"ends within \(0002,0016\)"),
        (b"\x02\0\x02\x01OB\0\0\0\0\x02\0", "longer than"),
    ],
)
def test_meta_that_is_cut_short_or_too_long(more: bytes, text: str) -> None:
    with pytest.raises(DataSetError, match=text):
        read_file_meta(META + more)


@pytest.mark.parametrize("rest", [b"", b"\x08\0", b"\x08\0\x16\0UI\0", b"\x08\0\x16\0UI\0\0"])
def test_meta_ends_where_another_group_starts(rest: bytes) -> None:
    """However little there is of that group."""
    assert read_file_meta(META + rest).data_set_offset == len(META)


def test_a_deflated_data_set_may_begin_as_group_0002_does() -> None:
    """Its bytes are anything; behind the announced end they must at least have a VR to be of it."""
    deflated = b"\x02\0\x16\0\x9d\xff" + bytes(40)
    assert read_file_meta(META + deflated).data_set_offset == len(META)


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize("is_first", [True, False])
def test_guessing_by_a_long_header_that_is_cut(encoding: Encoding, is_first: bool) -> None:
    """A header alone proves nothing; one behind a whole element does not take it back."""
    first = b"" if is_first else write_data_set([(0x00080005, "CS", b"A")], encoding)
    sign = ">" if encoding.big_endian else "<"
    cut = struct.pack(f"{sign}HH2s2x", 0x0008, 0x0006, b"OB")
    guessed = guess_encoding(first + cut)
    assert (guessed == encoding) is not is_first


def test_written_meta_has_its_right_length() -> None:
    meta = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2", "AE")
    assert meta[:128] == bytes(128)
    assert meta[128:140] == b"DICM\x02\0\0\0UL\x04\0"
    (length,) = struct.unpack_from("<I", meta, 140)
    assert length == len(meta) - 144
    read = read_file_meta(meta + b"data set")
    assert read.data_set_offset == len(meta)
    assert read.elements[0x00020001] == b"\0\x01"
    assert read.elements[0x00020016] == b"AE"
    assert read.media_storage_sop_class_uid == "1.2"
    ds = pydicom.dcmread(io.BytesIO(meta))
    assert ds.file_meta.SourceApplicationEntityTitle == "AE"
    assert 0x00020016 not in read_file_meta(write_file_meta("1", "2", "3")).elements


@pytest.mark.parametrize("wrong", [0, 1, 0xFFFFFFFF, 100_000])
def test_a_wrong_group_length_is_not_believed(wrong: int) -> None:
    meta = bytearray(write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2"))
    right = read_file_meta(bytes(meta) + bytes(20))
    meta[140:144] = struct.pack("<I", wrong)
    data_set = write_data_set([(0x00080060, "CS", b"CT")], EXPLICIT_LITTLE)
    read = read_file_meta(bytes(meta) + data_set)
    assert read.transfer_syntax_uid == "1.2.840.10008.1.2"
    assert read.data_set_offset == right.data_set_offset


def test_group_0002_without_length_or_preamble() -> None:
    meta = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2")
    assert read_file_meta(meta[:132] + meta[144:]).transfer_syntax_uid == "1.2.840.10008.1.2"
    assert read_file_meta(meta[132:]).data_set_offset == len(meta) - 132


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        bytes(200),
        bytes(128) + b"DICM\x02\0\0\0UL\x04\0\0",
        bytes(128) + b"DICM\x02\0\x02\0UI\x40\0" + b"1.2",
        bytes(128) + b"DICM\x02\0\x01\0OB\0\0\xff\xff\xff\xff",
        bytes(128) + b"DICM\x02\0\x01\0OB\0\0" + struct.pack("<I", 70_000) + bytes(70_000),
    ],
)
def test_no_part_10_file(content: bytes) -> None:
    with pytest.raises(DataSetError):
        read_file_meta(content)


def test_naked_data_sets_are_guessed() -> None:
    test_files = DATA / "test_files"
    for name, encoding in (
        ("ExplVR_LitEndNoMeta.dcm", EXPLICIT_LITTLE),
        ("ExplVR_BigEndNoMeta.dcm", EXPLICIT_BIG),
        ("rtstruct.dcm", IMPLICIT_LITTLE),
    ):
        content = (test_files / name).read_bytes()
        assert guess_encoding(content) == encoding
        assert guess_encoding(content[:200]) == encoding


#: Files whose data set is not in the encoding that their File Meta Information says, and
#: those that start with a group which makes implicit VR no safe guess.
GUESSED_OTHERWISE = {"SC_rgb_jpeg.dcm", "meta_missing_tsyntax.dcm", "priv_SQ.dcm"}


def test_every_bundled_data_set_is_guessed() -> None:
    for path in files():
        content = path.read_bytes()
        meta = read_file_meta(content)
        encoding = encoding_of(meta.transfer_syntax_uid)
        if encoding.deflated or path.name in GUESSED_OTHERWISE:
            continue
        assert guess_encoding(content[meta.data_set_offset :][:4096]) == encoding, path.name


def test_nothing_else_is_guessed_to_be_a_data_set() -> None:
    for path in DATA.rglob("*"):
        if path.suffix in {".txt", ".json", ".gz", ".icc", ".dump", ".py", ".csv"}:
            assert guess_encoding(path.read_bytes()) is None, path.name
    for content in (b"", bytes(1000), b"\xff" * 100, b"PK\x03\x04" + bytes(60), b"%PDF-1.7\n%"):
        assert guess_encoding(content) is None


def test_items_may_be_given_as_they_were_read() -> None:
    read = read_data_set(
        write_data_set([(SEQUENCE, "SQ", [[(0x00100020, "LO", b"1")]])], EXPLICIT_LITTLE),
        EXPLICIT_LITTLE,
    )
    assert read[SEQUENCE] == Element(
        SEQUENCE, "SQ", ({0x00100020: Element(0x00100020, "LO", b"1 ")},)
    )
