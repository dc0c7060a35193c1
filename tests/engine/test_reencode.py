"""Re-encoding between the uncompressed transfer syntaxes, against pydicom and in any chunking."""

from __future__ import annotations

import array
import struct
import tracemalloc
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    ElementScanner,
    Encoding,
    Fragments,
    Inflater,
    Reencoder,
    Survey,
    encoding_of,
    read_data_set,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.limits import Limits

# What pydicom has to say of its own test files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data"
ENCODINGS = [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE]
UNCOMPRESSED = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
}
#: The deflated file has a nearly empty image.
ROOMY = Limits(identifier=1 << 22)
PIXELS = 0x7FE00010

#: Bytes of one number, by VR (PS3.5 7.3).
NUMBERS = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4}
NUMBERS |= {"FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8}

#: Files that end in the middle, or announce more than there is, on purpose.
MALFORMED = {"MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR-nooffset"}


def vr_of(tag: int, creator: str | None) -> str:
    try:
        if creator is not None:
            return private_dictionary_VR(tag, creator)
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def reencode(
    data: bytes, source: Encoding, target: Encoding, size: int = 1 << 30, limits: Limits = ROOMY
) -> bytes:
    reencoder = Reencoder(source, target, vr_of, limits)
    out = []
    for start in range(0, len(data), size):
        out += [bytes(buffer) for buffer in reencoder.feed(data[start : start + size])]
    return b"".join([*out, *map(bytes, reencoder.finish())])


def inflated(data: bytes, encoding: Encoding) -> bytes:
    return b"".join(Inflater(ROOMY).feed(data)) if encoding.deflated else data


def read(data: bytes, encoding: Encoding) -> Dataset:
    return read_dataset(
        DicomBytesIO(inflated(data, encoding)), encoding.implicit_vr, not encoding.big_endian
    )


@cache
def uncompressed_files() -> tuple[tuple[str, bytes, Encoding], ...]:
    """Name, data set and its encoding of every bundled file that can be re-encoded."""
    found = []
    for path in sorted(p for p in DATA.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content[128:132] != b"DICM" or path.name in MALFORMED:
            continue
        meta = read_file_meta(content)
        if meta.transfer_syntax_uid in UNCOMPRESSED:
            encoding = encoding_of(meta.transfer_syntax_uid)
            found.append((path.name, content[meta.data_set_offset :], encoding))
    return tuple(found)


def raw_elements(dataset: Dataset) -> dict[int, Any]:
    """What pydicom read, group lengths left out, before it decodes anything."""
    return {int(tag): dataset.get_item(tag) for tag in list(dataset.keys()) if tag & 0xFFFF != 0}


def little_endian(raw: RawDataElement) -> bytes:
    """The value with its numbers in little endian, as the VR in the data set says."""
    value = raw.value or b""
    width = NUMBERS.get(raw.VR or "", 1)
    if raw.is_little_endian or width == 1:
        return value
    numbers = array.array({2: "H", 4: "I", 8: "Q"}[width], value)
    numbers.byteswap()
    return numbers.tobytes()


def assert_same(ours: Dataset, theirs: Dataset, where: str) -> int:
    """Element by element the same bytes, byte order aside, and the same values.

    Returns:
        How many elements there were.
    """
    mine, other = raw_elements(ours), raw_elements(theirs)
    assert sorted(mine) == sorted(other), where
    for tag, raw in mine.items():
        is_raw = isinstance(raw, RawDataElement) and isinstance(other[tag], RawDataElement)
        if is_raw and "SQ" not in (raw.VR, other[tag].VR):
            expected = little_endian(other[tag])
            if len(expected) & 1 and len(raw.value) == len(expected) + 1:
                expected += raw.value[-1:]
                assert expected[-1:] in (b"\0", b" ")
            assert little_endian(raw) == expected, (where, hex(tag))
    count = len(mine)
    for tag, raw in mine.items():
        one, two = ours[tag], theirs[tag]
        if (one.VR, two.VR) == ("SQ", "SQ"):
            assert len(one.value) == len(two.value), (where, hex(tag))
            for inner, expected in zip(one.value, two.value, strict=True):
                count += assert_same(inner, expected, where)
        # pydicom decodes a UN of a known tag in the data set's byte order.
        elif one.VR == two.VR and raw.VR != "UN" and not isinstance(one.value, bytes):
            assert one.value == two.value, (where, hex(tag))
    return count


@pytest.mark.parametrize(("source", "target"), list(permutations(ENCODINGS, 2)))
def test_pydicom_reads_the_same_in_every_direction(source: Encoding, target: Encoding) -> None:
    """Each file, brought into *source* first, then into *target*."""
    compared = 0
    for name, data, original in uncompressed_files():
        first = data if original == source else reencode(data, original, source)
        second = reencode(first, source, target)
        before, after = read(data, original), read(second, target)
        compared += assert_same(after, before, name)
        for size in (13, 1021):
            if len(first) < 12_000:
                again = reencode(first, source, target, size)
                assert inflated(again, target) == inflated(second, target), (name, size)
    assert compared > 4_000


def test_there_and_back_again() -> None:
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG):
        # Once re-encoded, all lengths are undefined and stay so.
        first = EXPLICIT_BIG if encoding == EXPLICIT_LITTLE else EXPLICIT_LITTLE
        data = reencode(everything(first), first, encoding)
        for other in (EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE):
            there = reencode(data, encoding, other, 7)
            assert reencode(there, other, encoding, 5) == data


STRINGS = ["AE", "AS", "CS", "DA", "LO", "OB", "PN", "UC", "UI", "UN", "UR", "UT"]


def everything(encoding: Encoding) -> bytes:
    """Every VR, at top level and in an item."""
    order = -1 if encoding.big_endian else 1
    one = []
    for position, (vr, width) in enumerate(sorted(NUMBERS.items())):
        value = b"".join(bytes(range(start, start + width))[::order] for start in (0, 16, 32))
        one.append((0x00111010 + position, vr, value))
    for position, vr in enumerate(STRINGS):
        one.append((0x00131010 + position, vr, b"abcdef"))
    sequence = (0x00151100, "SQ", [one, [], [(0x00151101, "SQ", [one])]])
    return write_data_set([*one, sequence], encoding)  # type: ignore[list-item]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_every_vr_changes_its_byte_order(size: int) -> None:
    little, big = everything(EXPLICIT_LITTLE), everything(EXPLICIT_BIG)
    swapped = reencode(little, EXPLICIT_LITTLE, EXPLICIT_BIG, size)
    assert read_data_set(swapped, EXPLICIT_BIG) == read_data_set(big, EXPLICIT_BIG)
    swapped = reencode(big, EXPLICIT_BIG, EXPLICIT_LITTLE, size)
    assert read_data_set(swapped, EXPLICIT_LITTLE) == read_data_set(little, EXPLICIT_LITTLE)


def test_a_value_that_is_no_whole_number_keeps_its_end() -> None:
    data = write_data_set([(0x00280010, "UL", b"\1\2\3\4\5\6")], EXPLICIT_LITTLE)
    for size in (1, 100):
        out = reencode(data, EXPLICIT_LITTLE, EXPLICIT_BIG, size)
        assert read_data_set(out, EXPLICIT_BIG)[0x00280010].value == b"\4\3\2\1\5\6"


@pytest.mark.parametrize(("representation", "vr"), [(0, "US"), (1, "SS")])
def test_us_or_ss_follows_pixel_representation(representation: int, vr: str) -> None:
    padding = (0x00280120, "US", b"\1\0")
    data = write_data_set(
        [
            (0x00280103, "US", bytes([representation, 0])),
            padding,
            (0x00283000, "SQ", [[(0x00283002, "US", bytes(6)), (0x00283006, "OW", bytes(4))]]),
            (0x60003000, "OW", bytes(2)),
            (PIXELS, "OW", bytes(2)),
        ],
        IMPLICIT_LITTLE,
    )
    for size in (1, 100):
        read_back = read_data_set(reencode(data, IMPLICIT_LITTLE, EXPLICIT_BIG, size), EXPLICIT_BIG)
        assert read_back[0x00280120].vr == vr
        assert read_back[0x00280120].value == b"\0\1"
        (item,) = read_back[0x00283000].value
        assert isinstance(item, dict)
        assert (item[0x00283002].vr, item[0x00283006].vr) == (vr, "OW")
        assert read_back[0x60003000].vr == "OW"
        assert read_back[PIXELS].vr == "OW"


def test_private_elements_take_the_vr_of_their_creator() -> None:
    data = write_data_set(
        [
            (0x00090010, None, b"GEMS_IDEN_01"),
            (0x00091001, None, b"LO value"),
            (0x00091027, None, struct.pack("<i", 5)),
            (0x00091101, None, b"no creator"),
        ],
        IMPLICIT_LITTLE,
    )
    for size in (1, 100):
        read_back = read_data_set(reencode(data, IMPLICIT_LITTLE, EXPLICIT_BIG, size), EXPLICIT_BIG)
        assert [element.vr for element in read_back.values()] == ["LO", "LO", "SL", "UN"]
        assert read_back[0x00091027].value == struct.pack(">i", 5)


def test_what_is_too_long_for_its_vr_becomes_un_and_keeps_its_bytes() -> None:
    data = write_data_set([(0x00280106, None, b"\1\2" * 40_000)], IMPLICIT_LITTLE)
    for target in (EXPLICIT_LITTLE, EXPLICIT_BIG):
        element = read_data_set(reencode(data, IMPLICIT_LITTLE, target), target)[0x00280106]
        assert element.vr == "UN"
        assert element.value == b"\1\2" * 40_000


def test_un_of_undefined_length_stays_implicit_little_endian() -> None:
    inner = write_data_set([(0x00280010, "US", b"\1\0")], IMPLICIT_LITTLE)
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = struct.pack("<HH2s2xI", 0x0009, 0x1010, b"UN", 0xFFFFFFFF) + content + end
    for size in (1, 100):
        for target in (EXPLICIT_BIG, IMPLICIT_LITTLE):
            out = reencode(data, EXPLICIT_LITTLE, target, size)
            (item,) = read_data_set(out, target)[0x00091010].value
            assert isinstance(item, dict)
            assert item[0x00280010].value == b"\1\0"


def test_group_lengths_are_dropped() -> None:
    data = write_data_set(
        [(0x00080000, "UL", bytes(4)), (0x00080060, "CS", b"CT")], EXPLICIT_LITTLE
    )
    out = reencode(data, EXPLICIT_LITTLE, IMPLICIT_LITTLE, 3)
    assert out == write_data_set([(0x00080060, "CS", b"CT")], IMPLICIT_LITTLE)


def mark(element: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", 0xFFFE, element, length)


def sequence(tag: int, content: bytes) -> bytes:
    return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, b"SQ", len(content)) + content


OUTER, INNER = 0x00081140, 0x00082112


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (sequence(OUTER, mark(0xE000, 1)), "an item is longer than what holds it"),
        (
            sequence(OUTER, mark(0xE000, 12) + sequence(INNER, bytes(2))[:12]),
            r"\(0008,2112\) is longer than what holds it",
        ),
        (sequence(OUTER, struct.pack("<HHI", 0x0008, 0x0005, 0)), r"\(0008,0005\)"),
        (sequence(OUTER, mark(0xE000, 8) + mark(0xE000)), r"\(FFFE,E000\)"),
    ],
)
def test_what_does_not_fit_into_a_sequence(data: bytes, text: str) -> None:
    """And whoever goes on is told the same again."""
    reencoder = Reencoder(EXPLICIT_LITTLE, EXPLICIT_BIG, vr_of)
    with pytest.raises(DataSetError, match=text) as caught:
        reencoder.feed(data)
    for call in (lambda: reencoder.feed(b""), reencoder.finish):
        with pytest.raises(DataSetError) as again:
            call()
        assert again.value is caught.value


