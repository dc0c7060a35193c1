"""File formats of pictures: JPEG, PNG, and GIF for several frames."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.services.dicom.pixels.rendering.options import GIF, PNG

Pixels = NDArray[Any]
_PNG_LEVEL: Final = 4
#: From this quality on colours are not halved.
_WHOLE_CHROMA: Final = 85
#: Data of one APP2 segment: its length, and what names it, left out.
_APP2_DATA: Final = 65_519
_PNG_HEADER_LENGTH: Final = 33
#: Colours of an animation: so many levels of red, green and blue.
_LEVELS: Final = (6, 7, 6)
_GIF_HEADER_LENGTH: Final = 13
_HUNDREDTHS: Final = 100
_LONGEST_DELAY: Final = 6000


def encode(pixels: Pixels, media_type: str, quality: int, profile: bytes = b"") -> bytes:
    """One picture: gray, or RGB."""
    import imagecodecs

    pixels = np.ascontiguousarray(pixels)
    if media_type == GIF:
        return animation([pixels], 0)
    if media_type == PNG:
        return with_png_profile(bytes(imagecodecs.png_encode(pixels, level=_PNG_LEVEL)), profile)
    sampling = "444" if quality >= _WHOLE_CHROMA else "420"
    encoded = imagecodecs.jpeg8_encode(
        pixels, level=quality, subsampling=sampling if pixels.ndim == 3 else None
    )
    return with_jpeg_profile(bytes(encoded), profile)


def with_png_profile(png: bytes, profile: bytes) -> bytes:
    """A PNG with an iCCP chunk behind its header."""
    if not profile:
        return png
    data = b"ICC profile\0\0" + zlib.compress(profile)
    body = b"iCCP" + data
    chunk = struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_HEADER_LENGTH] + chunk + png[_PNG_HEADER_LENGTH:]


def with_jpeg_profile(jpeg: bytes, profile: bytes) -> bytes:
    """A JPEG with the profile in APP2 segments (ISO 15076-1 B.4), behind what begins it."""
    if not profile:
        return jpeg
    pieces = [profile[pos : pos + _APP2_DATA] for pos in range(0, len(profile), _APP2_DATA)]
    segments = b"".join(
        b"\xff\xe2"
        + struct.pack(">H", len(piece) + 16)
        + b"ICC_PROFILE\0"
        + bytes((number, len(pieces)))
        + piece
        for number, piece in enumerate(pieces, 1)
    )
    start = 2
    if jpeg[2:4] == b"\xff\xe0":
        start += 2 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:start] + segments + jpeg[start:]


def animation(frames: Sequence[Pixels], milliseconds: float) -> bytes:
    """A GIF that goes round; frames of one size."""
    height, width = frames[0].shape[:2]
    is_gray = all(frame.ndim == 2 for frame in frames)
    table = _grays() if is_gray else _colours()
    delay = min(max(round(milliseconds * _HUNDREDTHS / 1000), 2), _LONGEST_DELAY)
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), table]
    if len(frames) > 1:
        parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
    for frame in frames:
        parts.append(b"\x21\xf9\x04\x00" + struct.pack("<H", delay) + b"\0\0")
        parts.append(_gif_image(frame if is_gray else _indexed(frame)))
    return b"".join((*parts, b"\x3b"))


def _grays() -> bytes:
    return np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()


def _colours() -> bytes:
    red, green, blue = (np.rint(np.linspace(0, 255, count)) for count in _LEVELS)
    cube = np.stack(np.meshgrid(red, green, blue, indexing="ij"), axis=-1).reshape(-1, 3)
    table = np.zeros((256, 3), np.uint8)
    table[: len(cube)] = cube
    return table.tobytes()


def _indexed(frame: Pixels) -> Pixels:
    """Places in the table of colours, dithered in squares of four by four."""
    colours = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
    order = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    rows, columns = frame.shape[:2]
    pattern = np.tile((order + 0.5) / 16, (rows // 4 + 1, columns // 4 + 1))[:rows, :columns]
    place = np.zeros((rows, columns), np.int64)
    for channel, levels in enumerate(_LEVELS):
        scaled = colours[..., channel] * ((levels - 1) / 255)
        place = place * levels + np.floor(scaled + pattern).clip(0, levels - 1).astype(np.int64)
    return place.astype(np.uint8)


def _gif_image(frame: Pixels) -> bytes:
    """The image block of a GIF of that frame alone: its descriptor and data."""
    import imagecodecs

    whole = bytes(imagecodecs.gif_encode(np.ascontiguousarray(frame)))
    flags = whole[10]
    pos = _GIF_HEADER_LENGTH + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while whole[pos] == 0x21:
        pos = _behind_blocks(whole, pos + 2)
    descriptor = bytearray(whole[pos : pos + 10])
    data = pos + 10
    if descriptor[9] & 0x80:
        # A table of its own: the same as ours, or of no use.
        data += 3 << (descriptor[9] & 7) + 1
        descriptor[9] = 0
    # The size of codes stands before the blocks.
    return bytes(descriptor) + whole[data : _behind_blocks(whole, data + 1)]


def _behind_blocks(data: bytes, pos: int) -> int:
    while data[pos]:
        pos += 1 + data[pos]
    return pos + 1
