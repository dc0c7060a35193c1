"""Attributes that change with the pixels of a transcoded object (PS3.3 C.7.6.3, C.7.6.1.1.5)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from typing import Final

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    write_data_set,
)
from isocenter.engine.dataset.pixel_data import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
)
from isocenter.engine.dataset.vr import SEQUENCE_DELIMITATION
from isocenter.engine.limits import Limits
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.frames import Image
from isocenter.services.dicom.pixels.image import (
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ImageDescription,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    PIXEL_SYNTAXES,
    Codec,
)

log = logging.getLogger("isocenter.transcoding")

_IMAGE_TYPE: Final = 0x00080008
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_DERIVATION_DESCRIPTION: Final = 0x00082111
_SOURCE_IMAGE_SEQUENCE: Final = 0x00082112
LOSSY: Final = 0x00282110
_LOSSY_RATIO: Final = 0x00282112
_LOSSY_METHOD: Final = 0x00282114
_ICON_IMAGE_SEQUENCE: Final = 0x00880200
DIGITAL_SIGNATURES: Final = 0xFFFAFFFA
MAC_PARAMETERS: Final = 0x4FFE0001
GROUP_LENGTHS: Final = (0x00080000, 0x00280000, 0x7FE00000, 0xFFFA0000)
OFFSET_TABLES: Final = (EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS)
WANTED: Final = frozenset(
    (
        _IMAGE_TYPE, _SOP_CLASS_UID, _SOP_INSTANCE_UID, _DERIVATION_DESCRIPTION,
        LOSSY, _LOSSY_RATIO, _LOSSY_METHOD,
    )
)  # fmt: skip
LOCATED: Final = WANTED | frozenset(
    (
        PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, _SOURCE_IMAGE_SEQUENCE,
        _ICON_IMAGE_SEQUENCE, DIGITAL_SIGNATURES, MAC_PARAMETERS, *GROUP_LENGTHS, *OFFSET_TABLES,
    )
)  # fmt: skip
#: A sequence that is looked into is held: icons have some 64 × 64 pixels.
_SEQUENCE_LIMITS: Final = Limits(identifier=4 << 20)
_MAX_ST: Final = 1024
#: Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1).
_METHODS: Final[Mapping[Codec, bytes]] = {
    Codec.JPEG: b"ISO_10918_1",
    Codec.JPEG_LS: b"ISO_14495_1",
    Codec.JPEG_2000: b"ISO_15444_1",
    Codec.HTJ2K: b"ISO_15444_15",
    Codec.JPEG_XL: b"ISO_18181_1",
}


def edited_element(tag: int, vr: str, value: bytes) -> bytes:
    """One element; its value gets the padding that it needs."""
    if len(value) & 1:
        value += b"\0" if vr == "UI" else b" "
    return write_data_set([(tag, vr, value)], EXPLICIT_LITTLE)


def edits_of_image(image: Image, description: ImageDescription) -> dict[int, bytes]:
    """Elements that say of the pixels what was otherwise before; as they are in the data set."""
    edits: dict[int, bytes] = {}
    before = image.description
    term = description.photometric_interpretation
    if term != before.photometric_interpretation:
        edits[PHOTOMETRIC_INTERPRETATION] = edited_element(
            PHOTOMETRIC_INTERPRETATION, "CS", term.encode()
        )
    if description.planar_configuration != before.planar_configuration:
        value = description.planar_configuration.to_bytes(2, "little")
        edits[PLANAR_CONFIGURATION] = edited_element(PLANAR_CONFIGURATION, "US", value)
    return edits


async def edits_of_derived(
    image: Image, source: DicomObject, *, target: str, sop_instance_uid: str, length: int
) -> dict[int, bytes]:
    """What says of an object that it was made of *source*, with losses.

    Args:
        target: its transfer syntax.
        length: of its first frame, in bytes.
    """
    values = image.found.values
    syntax = PIXEL_SYNTAXES[target]
    assert syntax.codec is not None

    def appended(tag: int, value: bytes) -> bytes:
        before = values.get(tag, b"").strip(b" \0")
        return before + b"\\" + value if before else value

    kinds = values.get(_IMAGE_TYPE, b"").strip(b" \0").split(b"\\")[1:] or [b"SECONDARY"]
    ratio = f"{image.description.frame_length / length:.4g}".encode()
    method = appended(_LOSSY_METHOD, _METHODS[syntax.codec])
    said = f"Lossy compression: {syntax.name}".encode()
    before = values.get(_DERIVATION_DESCRIPTION, b"").rstrip(b" \0")
    if before and len(before) + len(said) + 2 <= _MAX_ST:
        said = before + b"; " + said
    return {
        _IMAGE_TYPE: edited_element(_IMAGE_TYPE, "CS", b"\\".join((b"DERIVED", *kinds))),
        _SOP_INSTANCE_UID: edited_element(_SOP_INSTANCE_UID, "UI", sop_instance_uid.encode()),
        _DERIVATION_DESCRIPTION: edited_element(_DERIVATION_DESCRIPTION, "ST", said),
        _SOURCE_IMAGE_SEQUENCE: await _source_images(image, source),
        LOSSY: edited_element(LOSSY, "CS", b"01"),
        _LOSSY_RATIO: edited_element(_LOSSY_RATIO, "DS", appended(_LOSSY_RATIO, ratio)),
        _LOSSY_METHOD: edited_element(_LOSSY_METHOD, "CS", method),
    }


async def _source_images(image: Image, source: DicomObject) -> bytes:
    """Source Image Sequence with one more item: the object that this one is made of."""
    item = write_data_set(
        [
            (0x00081150, "UI", _even_uid(source.sop_class_uid)),
            (0x00081155, "UI", _even_uid(source.sop_instance_uid)),
        ],
        EXPLICIT_LITTLE,
    )
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    before = await _located(image, _SOURCE_IMAGE_SEQUENCE)
    if before[4:6] == b"SQ":
        delimitation = struct.pack("<HHI", SEQUENCE_DELIMITATION >> 16, 0xE0DD, 0)
        content = before[12:].removesuffix(delimitation) + content
    tag = _SOURCE_IMAGE_SEQUENCE
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(content)) + content


def _even_uid(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) & 1)


async def _located(image: Image, tag: int) -> bytes:
    """A located element with its header; empty where it is not there.

    Raises:
        ImageError: it is too long to be held.
    """
    span = image.found.spans.get(tag)
    if span is None:
        return b""
    if span.length > _SEQUENCE_LIMITS.identifier:
        raise ImageError(f"a sequence of {span.length} bytes that has to be looked into")
    return await image.read_bytes(span.offset, span.length)
