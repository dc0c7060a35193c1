"""Invariant: frames are bytes of the data set, each once and in order, however it is read.

Input: a byte for the pieces that are read, one for the encoding and the number of frames, the data
set.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    FrameIndex,
    PixelDataMap,
    index_frames,
    map_of,
    map_pixel_data,
)

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE)
_WANTED: Final = frozenset({0x0028_0008, 0x0028_0010})
_LOCATED: Final = frozenset({0x0028_0004, 0x0028_2110, 0xFFFA_FFFA})


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    encoding = _ENCODINGS[data[1] % 4]
    body = data[2:]
    try:
        found = map_of(body, encoding, _WANTED, _LOCATED)
    except DataSetError as fault:
        check_fault(fault)
        return
    assert found == _in_pieces(body, data[0], data[1])
    assert not found.spans.keys() & found.gaps.keys()
    assert found.spans.keys() | found.gaps.keys() == _LOCATED
    number = (data[1] >> 2 & 15) or None
    try:
        index = index_frames(found, number_of_frames=number, frame_bits=1 + (data[1] >> 6) * 11)
    except DataSetError as fault:
        check_fault(fault)
        return
    _check(index, found, len(body))


def _in_pieces(body: bytes, least: int, choice: int) -> PixelDataMap:
    encoding = _ENCODINGS[choice % 4]
    mapping = map_pixel_data(encoding, len(body), _WANTED, _LOCATED)
    try:
        offset, length = next(mapping)
        while True:
            offset, length = mapping.send(body[offset : offset + max(length, least)])
    except StopIteration as done:
        found: PixelDataMap = done.value
        return found


def _check(index: FrameIndex, found: PixelDataMap, size: int) -> None:
    element = found.pixel_data
    assert element is not None
    assert 0 <= element.start < element.value <= element.end <= size
    assert all(text.isprintable() for text in (*index.forgiven, *found.forgiven))
    behind = element.value
    for frame in index[:1000]:
        assert 0 <= frame.skip_bits < 8
        for span in frame.spans:
            # Native frames of single bits may share a byte.
            assert span.offset >= behind - bool(frame.skip_bits)
            assert span.length >= 0
            behind = span.end
        assert behind <= element.end
