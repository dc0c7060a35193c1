"""Comparison of an object with what was made of it in another transfer syntax.

What may differ is named here once more, apart from what makes such objects
(`isocenter.services.dicom.pixels.transcoding`): a fault there is to be found, not repeated.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import zip_longest
from typing import Final

import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, encoding_of
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.pixel_data import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
)
from isocenter.engine.dataset.vr import EXPLICIT_BIG, Encoding
from isocenter.engine.dataset.walker import END, FRAGMENTS, ITEM, SEQUENCE, VALUE, walk
from isocenter.services.dicom.pixels.frames import Image, ImageObject, open_image
from isocenter.services.dicom.pixels.image import PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.scope import KnownSequences, Scope

#: What an encoding changes beside Pixel Data: how samples are arranged, where frames lie, and
#: lengths of groups in which something changed.
_ARRANGEMENT: Final = frozenset(
    (
        PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, EXTENDED_OFFSET_TABLE,
        EXTENDED_OFFSET_TABLE_LENGTHS, 0x00080000, 0x00280000, 0x7FE00000,
    )
)  # fmt: skip
_PIECE: Final = 1 << 20
#: What stands around the pixels, where it has to be held to be compared.
_MOST_HELD: Final = 256 << 20
#: What others depend on is no longer: private creators, a character set.
_MOST_NOTED: Final = 1024


async def find_difference(before: ImageObject, after: ImageObject, pool: CodecPool) -> str:
    """What makes *after* more than another encoding of *before*; empty: nothing.

    Every frame of both is decoded, and every sample compared; every other element, byte for byte.

    Raises:
        PixelError, DataSetError, StorageError, KeyError, OSError: one of them cannot be read.
    """
    async with (
        open_image(before, located=_ARRANGEMENT) as old,
        open_image(after, located=_ARRANGEMENT) as new,
    ):
        return await _other_elements(old, new) or await _other_pixels(old, new, pool)


async def _other_pixels(old: Image, new: Image, pool: CodecPool) -> str:
    if len(old) != len(new):
        return f"{len(new)} frames instead of {len(old)}"
    for number in range(len(old)):
        one, other = await old.decode(pool, number), await new.decode(pool, number)
        if one.samples != other.samples:
            return f"frame {number + 1} has other samples"
        if one.image != other.image:
            return f"frame {number + 1} is described otherwise"
    return ""


async def _other_elements(old: Image, new: Image) -> str:
    encodings = [_encoding_of(image) for image in (old, new)]
    if encodings[0] == encodings[1]:
        return await _other_bytes(old, new)
    if EXPLICIT_BIG in encodings:
        return "big endian values are not compared with others"
    held = [await _rest_of(image) for image in (old, new)]
    if None in held:
        return "what stands around the pixels is too long to be compared"
    values = await trio.to_thread.run_sync(
        lambda: [
            _values_of(rest, encoding)
            for rest, encoding in zip(held, encodings, strict=True)
            if rest is not None
        ]
    )
    for one, other in zip_longest(*values):
        if one != other and not _is_padded(one, other):
            (tag, *_) = one or other or (0,)
            return f"{tag_text(tag)} has another value"
    return ""


def _encoding_of(image: Image) -> Encoding:
    """Of the data set as it is read: inflated, and in implicit VR where it is so against its
    transfer syntax."""
    encoding = encoding_of(image.transfer_syntax_uid)
    return EXPLICIT_LITTLE if encoding.deflated else encoding


async def _other_bytes(old: Image, new: Image) -> str:
    """Compare all but the arrangement of the pixels, piece by piece."""
    position = 0
    held = [b"", b""]
    async with aclosing(_pieces(old)) as one, aclosing(_pieces(new)) as other:
        while True:
            for place, pieces in enumerate((one, other)):
                held[place] = held[place] or await anext(pieces, b"")
            length = min(map(len, held))
            if held[0][:length] != held[1][:length] or (not length and held[0] != held[1]):
                return f"other bytes than before, of those around the pixels near {position}"
            if not length:
                return ""
            position += length
            held = [each[length:] for each in held]


async def _pieces(image: Image) -> AsyncGenerator[bytes, None]:
    """All but the pixels and their arrangement; no piece is empty."""
    position = 0
    for start, end in [*_left_out(image), (image.size, image.size)]:
        while position < start:
            piece = await image.read_bytes(position, min(_PIECE, start - position))
            position += len(piece)
            yield piece
        position = max(position, end)


async def _rest_of(image: Image) -> bytes | None:
    length = image.size - sum(end - start for start, end in _left_out(image))
    if length > _MOST_HELD:
        return None
    return b"".join([piece async for piece in _pieces(image)])


def _left_out(image: Image) -> Sequence[tuple[int, int]]:
    element = image.found.pixel_data
    assert element is not None
    spans = [(span.offset, span.end) for span in image.found.spans.values()]
    return sorted([*spans, (element.start, element.end)])


_Value = tuple[int, int, bytes]


def _is_padded(one: _Value | None, other: _Value | None) -> bool:
    """Whether a value of odd length got the padding that it has to have (PS3.5 7.1.1)."""
    if one is None or other is None or one[:2] != other[:2]:
        return False
    return bool(len(one[2]) & 1) and other[2] in (one[2] + b"\0", one[2] + b" ")


def _values_of(data_set: bytes, encoding: Encoding) -> list[_Value]:
    """Every value in a data set, those in sequences as well, in their order: tag, what it is, and
    its bytes; a sequence has none."""
    values = []
    scopes = [Scope()]
    sequences = KnownSequences(scopes[0])
    for kind, tag, _, start, end, _ in walk(memoryview(data_set), encoding, sequences=sequences):
        value = b""
        match kind:
            case _ if kind in (VALUE, FRAGMENTS):
                value = data_set[start:end]
                if len(value) <= _MOST_NOTED:
                    scopes[-1].note(tag, value)
            case _ if kind in (SEQUENCE, ITEM):
                scopes.append(scopes[-1].inner())
            case _:
                scopes.pop()
        sequences.scope = scopes[-1]
        # The length of a group is that of its encoding.
        if kind != VALUE or tag & 0xFFFF:
            values.append((tag if kind != END else 0, kind, value))
    return values
