"""File Meta Information at the head of a data set: taken off in any encoding, in any pieces."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    StrayMetaFilter,
    write_data_set,
)

ENCODINGS = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
META = [
    (0x00020000, "UL", struct.pack("<I", 26)),
    (0x00020001, "OB", b"\0\1"),
    (0x00020010, "UI", b"1.2.840.10008.1.2.4.50"),
]
PLAIN = [(0x00080060, "CS", b"CT"), (0x00100010, "PN", b""), (0x7FE00010, "OW", bytes(100))]


def filtered(data: bytes, encoding: Encoding, size: int = 1 << 30) -> tuple[bytes, int]:
    """What goes on, inflated, and what was dropped."""
    stray = StrayMetaFilter(encoding)
    out = []
    for start in range(0, len(data), size):
        out += [bytes(buffer) for buffer in stray.feed(data[start : start + size])]
    whole = b"".join([*out, *map(bytes, stray.finish())])
    if encoding.deflated:
        assert len(whole) % 2 == 0 or not stray.dropped
        whole = zlib.decompress(whole, wbits=-15)
    return whole, stray.dropped


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def plain(encoding: Encoding) -> Encoding:
    return Encoding(encoding.implicit_vr, encoding.big_endian)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [1, 2, 3, 11, 12, 1 << 30])
def test_the_rest_goes_on_byte_for_byte(encoding: Encoding, size: int) -> None:
    inner = plain(encoding)
    rest = write_data_set(PLAIN, inner)
    meta = write_data_set(META, inner)
    little = write_data_set(META, EXPLICIT_LITTLE)
    for head in (b"", meta, little, meta + meta, little + meta):
        data = deflated(head + rest) if encoding.deflated else head + rest
        assert filtered(data, encoding, size) == (rest, len(head))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_behind_another_group_it_stays(encoding: Encoding) -> None:
    rest = write_data_set([(0x00010010, "LO", b"VENDOR"), *META, *PLAIN], plain(encoding))
    data = deflated(rest) if encoding.deflated else rest
    assert filtered(data, encoding) == (rest, 0)
    stray = StrayMetaFilter(encoding)
    assert b"".join(map(bytes, stray.feed(data))) == data
    assert stray.passes_all


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("tag", [0x00000002, 0x00041130])
@pytest.mark.parametrize("head", [[], META])
def test_command_and_directory_are_refused(
    encoding: Encoding, tag: int, head: list[tuple[int, str, bytes]]
) -> None:
    data = write_data_set(head, plain(encoding)) + write_data_set(
        [(tag, "UI", b"1.2"), *PLAIN], plain(encoding)
    )
    if encoding.deflated:
        data = deflated(data)
    for size in (1, 1 << 30):
        with pytest.raises(DataSetError, match=f"group {tag >> 16:04X} does not belong"):
            filtered(data, encoding, size)


def test_only_file_meta_information_is_dropped() -> None:
    for length in (65_536, 0xFFFFFFFF):
        data = struct.pack("<HH2sHI", 2, 0x102, b"OB", 0, length)
        with pytest.raises(DataSetError, match="group 0002 is longer than 65536 bytes"):
            StrayMetaFilter(EXPLICIT_LITTLE).feed(data)
    many = write_data_set([(0x00020102, "OB", bytes(60_000))], EXPLICIT_LITTLE) * 2
    with pytest.raises(DataSetError, match="group 0002 is longer"):
        StrayMetaFilter(EXPLICIT_LITTLE).feed(many)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_ends_within_it(encoding: Encoding) -> None:
    meta = write_data_set(META, plain(encoding))
    data = deflated(meta[:-3]) if encoding.deflated else meta[:-3]
    with pytest.raises(DataSetError, match="ends within group 0002"):
        filtered(data, encoding)
    if encoding.deflated:
        with pytest.raises(DataSetError, match="truncated"):
            filtered(deflated(meta + write_data_set(PLAIN, EXPLICIT_LITTLE))[:-6], encoding)
    # Too short to be seen here; whoever scans it sees that it is no data set.
    assert filtered(meta[:7], plain(encoding)) == (meta[:7], 0)


def test_a_deflate_stream_that_never_begins_is_not_held() -> None:
    stray = StrayMetaFilter(DEFLATED_LITTLE)
    empty_block = b"\0\0\0\xff\xff"
    for _ in range(800):
        assert stray.feed(empty_block) == []
    with pytest.raises(DataSetError, match="does not begin"):
        stray.feed(empty_block * 200)


@given(data=st.binary(max_size=80), size=st.integers(1, 20), meta=st.booleans())
def test_any_pieces_give_the_same(data: bytes, size: int, meta: bool) -> None:
    for encoding in ENCODINGS:
        head = write_data_set(META, plain(encoding)) if meta else b""
        whole = deflated(head + data) if encoding.deflated else head + data
        outcomes: list[object] = []
        for step in (size, 1 << 30):
            try:
                outcomes.append(filtered(whole, encoding, step))
            except DataSetError as error:
                outcomes.append(error.fault)
        assert outcomes[0] == outcomes[1]
