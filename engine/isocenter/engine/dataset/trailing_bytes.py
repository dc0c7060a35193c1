"""Bytes behind a data set that are no part of it.

Files that were carved out of a disk, or passed through a mail gateway, end with what is not
theirs.  A reader that goes on there finds no element and gives the whole file up.  What is behind
the last element is told apart here from a data set that was cut or damaged, which has to be seen
as such: where elements go on later, or the pixels of an image are missing, nothing is said to be
behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import HEADER_LENGTH, LONG_HEADER_LENGTH, Codec, codec_of
from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.dataset.nesting import Nesting
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    LONG_VRS,
    PIXEL_DATA,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_SERIES: Final = 0x0020000E
_ROWS: Final = 0x00280010
#: Float, Double Float and native Pixel Data; Pixel Data Provider URL.
_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0))
_VRS: Final = SHORT_VRS | LONG_VRS
#: Groups of what may stand behind Pixel Data: private elements, signatures, padding.
_BEHIND_PIXELS: Final = frozenset((0x7FE1, 0xFFFA, 0xFFFC))
#: Bytes of a group.
_TAG_HALF: Final = 2
#: What ends texts: nobody's element.
_BLANKS: Final = b"\r\n\t \0\x1a"
#: So far behind the end it is looked whether elements go on, in bytes.
_LOOKED_AT: Final = 64 << 10
#: A creator of a private block is an LO (PS3.5 7.8.1).
_LONGEST_CREATOR: Final = 64


class _Header(NamedTuple):
    tag: int
    vr: str | None
    length: int
    value: int


def start_of_trailing_bytes(
    data: Buffer,
    encoding: Encoding,
    is_known: Callable[[int], bool],
    limits: Limits = DEFAULT_LIMITS,
    *,
    is_image: bool = False,
) -> int | None:
    """Where *data* ends as a data set, if more follows that is no part of it.

    Args:
        data: a data set that could not be read to its end, not deflated.
        is_known: whether the data dictionary has a tag.
        is_image: whether it is of a SOP class whose objects have pixels.

    Returns:
        None where it can be read to its end, or is cut or damaged.
    """
    return _Search(memoryview(data), codec_of(encoding), is_known, limits).end(is_image=is_image)


class _Search:
    def __init__(
        self, data: memoryview, codec: Codec, is_known: Callable[[int], bool], limits: Limits
    ) -> None:
        self._data = data
        self._codec = codec
        self._is_known = is_known
        self._limits = limits
        self._previous = -1
        #: Private blocks that have a creator, as their group and number.
        self._blocks: set[int] = set()

    def end(self, *, is_image: bool) -> int | None:
        size = len(self._data)
        pos = 0
        suspect: int | None = None
        met: set[int] = set()
        while pos < size:
            header = self._header(pos)
            after = None if header is None else self._end_of(header, pos)
            fits = after is not None and after <= size
            if header is not None and self._is_likely(header):
                if not fits:
                    return None  # it is cut
                suspect = None
                self._note(header)
                met.add(header.tag)
            elif suspect is None:
                suspect = pos
            if not fits or after is None:
                break
            pos = after
        else:
            return None
        has_all = _SERIES in met and (met & _PIXELS or not (is_image or _ROWS in met))
        if not suspect or not has_all or self._is_cut(suspect) or self._goes_on(suspect):
            return None
        return suspect

    def _is_cut(self, pos: int) -> bool:
        """Whether what begins at *pos* is so short that it may be the beginning of a header."""
        rest = bytes(self._data[pos : pos + LONG_HEADER_LENGTH])
        longest = HEADER_LENGTH if self._codec.implicit_vr else LONG_HEADER_LENGTH
        if len(rest) >= longest or not rest.strip(_BLANKS):
            return False
        if len(rest) < _TAG_HALF:
            return True
        group = int.from_bytes(rest[:_TAG_HALF], "big" if self._codec.big_endian else "little")
        previous = self._previous >> 16
        return group in _BEHIND_PIXELS or previous <= group <= PIXEL_DATA >> 16

    def _header(self, pos: int) -> _Header | None:
        codec, data = self._codec, self._data
        left = len(data) - pos
        if left < HEADER_LENGTH:
            return None
        raw, long_length = codec.item_header.unpack_from(data, pos)
        tag = codec.raw(raw)
        if codec.implicit_vr or raw in codec.delimiters:
            return _Header(tag, None, long_length, pos + HEADER_LENGTH)
        _, key, length = codec.explicit_header.unpack_from(data, pos)
        vr = codec.short_vrs.get(key)
        if vr is not None:
            return _Header(tag, vr, length, pos + HEADER_LENGTH)
        vr = codec.long_vrs.get(key)
        if vr is not None and not length:
            if left < LONG_HEADER_LENGTH:
                return None
            (length,) = codec.length.unpack_from(data, pos + HEADER_LENGTH)
            return _Header(tag, vr, length, pos + LONG_HEADER_LENGTH)
        odd = codec.odd_header(data, pos)
        if odd is None:
            return None
        vr, length, header_length = odd
        return _Header(tag, vr, length, pos + header_length)

    def _end_of(self, header: _Header, pos: int) -> int | None:
        """Where the element ends; None: it does not."""
        if header.length != UNDEFINED_LENGTH:
            return header.value + header.length
        nesting = Nesting(self._limits)
        try:
            nesting.open(header.tag, header.vr, self._codec, pos)
            after = nesting.follow(self._data, header.value, 0)
        except DataSetError:
            return None
        return None if nesting.opened else after

    def _is_likely(self, header: _Header) -> bool:
        """Whether this is an element, and no chance."""
        tag, vr = header.tag, header.vr
        if tag in DELIMITERS or not tag:
            return False
        if not self._codec.implicit_vr:
            return vr in _VRS and (self._is_known(tag) or tag > self._previous)
        if not tag >> 16 & 1:
            return self._is_known(tag) or (not tag & 0xFFFF and header.length == 4)
        number = tag & 0xFFFF
        if number <= 0xFF:
            return tag > self._previous and header.length <= _LONGEST_CREATOR
        return tag >> 16 << 8 | number >> 8 in self._blocks

    def _note(self, header: _Header) -> None:
        self._previous = max(self._previous, header.tag)
        if header.tag >> 16 & 1 and header.tag & 0xFFFF <= 0xFF:
            self._blocks.add(header.tag >> 16 << 8 | header.tag & 0xFF)

    def _goes_on(self, pos: int) -> bool:
        """Whether an element that comes behind the last one begins behind *pos*."""
        size = len(self._data)
        for at in range(pos + 1, min(size, pos + _LOOKED_AT) - HEADER_LENGTH + 1):
            raw, length = self._codec.item_header.unpack_from(self._data, at)
            tag = self._codec.raw(raw)
            if tag <= self._previous or not self._is_known(tag):
                continue
            if self._codec.implicit_vr:
                if not length & 1 and at + HEADER_LENGTH + length <= size:
                    return True
                continue
            _, key, _ = self._codec.explicit_header.unpack_from(self._data, at)
            if key in self._codec.short_vrs or key in self._codec.long_vrs:
                return True
        return False