def test_a_vr_that_is_none_becomes_un() -> None:
    """What the dictionary says is believed only where PS3.5 6.2 has such a VR."""
    data = write_data_set([(0x00080060, "CS", b"CT")], IMPLICIT_LITTLE)
    reencoder = Reencoder(IMPLICIT_LITTLE, EXPLICIT_LITTLE, lambda tag, creator: "??")
    out = b"".join(map(bytes, [*reencoder.feed(data), *reencoder.finish()]))
    assert read_data_set(out, EXPLICIT_LITTLE)[0x00080060].vr == "UN"


def test_encapsulated_pixel_data_is_refused() -> None:
    data = write_data_set([(PIXELS, "OB", Fragments((b"", b"abcd")))], EXPLICIT_LITTLE)
    reencoder = Reencoder(EXPLICIT_LITTLE, EXPLICIT_BIG, vr_of)
    with pytest.raises(DataSetError, match="encapsulated") as caught:
        reencoder.feed(data)
    with pytest.raises(DataSetError) as again:
        reencoder.finish()
    assert again.value is caught.value


@pytest.mark.parametrize(("source", "target"), list(permutations(ENCODINGS[:3], 2)))
def test_every_truncation_is_seen(source: Encoding, target: Encoding) -> None:
    elements = [
        (0x00080060, "CS", b"CT"),
        (0x00400275, "SQ", [[(0x00400009, "SH", b"1 ")], []]),
        (0x00420011, "OB", b"abcd"),
    ]
    data = write_data_set(elements, source)
    ends = [len(write_data_set(elements[:count], source)) for count in range(4)]
    clean = []
    for length in range(len(data) + 1):
        try:
            reencode(data[:length], source, target, 9)
        except DataSetError:
            continue
        clean.append(length)
    # Of the next header a NUL has come, which may as well be padding.
    padded = [end + 1 for end in ends[:-1] if not data[end]]
    assert clean == sorted([*ends, *padded])


