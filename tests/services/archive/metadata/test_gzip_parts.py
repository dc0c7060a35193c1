"""Parts of gzip files, put together, as the standard library and gzip(1) read them."""

from __future__ import annotations

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.metadata.gzip_parts import (
    GzipPart,
    GzipPartWriter,
    gzip_file,
    joined_crc,
)


def part_of(*texts: bytes) -> GzipPart:
    writer = GzipPartWriter(6)
    for text in texts:
        writer.add(text)
    return writer.finish()


@given(st.lists(st.lists(st.binary(max_size=200)), max_size=5))
def test_what_is_joined_is_one_file(texts: list[list[bytes]]) -> None:
    parts = [GzipPart.of(b"[")]
    for some in texts:
        parts += [part_of(*some), GzipPart.of(b",")]
    packed = b"".join(gzip_file(parts))
    expected = b"[" + b"".join(b"".join(some) + b"," for some in texts)
    # One member: readers that stop after the first get all of it.
    inflater = zlib.decompressobj(wbits=31)
    assert inflater.decompress(packed) == expected
    assert inflater.eof
    assert not inflater.unused_data
    assert sum(part.length for part in parts) == len(expected)


@given(st.binary(), st.binary())
def test_crc_of_two_texts(first: bytes, second: bytes) -> None:
    found = joined_crc(zlib.crc32(first), zlib.crc32(second), len(second))
    assert found == zlib.crc32(first + second)


def test_a_long_part_is_given_back_in_pieces() -> None:
    text = b"".join(b"%d," % number for number in range(300_000))
    part = part_of(text[:1000], text[1000:])
    assert part.text() == text
    pieces = list(part.pieces())
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= 256 << 10
    assert gzip.decompress(b"".join(gzip_file([part]))) == text


def test_nothing_is_a_file_too() -> None:
    assert gzip.decompress(b"".join(gzip_file([]))) == b""
