"""The element scanner against pydicom, against any chunking, and against hostile lengths."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
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
    FileMeta,
    Fragments,
    ScannedValue,
    encoding_of,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.limits import Limits

# What pydicom has to say of its own test files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data"
ROOMY = Limits(kept_value=1 << 22, identifier=1 << 22)
NOTHING: frozenset[int] = frozenset()

#: Files of pydicom that end in the middle of a value, on purpose.
TRUNCATED = {"MR_truncated.dcm", "rtplan_truncated.dcm"}


@cache
def part_10_files() -> tuple[tuple[Path, bytes, FileMeta], ...]:
    """Every bundled file with preamble and prefix: path, bytes, File Meta Information."""
    found = []
    for path in sorted(p for p in DATA.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content[128:132] == b"DICM":
            found.append((path, content, read_file_meta(content)))
    return tuple(found)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def scan(
    data: bytes,
    encoding: Encoding,
    wanted: frozenset[int] = NOTHING,
    sequences: frozenset[int] = NOTHING,
    *,
    size: int = 1 << 30,
    limits: Limits = ROOMY,
) -> ElementScanner:
    scanner = ElementScanner(encoding, wanted, limits, sequences=sequences)
    for piece in pieces(data, size):
        scanner.feed(piece)
    scanner.finish()
    return scanner


def raw_elements(dataset: Dataset) -> dict[int, Any]:
    """What pydicom read, before it decodes one element for the sake of another."""
    return {int(tag): dataset.get_item(tag) for tag in list(dataset.keys())}


def assert_same(ours: ScannedValue, raw: Any, dataset: Dataset, tag: int) -> None:
    """*ours* is what pydicom has for *tag*, items of items included."""
    if isinstance(ours, Fragments):
        joined = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(f)) + f for f in ours)
        assert joined == raw.value, hex(tag)
    elif isinstance(raw, DataElement) and raw.VR == "CS":
        # Specific Character Set is the one element that pydicom decodes while reading.
        assert isinstance(ours, bytes)
        values = [raw.value] if isinstance(raw.value, str) else list(raw.value or [""])
        assert ours.decode().rstrip(" \0").split("\\") == values
    elif isinstance(ours, bytes):
        assert ours == (raw.value or b""), hex(tag)
    else:
        items = dataset[tag].value
        assert len(ours) == len(items), hex(tag)
        for item, theirs in zip(ours, items, strict=True):
            raws = raw_elements(theirs)
            assert list(item) == list(raws), hex(tag)
            for inner, value in item.items():
                assert_same(value, raws[inner], theirs, inner)


def sequence_tags(dataset: Dataset) -> frozenset[int]:
    """The tags of all sequences, at any depth, that pydicom recognises."""
    found = set()
    for tag in list(dataset.keys()):
        element = dataset[tag]
        if element.VR == "SQ":
            found.add(int(tag))
            for item in element.value:
                found |= sequence_tags(item)
    return frozenset(found)


def test_the_bundled_files_are_there() -> None:
    assert len(part_10_files()) > 150


@pytest.mark.parametrize("size", [1 << 30, 977])
def test_every_bundled_file_gives_what_pydicom_gives(size: int) -> None:
    compared = 0
    for path, content, meta in part_10_files():
        if path.name in TRUNCATED or not meta.transfer_syntax_uid:
            continue
        dataset = pydicom.dcmread(path)
        raws = raw_elements(dataset)
        sequences = sequence_tags(pydicom.dcmread(path))
        if path.name == "nested_priv_SQ.dcm":
            # One tag is a sequence, and text within it; only the undefined lengths can tell.
            sequences = NOTHING
        wanted = frozenset(map(int, dataset.keys()))
        if path.name == "DICOMDIR-nooffset":
            # The last directory record announces 8 bytes more than the file has.
            wanted -= {0x00041220}
        scanner = scan(
            content[meta.data_set_offset :],
            encoding_of(meta.transfer_syntax_uid),
            wanted,
            sequences,
            size=size,
        )
        assert set(scanner.values) == wanted, path
        for tag, value in scanner.values.items():
            assert_same(value, raws[tag], dataset, tag)
            compared += 1
    assert compared > 5_000


def test_every_bundled_file_scans_with_nothing_wanted() -> None:
    for path, content, meta in part_10_files():
        if path.name not in TRUNCATED:
            scanner = scan(content[meta.data_set_offset :], encoding_of(meta.transfer_syntax_uid))
            assert scanner.values == {}


def test_the_truncated_files_are_refused_at_the_end() -> None:
    for path, content, meta in part_10_files():
        if path.name in TRUNCATED:
            scanner = ElementScanner(encoding_of(meta.transfer_syntax_uid), NOTHING)
            scanner.feed(content[meta.data_set_offset :])
            with pytest.raises(DataSetError, match="ends within a value") as caught:
                scanner.finish()
            assert caught.value.offset == len(content) - meta.data_set_offset


SEQUENCE, NESTED, PRIVATE, PIXELS = 0x00081140, 0x00081199, 0x00091010, 0x7FE00010
UNDEFINED = 0xFFFFFFFF


def mark(element: int, length: int, sign: str = "<") -> bytes:
    return struct.pack(sign + "HHI", 0xFFFE, element, length)


def item(content: bytes, *, undefined: bool, sign: str = "<") -> bytes:
    if undefined:
        return mark(0xE000, UNDEFINED, sign) + content + mark(0xE00D, 0, sign)
    return mark(0xE000, len(content), sign) + content


def header(tag: int, vr: bytes, length: int, sign: str = "<") -> bytes:
    return struct.pack(sign + "HH2s2xI", tag >> 16, tag & 0xFFFF, vr, length)


def sequence(content: bytes, *, undefined: bool, sign: str = "<", tag: int = SEQUENCE) -> bytes:
    if undefined:
        return header(tag, b"SQ", UNDEFINED, sign) + content + mark(0xE0DD, 0, sign)
    return header(tag, b"SQ", len(content), sign) + content


PLAIN = [(0x00080060, "CS", b"CT"), (0x00100020, "LO", b"ID")]

#: (item, sequence) of undefined length or not.
FORMS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize(("item_form", "sequence_form"), FORMS)
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_sequences_of_any_length_form(
    encoding: Encoding, item_form: bool, sequence_form: bool, size: int
) -> None:
    sign = ">" if encoding.big_endian else "<"
    inner = write_data_set(PLAIN, encoding)
    nested = sequence(
        item(inner, undefined=item_form, sign=sign),
        undefined=sequence_form,
        sign=sign,
        tag=NESTED,
    )
    data = sequence(
        item(nested, undefined=item_form, sign=sign) + item(b"", undefined=item_form, sign=sign),
        undefined=sequence_form,
        sign=sign,
    ) + write_data_set([(0x00100010, "PN", b"A^B ")], encoding)
    expected = ({NESTED: ({0x00080060: b"CT", 0x00100020: b"ID"},)}, {})
    scanner = scan(data, encoding, frozenset({SEQUENCE, 0x00100010}), size=size)
    assert scanner.values == {SEQUENCE: expected, 0x00100010: b"A^B "}
    assert scanner.vrs == {SEQUENCE: "SQ", 0x00100010: "PN"}
    assert scan(data, encoding, frozenset({0x00100010}), size=size).values == {0x00100010: b"A^B "}


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG])
def test_un_of_undefined_length_is_implicit_little_endian_inside(encoding: Encoding) -> None:
    sign = ">" if encoding.big_endian else "<"
    inner = write_data_set(PLAIN, IMPLICIT_LITTLE)
    data = (
        header(PRIVATE, b"UN", UNDEFINED, sign)
        + item(inner, undefined=True)
        + mark(0xE0DD, 0)
        + write_data_set([(0x00100020, "LO", b"ID")], encoding)
    )
    expected = ({0x00080060: b"CT", 0x00100020: b"ID"},)
    for size in (1, 5, 1000):
        scanner = scan(data, encoding, frozenset({PRIVATE, 0x00100020}), size=size)
        assert scanner.values == {PRIVATE: expected, 0x00100020: b"ID"}


def test_un_of_defined_length_is_items_only_if_it_is() -> None:
    inner = item(write_data_set(PLAIN, IMPLICIT_LITTLE), undefined=False)
    both = frozenset({SEQUENCE})
    good = header(SEQUENCE, b"UN", len(inner)) + inner
    assert scan(good, EXPLICIT_LITTLE, both, both).values == {
        SEQUENCE: ({0x00080060: b"CT", 0x00100020: b"ID"},)
    }
    bad = header(SEQUENCE, b"UN", 10) + b"not items."
    assert scan(bad, EXPLICIT_LITTLE, both, both).values == {SEQUENCE: b"not items."}


def test_implicit_vr_knows_sequences_from_the_caller_or_by_undefined_length() -> None:
    inner = item(write_data_set(PLAIN, IMPLICIT_LITTLE), undefined=False)
    data = struct.pack("<HHI", SEQUENCE >> 16, SEQUENCE & 0xFFFF, len(inner)) + inner
    wanted = frozenset({SEQUENCE})
    expected = {SEQUENCE: ({0x00080060: b"CT", 0x00100020: b"ID"},)}
    assert scan(data, IMPLICIT_LITTLE, wanted, wanted).values == expected
    assert scan(data, IMPLICIT_LITTLE, wanted).values == {SEQUENCE: inner}
    undefined = struct.pack("<HHI", SEQUENCE >> 16, SEQUENCE & 0xFFFF, UNDEFINED)
    assert scan(undefined + inner + mark(0xE0DD, 0), IMPLICIT_LITTLE, wanted).values == expected


def test_future_vrs_have_long_headers() -> None:
    data = header(0x00080001, b"ZZ", 3) + b"new" + write_data_set(PLAIN, EXPLICIT_LITTLE)
    scanner = scan(data, EXPLICIT_LITTLE, frozenset({0x00080001, 0x00080060}))
    assert scanner.values == {0x00080001: b"new", 0x00080060: b"CT"}
    assert scanner.vrs[0x00080001] == "ZZ"


def test_the_last_of_two_elements_counts() -> None:
    data = b"".join(
        write_data_set([(0x00080060, "CS", value)], EXPLICIT_LITTLE) for value in (b"CT", b"MR")
    )
    assert scan(data, EXPLICIT_LITTLE, frozenset({0x00080060})).values == {0x00080060: b"MR"}


def test_encapsulated_pixel_data_is_passed_over_or_kept() -> None:
    data = write_data_set(
        [*PLAIN, (PIXELS, "OB", Fragments((b"", b"\xff\xd8jpeg")))], EXPLICIT_LITTLE
    )
    for size in (1, 1000):
        assert scan(data, EXPLICIT_LITTLE, size=size).values == {}
        kept = scan(data, EXPLICIT_LITTLE, frozenset({PIXELS}), size=size).values[PIXELS]
        assert kept == Fragments((b"", b"\xff\xd8jpeg"))
        assert isinstance(kept, Fragments)


# --- any chunking -----------------------------------------------------------------------------

tags = st.integers(0x00080001, 0x7FDFFFFF).filter(lambda tag: tag & 0xFFFF)
leaves = st.tuples(
    tags,
    st.sampled_from(["CS", "LO", "UI", "US", "OB", "OW", "UN", "UT", "FD"]),
    st.binary(max_size=40),
)


def in_order(elements: list[tuple[int, str, object]]) -> list[tuple[int, str, object]]:
    return sorted({element[0]: element for element in elements}.values(), key=lambda e: e[0])


elements_lists = st.recursive(
    st.lists(leaves, max_size=5).map(in_order),
    lambda inner: st.lists(
        leaves | st.tuples(tags, st.just("SQ"), st.lists(inner, max_size=3)), max_size=5
    ).map(in_order),
    max_leaves=8,
)


def padded(value: object) -> object:
    """What a value comes back as, whatever it is padded with."""
    if isinstance(value, bytes):
        return len(value) + (len(value) & 1), value
    assert isinstance(value, list)
    return [{tag: padded(inner) for tag, _, inner in one} for one in value]


def comparable(value: ScannedValue, like: object) -> object:
    if isinstance(value, bytes):
        assert isinstance(like, bytes)
        return len(value), value[: len(like)]
    assert isinstance(like, list)
    return [
        {tag: comparable(one[tag], inner) for tag, _, inner in original}  # type: ignore[index, union-attr]
        for one, original in zip(value, like, strict=True)
    ]


@given(
    elements=elements_lists,
    encoding=st.sampled_from([EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE, DEFLATED_LITTLE]),
    cuts=st.lists(st.integers(1, 60), max_size=30),
)
def test_any_chunking_gives_the_same(
    elements: list[tuple[int, str, object]], encoding: Encoding, cuts: list[int]
) -> None:
    data = write_data_set(elements, encoding)  # type: ignore[arg-type]
    wanted = frozenset(tag for tag, _, _ in elements)

    def all_sequences(level: list[tuple[int, str, object]]) -> frozenset[int]:
        found: frozenset[int] = frozenset()
        for tag, vr, value in level:
            if vr == "SQ":
                assert isinstance(value, list)
                found = found.union({tag}, *(all_sequences(one) for one in value))
        return found

    def no_sequence(level: list[tuple[int, str, object]], sequences: frozenset[int]) -> bool:
        return all(
            tag not in sequences
            if vr != "SQ"
            else all(no_sequence(one, sequences) for one in value)  # type: ignore[attr-defined]
            for tag, vr, value in level
        )

    sequences = all_sequences(elements)
    if not no_sequence(elements, sequences):
        return  # the same tag, once a sequence and once not: only explicit VR can tell
    whole = scan(data, encoding, wanted, sequences)
    scanner = ElementScanner(encoding, wanted, ROOMY, sequences=sequences)
    pos = 0
    for cut in cuts:
        scanner.feed(memoryview(data)[pos : pos + cut])
        pos += cut
    scanner.feed(bytearray(data[pos:]))
    scanner.finish()
    assert scanner.values == whole.values
    assert scanner.vrs == whole.vrs
    assert set(whole.values) == wanted
    for tag, _, value in elements:
        assert comparable(whole.values[tag], value) == padded(value)


def small_data_set(encoding: Encoding) -> tuple[bytes, set[int]]:
    """A data set with all that can be open, and the offsets at which it may end."""
    sign = ">" if encoding.big_endian else "<"
    parts = [
        write_data_set([(0x00080060, "CS", b"CT")], encoding),
        sequence(
            item(write_data_set(PLAIN, encoding), undefined=True, sign=sign),
            undefined=True,
            sign=sign,
        ),
        write_data_set([(0x00100020, "LO", b"ID"), (0x00400275, "SQ", [PLAIN, []])], encoding),
        header(PRIVATE, b"UN", UNDEFINED, sign)
        + item(write_data_set(PLAIN, IMPLICIT_LITTLE), undefined=True)
        + mark(0xE0DD, 0),
        write_data_set([(PIXELS, "OB", Fragments((b"", b"abcd")))], encoding),
        write_data_set([(0xFFFCFFFC, "OB", b"\0\0")], encoding),
    ]
    ends = {0}
    for part in parts:
        ends.add(max(ends) + len(part))
    # Two elements were written together.
    ends.add(len(parts[0]) + len(parts[1]) + 8 + 2)
    return b"".join(parts), ends


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize("wanted", [NOTHING, frozenset({SEQUENCE, 0x00400275, PRIVATE, PIXELS})])
def test_every_truncation_is_refused_or_told(encoding: Encoding, wanted: frozenset[int]) -> None:
    data, ends = small_data_set(encoding)
    clean = set()
    forgiven = set()
    for length in range(len(data) + 1):
        try:
            scanner = scan(data[:length], encoding, wanted, size=11)
        except DataSetError:
            continue
        (forgiven if scanner.forgiven else clean).add(length)
    assert clean == ends
    # Where a header should be, of which at most a NUL has come: a tenth of all places.
    assert 0 < len(forgiven) < len(data) / 4


@given(data=st.binary(max_size=300), size=st.integers(1, 40))
def test_garbage_is_refused_or_scanned_the_same_in_any_chunking(data: bytes, size: int) -> None:
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE, DEFLATED_LITTLE):
        outcomes = []
        for step in (size, 1 << 20):
            try:
                scan(data, encoding, size=step)
            except DataSetError as error:
                outcomes.append((str(error) if not encoding.deflated else "", type(error)))
            else:
                outcomes.append(None)
        assert outcomes[0] == outcomes[1]


@given(position=st.integers(0, 400), value=st.integers(0, 255), size=st.integers(1, 50))
def test_one_changed_byte_never_raises_anything_else(position: int, value: int, size: int) -> None:
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG):
        data, _ = small_data_set(encoding)
        changed = bytearray(data)
        changed[position % len(data)] = value
        wanted = frozenset({SEQUENCE, 0x00400275, PRIVATE, PIXELS})
        outcomes = []
        for step in (size, 1 << 20):
            try:
                outcomes.append(scan(bytes(changed), encoding, wanted, wanted, size=step).values)
            except DataSetError as error:
                outcomes.append({-1: str(error).encode()})
        assert (-1 in outcomes[0]) == (-1 in outcomes[1])
        if -1 not in outcomes[0]:
            assert outcomes[0] == outcomes[1]


# --- limits -----------------------------------------------------------------------------------


def peak_of(data: list[bytes], scanner: ElementScanner) -> int:
    """Bytes allocated at the most while *scanner* looks at *data*, or refuses it."""
    tracemalloc.start()
    try:
        with suppress(DataSetError):
            for piece in data:
                scanner.feed(piece)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_twenty_thousand_nested_sequences(encoding: Encoding) -> None:
    head = (
        struct.pack("<HHI", 0x0008, 0x1140, UNDEFINED)
        if encoding.implicit_vr
        else header(SEQUENCE, b"SQ", UNDEFINED)
    )
    data = (head + mark(0xE000, UNDEFINED)) * 20_000
    for wanted in (NOTHING, frozenset({SEQUENCE})):
        scanner = ElementScanner(encoding, wanted)
        with pytest.raises(DataSetError) as caught:
            scanner.feed(data)
        assert caught.value.limit == "nesting"
        with pytest.raises(DataSetError) as again:
            scanner.feed(b"")
        assert again.value is caught.value
        with pytest.raises(DataSetError):
            scanner.finish()


def test_as_deep_as_allowed_and_one_deeper() -> None:
    def nested(depth: int) -> bytes:
        data = b""
        for _ in range(depth):
            data = sequence(item(data, undefined=True), undefined=True)
        return data

    limits = Limits(nesting=7)
    for wanted in (NOTHING, frozenset({SEQUENCE})):
        scan(nested(7), EXPLICIT_LITTLE, wanted, limits=limits)
        with pytest.raises(DataSetError) as caught:
            scan(nested(8), EXPLICIT_LITTLE, wanted, limits=limits)
        assert caught.value.limit == "nesting"


def test_a_value_of_four_gigabytes_is_passed_over_without_memory() -> None:
    length = 0xFFFFFFFE
    scanner = ElementScanner(EXPLICIT_LITTLE, frozenset({0xFFFCFFFC}))
    scanner.feed(header(PIXELS, b"OW", length))
    megabyte = bytes(1 << 20)
    tracemalloc.start()
    try:
        for _ in range(length >> 20):
            scanner.feed(megabyte)
        assert tracemalloc.get_traced_memory()[1] < 64 << 10
    finally:
        tracemalloc.stop()
    with pytest.raises(DataSetError):
        ElementScanner.finish(scanner)
    other = ElementScanner(EXPLICIT_LITTLE, frozenset({0xFFFCFFFC}))
    other.feed(header(PIXELS, b"OW", 10) + bytes(10) + header(0xFFFCFFFC, b"OB", 2) + b"ab")
    other.finish()
    assert other.values == {0xFFFCFFFC: b"ab"}


@pytest.mark.parametrize("vr", [b"UT", b"OB", b"SQ", b"UN"])
def test_of_a_wanted_value_that_is_too_long_the_beginning_is_kept_or_nothing(vr: bytes) -> None:
    limits = Limits(kept_value=100, identifier=100)
    after = write_data_set([(0x00400009, "SH", b"STEP")], EXPLICIT_LITTLE)
    inner = b"".join(item(b"", undefined=False) for _ in range(50))
    data = header(SEQUENCE, vr, len(inner)) + inner + after
    for size in (1, 7, 1 << 20):
        scanner = scan(
            data, EXPLICIT_LITTLE, frozenset({SEQUENCE, 0x00400009}), size=size, limits=limits
        )
        assert scanner.values[0x00400009] == b"STEP"
        assert scanner.values.get(SEQUENCE) == (None if vr == b"SQ" else inner[:100])
        fault = scanner.left_out[SEQUENCE]
        assert isinstance(fault, DataSetLimitError)
        assert fault.limit == ("identifier" if vr == b"SQ" else "kept_value")
        assert str(fault) == "(0008,1140) is longer than 100 bytes (at byte 12)"


def test_a_wanted_value_that_announces_four_gigabytes_takes_no_memory() -> None:
    scanner = ElementScanner(EXPLICIT_LITTLE, frozenset({SEQUENCE}))
    data = [header(SEQUENCE, b"UT", 0xFFFFFFFE), *([bytes(1 << 20)] * 100)]
    assert peak_of(data, scanner) < 1 << 20
    with pytest.raises(DataSetError, match="within a value"):
        scanner.finish()


def test_the_last_of_two_elements_counts_also_where_one_is_too_long() -> None:
    limits = Limits(kept_value=4)
    short = write_data_set([(0x00080060, "CS", b"CT")], EXPLICIT_LITTLE)
    long = write_data_set([(0x00080060, "CS", b"CT-MR-")], EXPLICIT_LITTLE)
    wanted = frozenset({0x00080060})
    scanner = scan(short + long, EXPLICIT_LITTLE, wanted, limits=limits)
    assert (scanner.values, set(scanner.left_out)) == ({0x00080060: b"CT-M"}, {0x00080060})
    scanner = scan(long + short, EXPLICIT_LITTLE, wanted, limits=limits)
    assert (scanner.values, scanner.left_out) == ({0x00080060: b"CT"}, {})


def test_a_wanted_sequence_of_undefined_length_is_bounded() -> None:
    one = item(header(0x00080001, b"OB", 60_000) + bytes(60_000), undefined=True)
    scanner = ElementScanner(EXPLICIT_LITTLE, frozenset({SEQUENCE}))
    data = [header(SEQUENCE, b"SQ", UNDEFINED), *([one] * 200), mark(0xE0DD, 0)]
    assert peak_of(data, scanner) < 4 << 20
    scanner.finish()
    assert (scanner.values, set(scanner.left_out)) == ({}, {SEQUENCE})


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_the_number_of_elements_has_no_bound(encoding: Encoding) -> None:
    """And nothing is held for them."""
    some = write_data_set([(0x00080060, "CS", b"")], encoding) * 10_000
    scanner = ElementScanner(encoding, NOTHING)
    assert peak_of([some] * 4, scanner) < 64 << 10
    empty = mark(0xE000, 0) * 10_000
    scanner = ElementScanner(EXPLICIT_LITTLE, NOTHING)
    start, end = header(SEQUENCE, b"SQ", UNDEFINED), mark(0xE0DD, 0)
    assert peak_of([start, *([empty] * 4), end], scanner) < 64 << 10
    scanner.finish()


@pytest.mark.parametrize("inner", ["pixels", "zeros"])
def test_a_deflate_bomb_takes_little_memory(inner: str) -> None:
    """However much it inflates to is passed over; how long that may take at once is the
    business of whoever feeds it."""
    length = 512 << 20
    deflater = zlib.compressobj(9, wbits=-15)
    parts = [deflater.compress(header(PIXELS, b"OW", length) if inner == "pixels" else b"")]
    count = 512 if inner == "pixels" else 2
    parts += [deflater.compress(bytes(1 << 20)) for _ in range(count)]
    bomb = b"".join([*parts, deflater.flush()])
    assert len(bomb) < 600 << 10
    for size in (len(bomb), 16 << 10):
        scanner = ElementScanner(DEFLATED_LITTLE, NOTHING)
        assert peak_of(pieces(bomb, size), scanner) < 3 << 20
        scanner.finish()
        assert scanner.position == (count << 20) + (12 if inner == "pixels" else 0)


def test_a_deflated_data_set_must_end() -> None:
    data = write_data_set(PLAIN, DEFLATED_LITTLE)
    assert len(data) % 2 == 0
    for size in (1, 100):
        assert scan(data, DEFLATED_LITTLE, frozenset({0x00080060}), size=size).values == {
            0x00080060: b"CT"
        }
    for length in range(len(data) - 2):
        with pytest.raises(DataSetError):
            scan(data[:length], DEFLATED_LITTLE)
    # A gzip trailer, and NULs.
    for size in (1, 1 << 20):
        scan(data + b"trailers!" + bytes(100_000), DEFLATED_LITTLE, size=size)
        with pytest.raises(DataSetError, match="behind the end"):
            scan(data + bytes(5) + b"ten bytes!", DEFLATED_LITTLE, size=size)
    with pytest.raises(DataSetError, match="not a deflated"):
        scan(b"\xff" * 10, DEFLATED_LITTLE)


# --- what may stand where ---------------------------------------------------------------------


STEP = write_data_set([(0x00400009, "SH", b"STEP")], EXPLICIT_LITTLE)
CODE = write_data_set([(0x00080100, "SH", b"CODE")], EXPLICIT_LITTLE)
OPEN_ITEM = mark(0xE000, UNDEFINED)
OPEN = header(SEQUENCE, b"SQ", UNDEFINED)
CODED = {0x00080100: b"CODE"}


@pytest.mark.parametrize("element", [0xE00D, 0xE0DD])
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE])
@pytest.mark.parametrize("length", [0, 4, UNDEFINED])
def test_delimiters_outside_of_a_sequence(element: int, encoding: Encoding, length: int) -> None:
    sign = ">" if encoding.big_endian else "<"
    step = write_data_set([(0x00400009, "SH", b"STEP")], encoding)
    data = write_data_set(PLAIN, encoding) + mark(element, length, sign) + step
    for size in (1, 1 << 20):
        scanner = scan(data, encoding, frozenset({0x00080060, 0x00400009}), size=size)
        assert scanner.values == {0x00080060: b"CT", 0x00400009: b"STEP"}
        assert len(scanner.forgiven) == 1


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE])
@pytest.mark.parametrize("undefined", [True, False])
def test_items_outside_of_a_sequence_are_passed_over(encoding: Encoding, undefined: bool) -> None:
    """Nothing within them is an attribute of the object."""
    sign = ">" if encoding.big_endian else "<"
    inner = write_data_set([(0x00080060, "CS", b"MR")], encoding)
    end = mark(0xE00D, 0, sign) if undefined else b""
    stray = mark(0xE000, UNDEFINED if undefined else len(inner), sign) + inner + end
    step = write_data_set([(0x00400009, "SH", b"STEP")], encoding)
    for tail in (b"", mark(0xE0DD, 0, sign)):
        data = write_data_set(PLAIN, encoding) + stray + stray + tail + step
        for size in (1, 1 << 20):
            scanner = scan(data, encoding, frozenset({0x00080060, 0x00400009}), size=size)
            assert scanner.values == {0x00080060: b"CT", 0x00400009: b"STEP"}


@pytest.mark.parametrize(
    ("data", "items", "forgiven"),
    [
        (OPEN + OPEN_ITEM + CODE + mark(0xE00D, 4) + mark(0xE0DD, 0), 1, "with a length"),
        (OPEN + OPEN_ITEM + CODE + mark(0xE00D, 0) + mark(0xE0DD, 4), 1, "with a length"),
        (OPEN + OPEN_ITEM + CODE + mark(0xE0DD, 0), 1, "an item without"),
        (OPEN + (OPEN_ITEM + CODE) * 2 + mark(0xE00D, 0) + mark(0xE0DD, 0), 2, "an item without"),
        (OPEN + item(CODE, undefined=False) + mark(0xE00D, 0) + mark(0xE0DD, 0), 1, "nothing ends"),
        (OPEN + item(CODE, undefined=False), 1, "a sequence without"),
        (OPEN + item(CODE, undefined=True), 1, "a sequence without"),
        # An item delimitation in the place of that of the sequence.
        (OPEN + item(CODE, undefined=False) + mark(0xE00D, 0), 1, "a sequence without"),
        (OPEN, 0, "a sequence without"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_what_stands_in_the_wrong_place_in_a_sequence(
    data: bytes, items: int, forgiven: str, size: int
) -> None:
    wanted = frozenset({SEQUENCE, 0x00400009})
    scanner = scan(data + STEP, EXPLICIT_LITTLE, wanted, size=size)
    assert scanner.values == {SEQUENCE: (CODED,) * items, 0x00400009: b"STEP"}
    assert any(what.startswith(forgiven) or forgiven in what for what in scanner.forgiven)
    assert scan(data + STEP, EXPLICIT_LITTLE, size=size).forgiven == scanner.forgiven
    # And at the end of the data set, where nothing comes behind it.
    assert scan(data, EXPLICIT_LITTLE, wanted, size=size).values == {SEQUENCE: (CODED,) * items}


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_delimiters_before_an_end_that_a_length_announces(size: int) -> None:
    """Those that Philips writes, in sequences and in items."""
    for content in (
        item(CODE, undefined=False) + mark(0xE0DD, 0),
        item(CODE, undefined=True) + mark(0xE0DD, 0),
        item(CODE + mark(0xE00D, 0), undefined=False),
        item(CODE, undefined=False) + mark(0xE00D, 0),
    ):
        data = header(SEQUENCE, b"SQ", len(content)) + content + STEP
        scanner = scan(data, EXPLICIT_LITTLE, frozenset({SEQUENCE, 0x00400009}), size=size)
        assert scanner.values == {SEQUENCE: (CODED,), 0x00400009: b"STEP"}
        assert not scanner.left_out


def test_elements_without_an_item_are_none() -> None:
    data = OPEN + write_data_set([(0x00080005, "CS", b"")], EXPLICIT_LITTLE)
    for wanted in (NOTHING, frozenset({SEQUENCE})):
        with pytest.raises(DataSetError, match="where none may be, in a sequence"):
            scan(data, EXPLICIT_LITTLE, wanted)


def test_items_of_undefined_length_in_what_is_no_sequence() -> None:
    """As GE writes sequences, with the VR OB."""
    content = item(CODE, undefined=True) + mark(0xE0DD, 0)
    for vr in (b"OB", b"OW", b"UT", b"OF"):
        data = header(SEQUENCE, vr, UNDEFINED) + content + STEP
        for size in (1, 1 << 20):
            scanner = scan(data, EXPLICIT_LITTLE, frozenset({0x00400009}), size=size)
            assert scanner.values == {0x00400009: b"STEP"}
            assert scanner.forgiven


@pytest.mark.parametrize("fill", [b"\0", b" ", b"\xff"])
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE])
def test_padding_behind_the_last_element_of_any_length(encoding: Encoding, fill: bytes) -> None:
    plain = write_data_set(PLAIN, encoding)
    for count in (1, 2, 3, 7, 8, 9, 11, 12, 13, 100, 100_001):
        for size in (1, 3, 1 << 20) if count < 1_000 else (1_000,):
            scanner = scan(plain + fill * count, encoding, frozenset({0x00080060}), size=size)
            assert scanner.values == {0x00080060: b"CT"}
    if fill != b"\0":
        # Where nothing came before it is no padding.
        with pytest.raises(DataSetError):
            scan(fill * 100, encoding)
        with pytest.raises(DataSetError, match="behind padding"):
            scan(plain + fill * 40 + b"x", encoding)


@pytest.mark.parametrize(
    ("odd", "vr"),
    [
        (b"??\x04\0abcd", None),
        (b"??\0\0", None),
        (b"  \x04\0abcd", None),
        (b"  \0\0", None),
        (b"\0\0\x04\0abcd", None),
        (b"\0\0\0\0", None),
        (b"A1\x04\0abcd", None),
        (b"lo\x04\0abcd", "LO"),
        (b"lo\0\0", "LO"),
        (b"Lo\x04\0abcd", "LO"),
        (b"un\x04\0abcd", "UN"),
        (b"UN\x04\0abcd", "UN"),
        (b"UN\x0c\0SOME^TEXT   ", "UN"),
        (b"UN  \x04\0\0\0abcd", "UN"),
        (b"OB  \x04\0\0\0abcd", "OB"),
        (b"ob\0\0\x04\0\0\0abcd", "OB"),
        (b"XX\x04\0abcd", "XX"),
        (b"XX\0\0\x04\0\0\0abcd", "XX"),
        (b"\x04\0\0\0abcd", None),
        (b"\x0a\0\x01\0" + bytes(0x1000A), None),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_what_stands_in_the_place_of_a_vr(odd: bytes, vr: str | None, size: int) -> None:
    """As DCMTK or pydicom read it, whichever reads it to the end."""
    data = write_data_set(PLAIN, EXPLICIT_LITTLE) + b"\x08\0\x30\x10" + odd + STEP
    wanted = frozenset({0x00081030, 0x00400009})
    if size > 1 or len(odd) < 1_000:
        scanner = scan(data, EXPLICIT_LITTLE, wanted, size=size)
        assert scanner.values[0x00400009] == b"STEP"
        assert scanner.vrs.get(0x00081030) == vr
        nested = OPEN + OPEN_ITEM + data + mark(0xE00D, 0) + mark(0xE0DD, 0) + STEP
        scanner = scan(nested, EXPLICIT_LITTLE, frozenset({SEQUENCE, 0x00400009}), size=size)
        assert isinstance(scanner.values[SEQUENCE], tuple)
        assert {0x00080060, 0x00081030, 0x00400009} <= set(scanner.values[SEQUENCE][0])
        assert scanner.values[0x00400009] == b"STEP"


def test_pixels_without_a_vr_are_no_vr_of_nuls() -> None:
    data = write_data_set(PLAIN, EXPLICIT_LITTLE) + struct.pack("<HHI", 0x7FE0, 0x10, 1 << 19)
    assert scan(data + bytes(1 << 19), EXPLICIT_LITTLE).position == len(data) + (1 << 19)
    with pytest.raises(DataSetError, match="within a value"):
        scan(data + bytes(1000), EXPLICIT_LITTLE)


@pytest.mark.parametrize("undefined", [True, False])
def test_a_fault_in_a_wanted_sequence_costs_the_sequence_and_says_where(undefined: bool) -> None:
    before = write_data_set(PLAIN, EXPLICIT_LITTLE)
    inner = header(0x00080001, b"OB", 100) + bytes(4)
    data = before + sequence(item(inner, undefined=False), undefined=undefined) + STEP
    for size in (1, 1000):
        scanner = scan(data, EXPLICIT_LITTLE, frozenset({SEQUENCE, 0x00400009}), size=size)
        assert scanner.values == {0x00400009: b"STEP"}
        fault = scanner.left_out[SEQUENCE]
        assert fault.fault == "in (0008,1140): (0008,0001) is longer than what holds it (PS3.5 7.5)"
        assert fault.offset == len(before) + 12 + 8 + 12


def test_messages_never_show_values() -> None:
    secret = b"SECRET^NAME"
    inner = write_data_set([(0x00100010, "PN", secret)], EXPLICIT_LITTLE)
    content = item(inner, undefined=False) + secret * 4
    data = header(SEQUENCE, b"SQ", len(content)) + content
    (fault,) = scan(data, EXPLICIT_LITTLE, frozenset({SEQUENCE})).left_out.values()
    assert "SECRET" not in str(fault)
    with pytest.raises(DataSetError) as caught:
        scan(header(SEQUENCE, b"SQ", UNDEFINED) + content, EXPLICIT_LITTLE)
    assert "SECRET" not in str(caught.value)


# --- as pydicom reads it, where it does ---------------------------------------------------------


def assert_as_pydicom(data: bytes, encoding: Encoding) -> bool:
    """Top-level elements and their bytes are what pydicom reads; whether it does."""
    try:
        theirs = read_dataset(BytesIO(data), encoding.implicit_vr, not encoding.big_endian)
        raws = {int(tag): theirs.get_item(tag) for tag in list(theirs.keys())}
    except Exception:
        return False
    plain = {tag: raw for tag, raw in raws.items() if not isinstance(raw, DataElement)}
    # A sequence of undefined length it has taken apart, and stray items are elements to it.
    plain = {tag: raw for tag, raw in plain.items() if raw.length != UNDEFINED and tag < 0xFFFE0000}
    scanner = scan(data, encoding, frozenset(plain))
    for tag, raw in plain.items():
        ours = scanner.values.get(tag)
        if isinstance(ours, bytes):
            assert ours == (raw.value or b""), hex(tag)
    return True


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_odd_data_sets_are_read_as_pydicom_reads_them(encoding: Encoding) -> None:
    step = write_data_set([(0x00400009, "SH", b"STEP")], encoding)
    code = write_data_set([(0x00080100, "SH", b"CODE")], encoding)
    length = struct.pack("<I", UNDEFINED)
    opened = (header(SEQUENCE, b"SQ", 0) if not encoding.implicit_vr else bytes(8))[:-4]
    opened = struct.pack("<HH", 8, 0x1140) + opened[4:] + length
    one = item(code, undefined=False)
    read = [
        assert_as_pydicom(write_data_set(PLAIN, encoding) + odd + step, encoding)
        for odd in (
            opened + OPEN_ITEM + code + mark(0xE00D, 4) + mark(0xE0DD, 0),
            opened + one + mark(0xE0DD, 4),
            opened + one + mark(0xE00D, 0) + mark(0xE0DD, 0),
            opened[:-4] + struct.pack("<I", len(one)) + one + one,
            opened[:-4] + struct.pack("<I", len(one)) + one + mark(0xE0DD, 0),
            opened[:-4] + struct.pack("<I", len(one) + 8) + one + mark(0xE0DD, 0),
            b"\x08\0\x30\x10XX\4\0abcd" if not encoding.implicit_vr else b"",
            b"\x08\0\x30\x10OB  \4\0\0\0abcd" if not encoding.implicit_vr else b"",
            b"\x08\0\x30\x10\4\0\0\0abcd",
        )
    ]
    assert sum(read) >= 7


@given(changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2))
def test_changed_bytes_are_read_as_pydicom_reads_them(changes: list[tuple[int, int]]) -> None:
    """Where both read it to the end, and no VR is in doubt."""
    data = bytearray(write_data_set(PLAIN, EXPLICIT_LITTLE) * 3)
    for position, value in changes:
        data[position % len(data)] = value
    scanner = ElementScanner(EXPLICIT_LITTLE, NOTHING)
    try:
        scanner.feed(data)
        scanner.finish()
    except DataSetError:
        return
    if not scanner.forgiven:
        assert_as_pydicom(bytes(data), EXPLICIT_LITTLE)
