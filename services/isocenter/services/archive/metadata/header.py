"""Headers of stored objects: data sets without their pixels."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    Encoding,
    Inflater,
    PixelDataMap,
    map_pixel_data,
)
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.pixels.image import DESCRIBING

_WINDOW: Final = 64 << 10
#: Of a data set without Pixel Data, and of one that is deflated; what is larger has no metadata
#: here, since it would have to be held.
MOST_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A data set without its pixels.

    Attributes:
        data: what stands before Pixel Data and behind it; of a deflated data set, all that it
            inflates to.
        pixel_vr: of Pixel Data that was left out; empty: there is none.
        pixel_tag: likewise.
        found: the map that tells where they were, with what describes them.
    """

    data: bytes
    encoding: Encoding
    pixel_vr: str = ""
    pixel_tag: int = 0
    found: PixelDataMap | None = None


async def read_header(
    reader: ObjectReader, start: int, encoding: Encoding, most: int = MOST_BYTES
) -> Header:
    """All of a data set but its pixels.

    Args:
        start: where in the object it begins.

    Raises:
        DataSetLimitError: it has more than *most* bytes.
        DataSetError: it cannot be read.
    """
    size = reader.size - start
    if encoding.deflated:
        data = await _inflated(reader, start, size, most)
        return Header(data=data, encoding=EXPLICIT_LITTLE)
    try:
        found = await _map(reader, start, size, encoding)
    except DataSetError:
        found = PixelDataMap()  # as much of it as can be understood is written all the same
    pixels = found.pixel_data
    if pixels is None:
        _check(size, most)
        return Header(data=await reader.read(start, size), encoding=encoding)
    behind = size - pixels.end
    _check(pixels.start + behind, most)
    data = await reader.read(start, pixels.start)
    if behind > 0:
        data += await reader.read(start + pixels.end, behind)
    vr = pixels.vr or "OW"
    return Header(data=data, encoding=encoding, pixel_vr=vr, pixel_tag=pixels.tag, found=found)


async def _map(reader: ObjectReader, start: int, size: int, encoding: Encoding) -> PixelDataMap:
    mapping = map_pixel_data(encoding, size, DESCRIBING, frozenset())
    try:
        offset, length = next(mapping)
        while True:
            length = min(max(length, _WINDOW), size - offset)
            offset, length = mapping.send(await reader.read(start + offset, length))
    except StopIteration as done:
        found: PixelDataMap = done.value
        return found


async def _inflated(reader: ObjectReader, start: int, size: int, most: int) -> bytes:
    inflater = Inflater()
    found = bytearray()
    for offset in range(0, size, _WINDOW):
        for piece in inflater.feed(await reader.read(start + offset, min(_WINDOW, size - offset))):
            found += piece
            _check(len(found), most)
    inflater.finish()
    return bytes(found)


def _check(size: int, most: int) -> None:
    if size > most:
        raise DataSetLimitError(f"data sets of {most:,} bytes are written", 0, "held_header")
