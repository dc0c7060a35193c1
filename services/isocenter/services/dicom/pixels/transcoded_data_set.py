"""Data set of a transcoded object: copied, edited and encoded while it is read."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    Reencoder,
    Survey,
)
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.pixels.frames import Image
from isocenter.services.dicom.pixels.image import (
    ImageDescription,
)

#: Bytes of 0 and 1 to digits.
_DIGITS: Final = bytes(48 + (byte != 0) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes of the source."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PixelsPlace:
    """The place of Pixel Data."""


Segment = Copy | PixelsPlace | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the data set is put together.

    Attributes:
        native: what Pixel Data holds natively, in bytes; None: fragments.
        vr: of Pixel Data.
        first: the first frame, as it will stand there.
        description: of all frames then.
    """

    segments: Sequence[Segment]
    native: int | None
    vr: str
    first: bytes
    description: ImageDescription


def segments_of(image: Image, edits: Mapping[int, bytes]) -> list[Segment]:
    """The data set in pieces: what is copied, what is put in, and where the pixels go."""
    found = image.found
    element = found.pixel_data
    assert element is not None
    #: Where, in the order of tags, up to where the source is left out, what stands there.
    changes: list[tuple[int, int, int, Segment]] = [
        (element.start, element.tag, element.end, PixelsPlace())
    ]
    for tag, data in edits.items():
        span = found.spans.get(tag) or found.encapsulating.get(tag)
        if span is not None:
            changes.append((span.offset, tag, span.end, data))
        elif data:
            at = found.gaps[tag]
            changes.append((at, tag, at, data))
    segments: list[Segment] = []
    position = 0
    for start, _, end, segment in sorted(changes, key=lambda change: change[:2]):
        if start > position:
            segments.append(Copy(position, start))
        segments.append(segment)
        position = max(position, end)
    if position < image.size:
        segments.append(Copy(position, image.size))
    return segments


async def encoded(
    image: Image, plan: Plan, frames: AsyncIterable[bytes], *, target: Encoding, part_length: int
) -> AsyncGenerator[Buffer, None]:
    """The data set in the encoding *target*.

    Args:
        frames: as they will stand there.
        part_length: of what is copied, bytes at once.
    """
    is_explicit = has_vrs(image)
    if target == EXPLICIT_LITTLE and is_explicit:
        async for piece in _explicit(image, plan, frames, part_length):
            yield piece
        return
    # A data set that is written in implicit VR, against its syntax, becomes a proper one first.
    stages = (
        [IMPLICIT_LITTLE, target] if target != IMPLICIT_LITTLE and not is_explicit else [target]
    )
    survey = Survey(EXPLICIT_LITTLE, stages[0], dictionary_vr_choice)
    if Survey.is_needed(EXPLICIT_LITTLE, stages[0]):
        await _survey(image, plan, survey, part_length)
    reencoders = [Reencoder(EXPLICIT_LITTLE, stages[0], dictionary_vr_choice, odd=survey.odd)]
    if len(stages) > 1:
        reencoders.append(Reencoder(IMPLICIT_LITTLE, target, dictionary_vr_choice))
    async for piece in _explicit(image, plan, frames, part_length):
        for passed in await trio.to_thread.run_sync(_reencode, reencoders, bytes(piece)):
            yield passed
    for number, reencoder in enumerate(reencoders):
        for last in reencoder.finish():
            for passed in _reencode(reencoders[number + 1 :], last):
                yield passed


def has_vrs(image: Image) -> bool:
    """Whether the data set is written in explicit VR."""
    element = image.found.pixel_data
    return element is not None and element.vr is not None


def _reencode(reencoders: Sequence[Reencoder], piece: Buffer) -> list[Buffer]:
    pieces: list[Buffer] = [piece]
    for reencoder in reencoders:
        pieces = [passed for each in pieces for passed in reencoder.feed(bytes(each))]
    return pieces


async def _survey(image: Image, plan: Plan, survey: Survey, part_length: int) -> None:
    """Let *survey* see everything but the pixels."""
    assert plan.native is not None
    for segment in plan.segments:
        if isinstance(segment, PixelsPlace):
            survey.feed(_native_header(image, plan))
            survey.pass_over(plan.native + (plan.native & 1))
            continue
        async for piece in _copied(image, segment, part_length):
            await trio.to_thread.run_sync(survey.feed, bytes(piece))
    survey.finish()


async def _explicit(
    image: Image, plan: Plan, frames: AsyncIterable[bytes], part_length: int
) -> AsyncGenerator[Buffer, None]:
    """The data set in explicit VR little endian."""
    for segment in plan.segments:
        if not isinstance(segment, PixelsPlace):
            source = _copied(image, segment, part_length)
        elif plan.native is None:
            source = _fragments(frames)
        else:
            source = _native(image, plan, frames, plan.native)
        async for piece in source:
            yield piece


async def _copied(
    image: Image, segment: Copy | bytes, part_length: int
) -> AsyncGenerator[Buffer, None]:
    if isinstance(segment, bytes):
        yield segment
        return
    for start in range(segment.start, segment.end, part_length):
        yield await image.read_bytes(start, min(part_length, segment.end - start))


def _native_header(image: Image, plan: Plan) -> bytes:
    assert plan.native is not None
    element = image.found.pixel_data
    assert element is not None
    length = plan.native + (plan.native & 1)
    return struct.pack("<HH2sHI", 0x7FE0, element.tag & 0xFFFF, plan.vr.encode(), 0, length)


async def _native(
    image: Image, plan: Plan, frames: AsyncIterable[bytes], length: int
) -> AsyncGenerator[Buffer, None]:
    yield _native_header(image, plan)
    if plan.description.bits_allocated == 1:
        joiner = _BitJoiner()
        async for frame in frames:
            yield joiner.feed(frame)
        yield joiner.finish()
    else:
        async for frame in frames:
            yield frame
    yield bytes(length & 1)


class _BitJoiner:
    """Packs bits, of which each comes as a byte, without gaps between frames (PS3.5 8.1.1)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, bits: bytes) -> bytes:
        bits = self._rest + bits
        whole = len(bits) & ~7
        self._rest = bits[whole:]
        return self._packed(bits[:whole])

    def finish(self) -> bytes:
        return self._packed(self._rest)

    @staticmethod
    def _packed(bits: bytes) -> bytes:
        if not bits:
            return b""
        # The first bit is the lowest.
        number = int(bits[::-1].translate(_DIGITS), 2)
        return number.to_bytes((len(bits) + 7) // 8, "little")


async def _fragments(
    frames: AsyncIterable[bytes],
) -> AsyncGenerator[Buffer, None]:
    """A fragment for each frame, behind an empty Basic Offset Table (PS3.5 A.4)."""
    yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    yield struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    async for frame in frames:
        padding = len(frame) & 1
        yield struct.pack("<HHI", 0xFFFE, 0xE000, len(frame) + padding)
        yield frame
        yield bytes(padding)
    yield struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
