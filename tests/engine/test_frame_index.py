"""The map of a data set around its Pixel Data, and its frames, against pydicom and by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import generate_frames

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    FrameIndex,
    PixelDataMap,
    Span,
    encoding_of,
    index_frames,
    map_of,
    map_pixel_data,
    pixel_data_mapper,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.dataset.frame_index import (
    SHIFTED_TABLE,
    WRONG_NUMBER_OF_FRAMES,
    WRONG_TABLE,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data"
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
JPEG = b"\xff\xd8\xff\xe0"
END = b"\xff\xd9"
DELIMITATION = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def offsets_of(fragments: Sequence[bytes], frames: Sequence[int]) -> bytes:
    """A Basic Offset Table that points at these of the fragments."""
    at = [sum(8 + len(each) for each in fragments[:index]) for index in frames]
    return struct.pack(f"<{len(at)}I", *at)


def encapsulated(
    *fragments: bytes, table: bytes = b"", end: bytes = DELIMITATION, head: bytes = b""
) -> bytes:
    header = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    return head + header + item(table) + b"".join(map(item, fragments)) + end


def frames_of(
    data_set: bytes, number: int | None, bits: int = 0
) -> tuple[list[bytes], FrameIndex, PixelDataMap]:
    found = map_of(data_set, EXPLICIT_LITTLE)
    index = index_frames(found, number_of_frames=number, frame_bits=bits)
    joined = [b"".join(data_set[s.offset : s.end] for s in frame.spans) for frame in index]
    return joined, index, found


A, B, C, D = (bytes([letter]) * 6 for letter in b"abcd")


def piecewise(data: bytes, least: int) -> tuple[PixelDataMap, int]:
    """The map, read in pieces of at least so many bytes; and how many were read."""
    mapping = map_pixel_data(EXPLICIT_LITTLE, len(data), frozenset((ROWS,)))
    read = 0
    piece = next(mapping)
    while True:
        offset, length = piece
        read += length
        try:
            piece = mapping.send(data[offset : offset + max(length, least)])
        except StopIteration as done:
            found: PixelDataMap = done.value
            return found, read


class TestOffsetTables:
    def test_an_empty_one_leaves_a_fragment_for_each_frame(self) -> None:
        frames, index, _ = frames_of(encapsulated(A, B, C), 3)
        assert frames == [A, B, C]
        assert index.forgiven == ()

    def test_one_frame_takes_all_fragments(self) -> None:
        assert frames_of(encapsulated(A, B, C), 1)[0] == [A + B + C]

    def test_without_a_number_of_frames_there_is_one(self) -> None:
        assert frames_of(encapsulated(A, B, C), None)[0] == [A + B + C]

    def test_the_basic_one_says_which_fragments_make_a_frame(self) -> None:
        fragments = (A, B, C, D)
        data = encapsulated(*fragments, table=offsets_of(fragments, (0, 1, 3)))
        frames, index, _ = frames_of(data, 3)
        assert frames == [A, B + C, D]
        assert index.forgiven == ()

    def test_one_that_points_between_fragments_is_not_believed(self) -> None:
        table = struct.pack("<3I", 0, 15, 28)
        frames, index, _ = frames_of(encapsulated(A, B, C, table=table), 3)
        assert frames == [A, B, C]
        assert WRONG_TABLE in index.forgiven

    def test_one_that_counts_from_elsewhere_is_understood(self) -> None:
        fragments = (A, B, C, D)
        shifted = struct.pack("<2I", 20, 20 + 2 * 14)
        frames, index, _ = frames_of(encapsulated(*fragments, table=shifted), 2)
        assert frames == [A + B, C + D]
        assert index.forgiven == (SHIFTED_TABLE,)

    def test_the_extended_one_says_lengths_without_padding(self) -> None:
        offsets, lengths = struct.pack("<2Q", 0, 14), struct.pack("<2Q", 5, 6)
        head = write_data_set(
            [(0x7FE00001, "OV", offsets), (0x7FE00002, "OV", lengths)], EXPLICIT_LITTLE
        )
        frames, index, _ = frames_of(encapsulated(A, B, head=head), 2)
        assert frames == [A[:5], B]
        assert index.forgiven == ()

    def test_lengths_that_are_none_are_left_alone(self) -> None:
        offsets, lengths = struct.pack("<2Q", 0, 14), struct.pack("<2Q", 0, 99)
        head = write_data_set(
            [(0x7FE00001, "OV", offsets), (0x7FE00002, "OV", lengths)], EXPLICIT_LITTLE
        )
        assert frames_of(encapsulated(A, B, head=head), 2)[0] == [A, B]


class TestMarks:
    def test_codestreams_tell_frames_apart_where_no_table_does(self) -> None:
        first, second = JPEG + A, JPEG + B
        frames, _, _ = frames_of(encapsulated(first, C, second, D), 2)
        assert frames == [first + C, second + D]

    def test_their_ends_do_where_the_beginnings_do_not(self) -> None:
        frames, _, _ = frames_of(encapsulated(A, B + END, C, D + END), 2)
        assert frames == [A + B + END, C + D + END]

    def test_rle_frames_are_known_by_their_header(self) -> None:
        header = struct.pack("<16I", 1, 64, *[0] * 14)
        frames, _, _ = frames_of(encapsulated(header + A, header + B), None)
        assert len(frames) == 2

    def test_a_number_of_frames_that_lies_does_not_join_images(self) -> None:
        frames, index, _ = frames_of(encapsulated(JPEG + A, JPEG + B), 1)
        assert frames == [JPEG + A, JPEG + B]
        assert index.forgiven == (WRONG_NUMBER_OF_FRAMES,)

    def test_fewer_frames_than_announced_are_those_that_are_there(self) -> None:
        frames, index, _ = frames_of(encapsulated(JPEG + A, JPEG + B), 5)
        assert len(frames) == 2
        assert index.forgiven == (WRONG_NUMBER_OF_FRAMES,)

    def test_what_cannot_be_told_apart_is_refused(self) -> None:
        with pytest.raises(DataSetError, match="3 fragments cannot be told apart into 2 frames"):
            frames_of(encapsulated(A, B, C), 2)

    def test_no_fragment_at_all(self) -> None:
        with pytest.raises(DataSetError, match="Pixel Data is empty"):
            frames_of(encapsulated(), 1)


class TestDamage:
    def test_no_delimitation_at_the_end(self) -> None:
        frames, _, found = frames_of(encapsulated(A, B, end=b""), 2)
        assert frames == [A, B]
        assert any("without its delimitation" in text for text in found.forgiven)

    def test_no_delimitation_before_the_next_element(self) -> None:
        rest = write_data_set([(0xFFFCFFFC, "OB", b"\0\0")], EXPLICIT_LITTLE)
        frames, _, found = frames_of(encapsulated(A, B, end=rest), 2)
        assert frames == [A, B]
        assert found.pixel_data is not None
        assert found.pixel_data.end == len(encapsulated(A, B, end=b""))

    def test_a_fragment_that_is_cut(self) -> None:
        data = encapsulated(A, B)[:-11]
        frames, _, found = frames_of(data, 2)
        assert frames == [A, B[:3]]
        assert any("shorter than announced" in text for text in found.forgiven)

    def test_an_odd_length_with_and_without_padding(self) -> None:
        odd = item(b"12345")
        rest = item(A) + DELIMITATION
        start = encapsulated(end=b"")
        for padding in (b"", b"\0"):
            frames, _, _ = frames_of(start + odd + padding + rest, 2)
            assert frames == [b"12345", A]

    def test_fragments_in_a_value_of_defined_length(self) -> None:
        value = item(b"") + item(A) + item(B) + DELIMITATION
        data = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, len(value)) + value
        frames, _, found = frames_of(data, 2)
        assert frames == [A, B]
        assert any("defined length" in text for text in found.forgiven)

    @pytest.mark.parametrize(
        ("data", "fault"),
        [
            (encapsulated(end=struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)), "undefined length"),
            (encapsulated(end=struct.pack("<HHI", 0x0010, 0x0010, 4)), "should be"),
            (struct.pack("<HH2sHI", 0x10, 0x10, b"UN", 0, 99), r"the value of \(0010,0010\)"),
            (b"\x10\0\x10\0", "an element header"),
        ],
    )
    def test_what_cannot_be_followed_is_refused(self, data: bytes, fault: str) -> None:
        with pytest.raises(DataSetError, match=fault):
            map_of(data, EXPLICIT_LITTLE)

    def test_more_fragments_than_anybody_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pixel_data_mapper, "MAX_FRAGMENTS", 2)
        with pytest.raises(DataSetLimitError, match="more than 2 fragments"):
            map_of(encapsulated(A, B, C), EXPLICIT_LITTLE)

    def test_no_pixel_data(self) -> None:
        found = map_of(write_data_set([(ROWS, "US", b"\1\0")], EXPLICIT_LITTLE), EXPLICIT_LITTLE)
        with pytest.raises(DataSetError, match="no Pixel Data"):
            index_frames(found, number_of_frames=1, frame_bits=8)


class TestNative:
    @staticmethod
    def native(value: bytes, announced: int | None = None) -> bytes:
        length = len(value) if announced is None else announced
        return struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, length) + value

    def test_frames_follow_each_other(self) -> None:
        assert frames_of(self.native(A + B), 2, 48)[0] == [A, B]

    def test_bits_are_packed_across_frames(self) -> None:
        _, index, _ = frames_of(self.native(bytes(4)), 3, 10)
        assert [(frame.spans, frame.skip_bits) for frame in index] == [
            ((Span(12, 2),), 0),
            ((Span(13, 2),), 2),
            ((Span(14, 2),), 4),
        ]

    def test_those_that_are_cut_off_are_not_there(self) -> None:
        frames, _, found = frames_of(self.native(A + B[:3], 12), 2, 48)
        assert frames == [A]
        assert any("shorter than announced" in text for text in found.forgiven)

    def test_indices_are_those_of_a_sequence(self) -> None:
        _, index, _ = frames_of(self.native(A + B + C), 3, 48)
        assert index[-1] == index[2]
        assert index[1:] == [index[1], index[2]]
        with pytest.raises(IndexError):
            index[3]


class TestTheMap:
    def test_places_and_gaps_of_what_is_looked_for(self) -> None:
        elements = [(0x00080018, "UI", b"1.2\0"), (ROWS, "US", b"\1\0")]
        start = write_data_set(elements, EXPLICIT_LITTLE)
        data = encapsulated(A, head=start)
        sought = frozenset((0x00080018, 0x00200010, ROWS, 0x00280011, 0xFFFAFFFA))
        found = map_of(data, EXPLICIT_LITTLE, wanted=frozenset((ROWS,)), located=sought)
        assert found.values == {ROWS: b"\1\0"}
        assert found.spans == {0x00080018: Span(0, 12), ROWS: Span(12, 10)}
        assert found.gaps == {0x00200010: 12, 0x00280011: 22, 0xFFFAFFFA: len(data)}

    def test_encapsulated_values_within_sequences_are_noticed(self) -> None:
        inner = encapsulated(A)
        head = (
            struct.pack("<HH2sHI", 0x0088, 0x0200, b"SQ", 0, 0xFFFFFFFF)
            + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
            + inner
            + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            + DELIMITATION
        )
        data = encapsulated(B, head=head)
        frames, _, found = frames_of(data, 1)
        assert frames == [B]
        assert found.encapsulating == {0x00880200: Span(0, len(head))}

    def test_in_sequences_of_defined_length_where_they_are_searched(self) -> None:
        inner = encapsulated(A)
        items = item(b"\x10\0\x10\0PN\0\0" + inner) + item(b"")
        outer = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, len(items)) + items
        harmless = write_data_set([(0x00400275, "SQ", [[(ROWS, "US", b"\1\0")]])], EXPLICIT_LITTLE)
        data = outer + encapsulated(B, head=harmless)
        assert not map_of(data, EXPLICIT_LITTLE).encapsulating
        found = map_of(data, EXPLICIT_LITTLE, search_sequences=True)
        assert found.encapsulating == {0x00091001: Span(0, len(outer))}

    @given(st.integers(1, 40), st.lists(st.binary(max_size=30), max_size=6))
    def test_small_pieces_show_the_same(self, window: int, fragments: list[bytes]) -> None:
        head = write_data_set([(ROWS, "US", b"\1\0")], EXPLICIT_LITTLE)
        data = encapsulated(*fragments, head=head)
        found, _ = piecewise(data, window)
        assert found == map_of(data, EXPLICIT_LITTLE, frozenset((ROWS,)))

    def test_long_values_are_not_read(self) -> None:
        _, read = piecewise(encapsulated(bytes(100_000), bytes(100_000)), 1)
        assert read < 200

    def test_a_data_set_that_became_shorter(self) -> None:
        mapping = map_pixel_data(EXPLICIT_LITTLE, 100)
        next(mapping)
        with pytest.raises(DataSetError, match="shorter than it was"):
            mapping.send(b"\x10\0")

    @pytest.mark.parametrize("encoding", [IMPLICIT_LITTLE, EXPLICIT_BIG])
    def test_other_encodings(self, encoding: object) -> None:
        assert encoding in (IMPLICIT_LITTLE, EXPLICIT_BIG)
        which = IMPLICIT_LITTLE if encoding is IMPLICIT_LITTLE else EXPLICIT_BIG
        data = write_data_set([(ROWS, "US", b"\1\0"), (0x7FE00010, "OW", A)], which)
        found = map_of(data, which, frozenset((ROWS,)))
        index = index_frames(found, number_of_frames=None, frame_bits=48)
        (span,) = index[0].spans
        assert data[span.offset : span.end] == A


def _images() -> list[Path]:
    found = []
    for path in sorted(DATA.rglob("*.dcm")):
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                found.append(path)
    return found


@pytest.mark.parametrize("path", _images(), ids=lambda path: path.name)
def test_pydicom_finds_the_same_frames(path: Path) -> None:
    content = path.read_bytes()
    meta = read_file_meta(content)
    encoding = encoding_of(meta.transfer_syntax_uid)
    if encoding.deflated:
        return
    body = content[meta.data_set_offset :]
    try:
        found = map_of(body, encoding, frozenset((NUMBER_OF_FRAMES,)))
    except DataSetError:
        assert "truncated" in path.name
        return
    dataset = pydicom.dcmread(BytesIO(content))
    element = found.pixel_data
    assert (element is not None) == bool(
        {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(dataset.dir())
    )
    if element is None or element.fragments is None:
        return
    number = int(found.values.get(NUMBER_OF_FRAMES, b"1").strip(b" \0"))
    index = index_frames(found, number_of_frames=number, frame_bits=8)
    ours = [b"".join(body[span.offset : span.end] for span in frame.spans) for frame in index]
    theirs = list(generate_frames(dataset.PixelData, number_of_frames=number))
    assert [each.rstrip(b"\0") for each in ours] == [each.rstrip(b"\0") for each in theirs]


def spans_of(index: FrameIndex) -> list[tuple[tuple[Span, ...], int]]:
    return [(frame.spans, frame.skip_bits) for frame in index]


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=3), min_size=1),
    st.booleans(),
)
def test_a_packed_index_is_the_same(frames: list[list[bytes]], has_table: bool) -> None:
    fragments = [JPEG + each for frame in frames for each in frame]
    starts = [sum(map(len, frames[:number])) for number in range(len(frames))]
    table = offsets_of(fragments, starts) if has_table else b""
    number = len(frames) if has_table else len(fragments)
    _, index, _ = frames_of(encapsulated(*fragments, table=table), number)
    again = FrameIndex.unpack(index.pack())
    assert spans_of(again) == spans_of(index)
    assert len(again) == number


@pytest.mark.parametrize(("bits", "number"), [(35, 3), (80, 2), (8, 1), (4000, 1)])
def test_a_packed_index_of_native_frames_is_the_same(bits: int, number: int) -> None:
    header = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 20)
    _, index, _ = frames_of(header + bytes(20), number, bits)
    packed = index.pack()
    assert spans_of(FrameIndex.unpack(packed)) == spans_of(index)
    assert len(packed) < 40


@pytest.mark.parametrize("change", ["cut", "longer", "nothing", "other"])
def test_what_is_no_packed_index(change: str) -> None:
    _, index, _ = frames_of(encapsulated(JPEG + A, JPEG + B), 2)
    packed = index.pack()
    wrong = {
        "cut": packed[:-3],
        "longer": index_frames(
            map_of(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0), EXPLICIT_LITTLE),
            number_of_frames=1,
            frame_bits=8,
        ).pack()
        + b"x",
        "nothing": b"",
        "other": packed[:24] + struct.pack("<I", 7) + packed[28:],
    }[change]
    with pytest.raises(ValueError, match="frame index"):
        FrameIndex.unpack(wrong)