@given(
    position=st.integers(0, 2_000),
    value=st.integers(0, 255),
    size=st.integers(1, 50),
    pair=st.sampled_from(list(permutations(ENCODINGS, 2))),
)
def test_one_changed_byte_never_raises_anything_else(
    position: int, value: int, size: int, pair: tuple[Encoding, Encoding]
) -> None:
    source, target = pair
    changed = bytearray(reencode(everything(EXPLICIT_LITTLE), EXPLICIT_LITTLE, source))
    changed[position % len(changed)] = value
    outcomes = []
    for step in (size, 1 << 20):
        try:
            outcomes.append(inflated(reencode(bytes(changed), source, target, step), target))
        except DataSetError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("implicit", [True, False])
def test_twenty_thousand_nested_sequences(implicit: bool) -> None:
    head = (
        struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF)
        if implicit
        else struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
    )
    data = (head + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 20_000
    source = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
    with pytest.raises(DataSetError) as caught:
        reencode(data, source, EXPLICIT_BIG)
    assert caught.value.limit == "nesting"


@pytest.mark.parametrize("target", [IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_a_gigabyte_of_pixels_passes_with_flat_memory(target: Encoding) -> None:
    length = 1 << 30
    piece = bytes(range(256)) * 512
    expected = piece
    if target.big_endian:
        words = array.array("H", piece)
        words.byteswap()
        expected = words.tobytes()
    reencoder = Reencoder(EXPLICIT_LITTLE, target, vr_of)
    reencoder.feed(struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", length))
    tracemalloc.start()
    try:
        for _ in range(length // len(piece)):
            (out,) = reencoder.feed(piece)
            assert out == expected
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert reencoder.finish() == []


def test_a_changed_header_across_pieces_of_an_odd_value() -> None:
    data = write_data_set([(PIXELS, "OW", bytes(range(200)))], EXPLICIT_LITTLE)
    expected = write_data_set(
        [(PIXELS, "OW", b"".join(bytes([i + 1, i]) for i in range(0, 200, 2)))], EXPLICIT_BIG
    )
    for size in range(1, 40):
        assert reencode(data, EXPLICIT_LITTLE, EXPLICIT_BIG, size) == expected


# --- what was taken is delivered --------------------------------------------------------------


def convert(data: bytes, source: Encoding, target: Encoding, size: int = 1 << 30) -> bytes:
    """Survey, then re-encode, in pieces of *size*; what the survey need not see it does not."""
    odd = {}
    if Survey.is_needed(source, target):
        survey = Survey(source, target, vr_of)
        position = 0
        while position < len(data):
            survey.feed(data[position : position + size])
            position = min(position + size, len(data))
            if (ahead := min(survey.next_wanted, len(data)) - position) > 0:
                survey.pass_over(ahead)
                position += ahead
        survey.finish()
        odd = dict(survey.odd)
    reencoder = Reencoder(source, target, vr_of, odd=odd)
    out = []
    for start in range(0, len(data), size):
        out += [bytes(buffer) for buffer in reencoder.feed(data[start : start + size])]
    return b"".join([*out, *map(bytes, reencoder.finish())])


def converted(data: bytes, source: Encoding, target: Encoding) -> bytes:
    """The same in any pieces, inflated."""
    whole = inflated(convert(data, source, target), target)
    for size in (1, 7, 50):
        assert inflated(convert(data, source, target, size), target) == whole
    return whole


UNDEFINED = 0xFFFFFFFF


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    announced = len(value) if length is None else length
    return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr, announced) + value


def framed(content: bytes) -> bytes:
    return mark(0xE000, len(content)) + content


MODALITY = write_data_set([(0x00080060, "CS", b"CT")], EXPLICIT_LITTLE)
STEP = write_data_set([(0x00400009, "SH", b"STEP")], EXPLICIT_LITTLE)
CODE = write_data_set([(0x00080100, "SH", b"CODE")], EXPLICIT_LITTLE)
TARGETS = (IMPLICIT_LITTLE, EXPLICIT_BIG)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("vr", [b"OB", b"OW", b"UT", b"OF"])
def test_items_in_what_is_no_sequence_go_on_as_un(vr: bytes, target: Encoding) -> None:
    """GE writes sequences so; in which encoding they are inside nobody says."""
    inner = write_data_set([(0x00490010, "LO", b"SYNTH ")], IMPLICIT_LITTLE)
    items = framed(inner) + mark(0xE000, UNDEFINED) + inner + mark(0xE00D)
    odd = explicit(0x00491001, vr, items + mark(0xE0DD), UNDEFINED)
    for data in (MODALITY + odd, MODALITY + sequence(OUTER, framed(odd)) + STEP):
        out = converted(data, EXPLICIT_LITTLE, target)
        elements = read_data_set(out, target)
        assert elements[0x00080060].value == b"CT"
        if OUTER in elements:
            assert elements[0x00400009].value == b"STEP"
            elements = elements[OUTER].value[0]
        assert elements[0x00491001].value == items
        assert elements[0x00491001].vr == (None if target.implicit_vr else "UN")


@pytest.mark.parametrize(
    "content",
    [
        b"LEGACY CODE ",
        mark(0xE000, 100),
        framed(explicit(0x00080001, b"OB", b"", 100)),
        framed(CODE) + b"trailing",
        framed(CODE + mark(0xE000, 0)),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_sequence_that_is_none_goes_on_as_un(content: bytes, target: Encoding) -> None:
    """The innermost one whose end is known, and nothing around it."""
    bad = sequence(INNER, content)
    outer = mark(0xE000, UNDEFINED) + CODE + bad + mark(0xE00D)
    undefined = explicit(OUTER, b"SQ", outer + mark(0xE0DD), UNDEFINED)
    for data in (sequence(OUTER, outer), undefined):
        elements = read_data_set(converted(MODALITY + data + STEP, EXPLICIT_LITTLE, target), target)
        assert elements[0x00080060].value == b"CT"
        assert elements[0x00400009].value == b"STEP"
        (item,) = elements[OUTER].value
        assert item[0x00080100].value == b"CODE"
        if target.implicit_vr:  # where nothing can say that it is no sequence
            assert INNER not in item
        else:
            assert item[INNER].value == content


@pytest.mark.parametrize("target", TARGETS)
def test_a_sequence_of_undefined_length_with_a_bad_item_goes_on_as_un(target: Encoding) -> None:
    items = framed(CODE) + framed(explicit(0x00080001, b"OB", b"", 100)) + framed(CODE)
    for end in (mark(0xE0DD), b""):
        data = MODALITY + explicit(OUTER, b"SQ", items + end, UNDEFINED) + STEP
        elements = read_data_set(converted(data, EXPLICIT_LITTLE, target), target)
        assert elements[0x00400009].value == b"STEP"
        if target.implicit_vr:
            assert OUTER not in elements
        else:
            assert elements[OUTER].value == items


def test_text_where_the_dictionary_has_a_sequence() -> None:
    data = write_data_set([(0x0040A170, None, b"LEGACY CODE ")], IMPLICIT_LITTLE)
    for target in (EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE):
        plain = Encoding(target.implicit_vr, target.big_endian)
        out = read_data_set(converted(data, IMPLICIT_LITTLE, target), plain)
        assert out[0x0040A170] == (0x0040A170, "UN", b"LEGACY CODE ")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_native_pixels_in_fragments_are_joined(vr: str, target: Encoding) -> None:
    pixels = bytes(range(16))
    expected = pixels
    if vr == "OW" and target.big_endian:
        expected = b"".join(pixels[i : i + 2][::-1] for i in range(0, 16, 2))
    table = framed(struct.pack("<II", 0, 16))
    for fragments in (
        framed(pixels),
        framed(b"") + framed(pixels),
        framed(pixels[:6]) + framed(pixels[6:]),
        table + framed(pixels[:8]) + framed(pixels[8:]),
    ):
        for end in (mark(0xE0DD), b""):
            data = MODALITY + explicit(PIXELS, vr.encode(), fragments + end, UNDEFINED)
            tail = explicit(0xFFFCFFFC, b"OB", b"ab")
            elements = read_data_set(converted(data + tail, EXPLICIT_LITTLE, target), target)
            assert elements[PIXELS].value == expected
            assert elements[0xFFFCFFFC].value == b"ab"


@pytest.mark.parametrize("target", [EXPLICIT_LITTLE, EXPLICIT_BIG])
def test_what_has_no_delimitation_gets_one(target: Encoding) -> None:
    code = write_data_set([(0x00080100, "SH", b"CODE")], IMPLICIT_LITTLE)
    step = write_data_set([(0x00400009, "SH", b"STEP")], IMPLICIT_LITTLE)
    start = struct.pack("<HHI", 0x0008, 0x1140, UNDEFINED)
    for content in (
        mark(0xE000, UNDEFINED) + code + mark(0xE0DD),
        mark(0xE000, UNDEFINED) + code + mark(0xE00D, 8) + mark(0xE0DD, 8),
        framed(code) + mark(0xE00D),
        framed(code),
    ):
        for tail in (step, b""):
            if tail or not content.startswith(mark(0xE000, UNDEFINED) + code + mark(0xE0DD)):
                out = converted(start + content + tail, IMPLICIT_LITTLE, target)
                (item,) = read_data_set(out, target)[0x00081140].value
                assert item[0x00080100].value == b"CODE"
                assert mark(0xE0DD) in out or target.big_endian
    bare = converted(start + mark(0xE000, UNDEFINED) + code, IMPLICIT_LITTLE, target)
    (item,) = read_data_set(bare, target)[0x00081140].value
    assert item[0x00080100].value == b"CODE"


@pytest.mark.parametrize("target", TARGETS)
def test_what_belongs_to_nothing_does_not_go_on(target: Encoding) -> None:
    """Items and delimitation items outside of sequences, and padding."""
    data = MODALITY + framed(CODE) + mark(0xE0DD) + mark(0xE000, UNDEFINED)
    data += CODE + mark(0xE00D) + STEP
    for padding in (b"", bytes(11), b" " * 31, b"\xff" * 1000):
        out = converted(data + padding, EXPLICIT_LITTLE, target)
        assert set(read_data_set(out, target)) == {0x00080060, 0x00400009}


@pytest.mark.parametrize("target", TARGETS)
def test_values_of_odd_length_leave_with_an_even_one(target: Encoding) -> None:
    odd = b"\x08\0\x60\0CS\1\0X" + explicit(0x00091001, b"OB", b"abc") + b"\x28\0\x10\0US\3\0\1\2\3"
    out = read_data_set(converted(odd, EXPLICIT_LITTLE, target), target)
    assert out[0x00080060].value == b"X "
    assert out[0x00091001].value == b"abc\0"
    assert len(out[0x00280010].value) == 4


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_moves_group_0002_to_the_head(target: Encoding) -> None:
    length = b"\1\0\0\0UL\4\0" + bytes(4)
    meta = write_data_set([(0x00020010, "UI", b"1.2.840.10008.1.2.4.50")], EXPLICIT_LITTLE)
    out = read_data_set(converted(length + meta + MODALITY, EXPLICIT_LITTLE, target), target)
    assert list(out) == [0x00010000, 0x00020010, 0x00080060]


def test_sequences_of_defined_length_too_deep_to_take_apart() -> None:
    data = MODALITY
    for _ in range(100):
        data = sequence(OUTER, framed(data))
    out = read_data_set(converted(data, EXPLICIT_LITTLE, EXPLICIT_BIG), EXPLICIT_BIG)
    depth = 0
    while isinstance(out[OUTER].value, tuple):
        (out,) = out[OUTER].value
        depth += 1
    assert depth == 63
    assert out[OUTER].vr == "UN"


def test_sixty_thousand_frames_take_no_memory() -> None:
    frame = explicit(OUTER, b"SQ", framed(CODE) + mark(0xE0DD), UNDEFINED)
    frames = mark(0xE000, UNDEFINED) + frame * 3 + mark(0xE00D)
    block = frames * 1_000
    survey = Survey(EXPLICIT_LITTLE, IMPLICIT_LITTLE, vr_of)
    reencoder = Reencoder(EXPLICIT_LITTLE, IMPLICIT_LITTLE, vr_of)
    start = explicit(0x52009230, b"SQ", b"", UNDEFINED)
    tracemalloc.start()
    try:
        survey.feed(start)
        reencoder.feed(start)
        for _ in range(3):
            survey.feed(block)
            for buffer in reencoder.feed(block):
                assert buffer
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    survey.feed(mark(0xE0DD))
    survey.finish()
    assert not survey.odd


def test_what_goes_on_as_one_value_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.engine.dataset.transcoder.MAX_ODD_ELEMENTS", 10)
    odd = explicit(0x00491001, b"OB", mark(0xE0DD), UNDEFINED)
    assert converted(odd * 10, EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    with pytest.raises(DataSetLimitError, match="more than 10 elements"):
        convert(odd * 11, EXPLICIT_LITTLE, IMPLICIT_LITTLE)


@given(
    changes=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=4),
    pair=st.sampled_from(list(permutations(ENCODINGS[:3], 2))),
    size=st.integers(1, 50),
)
def test_whatever_the_scanner_takes_can_be_delivered(
    changes: list[tuple[int, int]], pair: tuple[Encoding, Encoding], size: int
) -> None:
    source, target = pair
    data = bytearray(reencode(everything(EXPLICIT_LITTLE), EXPLICIT_LITTLE, source))
    for position, value in changes:
        data[position % len(data)] = value
    scanner = ElementScanner(source, frozenset())
    try:
        scanner.feed(data)
        scanner.finish()
    except DataSetError:
        return
    out = convert(bytes(data), source, target)
    assert convert(bytes(data), source, target, size) == out
    again = ElementScanner(target, frozenset())
    again.feed(out)
    again.finish()
    assert not set(again.forgiven) - {"an element without a VR of PS3.5 6.2"}
