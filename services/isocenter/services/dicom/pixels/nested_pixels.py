"""Pixels within sequences: icons, and what vendors keep, in another transfer syntax.

A data set has one transfer syntax (PS3.5 A.4): where its frames are encoded anew, those in its
items have to follow, or stand there native.
"""

from __future__ import annotations

import logging
from typing import Final

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    Element,
    Fragments,
    Item,
    read_data_set,
    write_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import PIXEL_DATA
from isocenter.engine.limits import Limits
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import ImageError, PixelError
from isocenter.services.dicom.pixels.frames import Image
from isocenter.services.dicom.pixels.image import (
    DESCRIBING,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ImageDescription,
)
from isocenter.services.dicom.pixels.pool import CodecPool

log = logging.getLogger("isocenter.transcoding")

_ICON_IMAGE_SEQUENCE: Final = 0x00880200
#: A sequence with pixels is held: icons have some 64 × 64 of them.
_LIMITS: Final = Limits(identifier=32 << 20)


async def edits_of_nested(image: Image, source: DicomObject, pool: CodecPool) -> dict[int, bytes]:
    """Sequences with compressed pixels somewhere in them: tag → the element with native ones.

    An icon, or a private sequence, of which that cannot be made is left out (empty).

    Raises:
        ImageError: it cannot be made of another sequence.
    """
    edits: dict[int, bytes] = {}
    for tag, span in image.found.encapsulating.items():
        try:
            if span.length > _LIMITS.identifier:
                raise ImageError(f"{span.length} bytes, which are too many to be held")
            element = await image.read_bytes(span.offset, span.length)
            edits[tag] = await _with_native_pixels(element, source.transfer_syntax_uid, pool)
        except (PixelError, DataSetError, ValueError) as error:
            if tag != _ICON_IMAGE_SEQUENCE and not tag >> 16 & 1:
                raise ImageError(f"compressed pixels within {tag_text(tag)}: {error}") from error
            log.info(
                "instance %s: %s was left out, since its pixels cannot be decoded: %s",
                source.sop_instance_uid,
                tag_text(tag),
                error,
            )
            edits[tag] = b""
    return edits


async def _with_native_pixels(element: bytes, transfer_syntax_uid: str, pool: CodecPool) -> bytes:
    data_set = read_data_set(element, EXPLICIT_LITTLE, _LIMITS)
    return write_data_set(
        (await _native(data_set, transfer_syntax_uid, pool)).values(), EXPLICIT_LITTLE
    )


async def _native(item: Item, transfer_syntax_uid: str, pool: CodecPool) -> Item:
    made: Item = {}
    decoded: Item = {}
    for tag, element in item.items():
        made[tag] = element
        match element.value:
            case Fragments():
                if tag != PIXEL_DATA:
                    raise ImageError(f"fragments in {tag_text(tag)}")
                decoded = await _decoded(item, element.value, transfer_syntax_uid, pool)
            case tuple():
                items = [
                    await _native(each, transfer_syntax_uid, pool)
                    for each in element.value
                    if isinstance(each, dict)
                ]
                made[tag] = Element(tag, "SQ", tuple(items))
    # In the order of tags: what describes the pixels was there before.
    return {tag: decoded.get(tag, element) for tag, element in made.items()}


async def _decoded(
    item: Item, fragments: Fragments, transfer_syntax_uid: str, pool: CodecPool
) -> Item:
    """What changes of an item whose pixels become native."""
    values = {
        tag: element.value
        for tag in DESCRIBING
        if (element := item.get(tag)) is not None and isinstance(element.value, bytes)
    }
    image = ImageDescription.from_values(values, pixel_data=PIXEL_DATA)
    if image.bits_allocated == 1:
        raise ImageError("single bits")
    count = image.number_of_frames or 1
    frames = list(fragments[1:]) if count > 1 else [b"".join(fragments[1:])]
    if len(frames) != count:
        raise ImageError(f"{len(frames)} fragments for {count} frames")
    samples = []
    now = image
    for frame in frames:
        decoded = await pool.decode(frame, image, transfer_syntax_uid)
        samples.append(decoded.samples)
        now = decoded.image
    whole = b"".join(samples)
    made: Item = {
        PIXEL_DATA: Element(
            PIXEL_DATA, "OW" if now.bits_allocated > 8 else "OB", whole + bytes(len(whole) & 1)
        )
    }
    if now.photometric_interpretation != image.photometric_interpretation:
        term = now.photometric_interpretation.encode()
        made[PHOTOMETRIC_INTERPRETATION] = Element(
            PHOTOMETRIC_INTERPRETATION, "CS", term + b" " * (len(term) & 1)
        )
    if now.planar_configuration != image.planar_configuration:
        made[PLANAR_CONFIGURATION] = Element(
            PLANAR_CONFIGURATION, "US", now.planar_configuration.to_bytes(2, "little")
        )
    return made
