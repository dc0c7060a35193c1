"""Pixel data and documents in media types of their own (PS3.18 8.7.3, 8.7.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, UNCOMPRESSED
from isocenter.services.dicom.creation.described import (
    Texts,
    describe_document,
    describe_picture,
    describe_video,
    has_many_frames,
    has_one_frame,
    image_type,
)
from isocenter.services.dicom.creation.documents import document_kind
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.jpeg_pictures import (
    is_jpeg,
    is_jpeg_2000,
    keep_jpeg,
    keep_jpeg_2000,
)
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.creation.raster_pictures import read_raster
from isocenter.services.dicom.creation.video import read_video
from isocenter.services.dicom.long_values import (
    FileRange,
    LongValue,
    fragments_of_frames,
    fragments_of_stream,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES, RLE_LOSSLESS

#: Bytes of one picture, and of all samples that are made of pictures: they are held.
MOST_HELD: Final = 256 << 20
#: Of a document, what says its kind.
_HEAD: Final = 1 << 20
#: Bytes of an object whose frames are compressed, without their streams: nothing more is said.
OCTET_STREAM: Final = "application/octet-stream"
_PICTURES: Final = frozenset(
    ("image/jpeg", "image/jls", "image/jp2", "image/jpx", "image/jphc", "image/png", "image/gif")
)
#: Frames whose streams are not looked into → transfer syntax where the part says none.
_FRAMES: Final = {"image/dicom-rle": RLE_LOSSLESS, "image/jxl": ""}
_VIDEO: Final = frozenset(("video/mp4", "video/mpeg", "video/mpeg2", "video/h265"))
#: Media type → MIME type of the document, and what ends the name of its file.
_DOCUMENTS: Final = {
    "application/pdf": ("application/pdf", ".pdf"),
    "text/xml": ("text/XML", ".xml"),
    "application/xml": ("text/XML", ".xml"),
    "application/hl7-cda+xml": ("text/XML", ".xml"),
    "model/stl": ("model/stl", ".stl"),
    "application/sla": ("model/stl", ".stl"),
    "model/obj": ("model/obj", ".obj"),
    "model/mtl": ("model/mtl", ".mtl"),
}
PIXEL_MEDIA_TYPES: Final = (OCTET_STREAM, *sorted(_PICTURES), *_FRAMES, *sorted(_VIDEO))
DOCUMENT_MEDIA_TYPES: Final = (OCTET_STREAM, *_DOCUMENTS)


class PayloadTypeError(IsocenterError):
    """A media type, or a transfer syntax, that is not taken."""

    error_code = ErrorCode.DOCUMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPart:
    """A value as it came.

    Attributes:
        transfer_syntax_uid: what was said of it; empty: nothing.
    """

    media_type: str
    transfer_syntax_uid: str
    value: FileRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What an object is made of beside its metadata.

    Attributes:
        transfer_syntax_uid: of the object.
        facts: attributes that the bytes decide, whatever else was said of them.
        usual: attributes for want of others.
        notes: what somebody should know.
    """

    value: bytes | LongValue
    vr: str
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN
    facts: Texts = field(default_factory=dict)
    usual: Texts = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def pixel_payload(
    parts: Sequence[BulkPart], *, sop_class_uid: str, transfer_syntax_uid: str, frames: int
) -> Payload:
    """Pixel Data of parts: each is a frame, or the only one is all of them.

    Args:
        transfer_syntax_uid: of parts that say none; empty: as their media type has it.
        frames: how many there should be, as far as that is known; 0: it is not.

    Raises:
        PayloadTypeError: of a media type or transfer syntax that is not taken.
        SourceError, PixelError: it is damaged, or cannot be such an object.
        OSError: it cannot be read.
    """
    kinds = {(part.media_type, part.transfer_syntax_uid) for part in parts}
    if len(kinds) > 1:
        raise SourceError("frames of one object have one media type and transfer syntax")
    ((media_type, said),) = kinds
    if media_type in _PICTURES:
        return _of_pictures([part.value for part in parts], sop_class_uid)
    if media_type in _VIDEO:
        return _of_video(parts)
    if media_type == OCTET_STREAM or media_type in _FRAMES:
        syntax = said or _FRAMES.get(media_type) or transfer_syntax_uid
        return _of_octets([part.value for part in parts], syntax, frames)
    raise PayloadTypeError(
        f"pixels as {media_type} are not taken; there are {', '.join(PIXEL_MEDIA_TYPES)}"
    )


def _of_octets(values: Sequence[FileRange], syntax: str, frames: int) -> Payload:
    if not syntax or syntax in UNCOMPRESSED:
        if syntax == EXPLICIT_VR_BIG_ENDIAN:
            raise PayloadTypeError("bulk data in big endian is not for the web (PS3.18 8.7.3)")
        return Payload(value=_joined(values), vr="")
    known = PIXEL_SYNTAXES.get(syntax)
    if known is None:
        raise PayloadTypeError(f"{syntax} is no transfer syntax of pixels that is known here")
    if len(values) == 1 and _is_made_of_items(values[0]):
        return Payload(value=values[0], vr="OB", transfer_syntax_uid=syntax)
    if known.is_video:
        return Payload(
            value=fragments_of_stream(_joined(values)), vr="OB", transfer_syntax_uid=syntax
        )
    if frames not in (0, len(values)):
        raise SourceError(f"has {frames} frames, and {len(values)} of them came")
    return Payload(value=fragments_of_frames(values), vr="OB", transfer_syntax_uid=syntax)


def _is_made_of_items(value: FileRange) -> bool:
    return value.read(0, 4) == b"\xfe\xff\x00\xe0"


def _joined(values: Sequence[FileRange]) -> FileRange:
    """Values that came one after the other as one."""
    first = values[0]
    end = first.offset
    for value in values:
        if value.offset != end:
            raise SourceError("frames of one object come one after the other")
        end += value.length
    return FileRange(first.file, first.offset, end - first.offset)


def _of_pictures(values: Sequence[FileRange], sop_class_uid: str) -> Payload:
    """Pictures of one kind; compressed ones keep their bytes."""
    first: Picture | None = None
    stored: list[bytes | FileRange] = []
    held = 0
    for value in values:
        if value.length > MOST_HELD:
            raise SourceError(f"is a picture of more than {MOST_HELD >> 20} MiB")
        data = b"".join(value.pieces())
        picture = _picture(data)
        if first is None:
            first = picture
        elif (picture.image, picture.transfer_syntax_uid) != (
            first.image, first.transfer_syntax_uid,
        ):  # fmt: skip
            raise SourceError("has frames of different sizes or kinds; they are alike in an object")
        if not picture.is_native and len(picture.frames[0]) == value.length:
            stored.append(value)
        else:
            stored += picture.frames
            held += sum(map(len, picture.frames))
        if held > MOST_HELD:
            raise SourceError(f"has frames of more than {MOST_HELD >> 20} MiB when decoded")
    assert first is not None
    image = first.image
    count = len(stored)
    if count > 1 and has_one_frame(sop_class_uid):
        raise SourceError(f"has {count} frames, and its SOP class has one")
    described = describe_picture(first, sop_class_uid)
    described.pop("NumberOfFrames", None)
    facts = {name: described.pop(name) for name in ("Rows", "Columns", "SamplesPerPixel")}
    if image.samples_per_pixel == 3:
        facts["PhotometricInterpretation"] = described.pop("PhotometricInterpretation")
        facts["PlanarConfiguration"] = described.pop("PlanarConfiguration")
    if first.is_native:
        facts["BitsAllocated"] = described.pop("BitsAllocated")
    if count > 1 or has_many_frames(sop_class_uid):
        facts["NumberOfFrames"] = str(count)
    native = b"".join(one for one in stored if isinstance(one, bytes))
    return Payload(
        value=native if first.is_native else fragments_of_frames(stored),
        vr="OW" if first.is_native and image.bits_allocated > 8 else "OB",
        transfer_syntax_uid=first.transfer_syntax_uid,
        facts=facts,
        usual={"ImageType": image_type(first), **described},
        notes=tuple(first.notes),
    )


def _picture(data: bytes) -> Picture:
    """A picture by its content; the media type has only said that it is one."""
    if is_jpeg_2000(data):
        return keep_jpeg_2000(data)
    kept = keep_jpeg(data) if is_jpeg(data) else None
    return read_raster(data, most=MOST_HELD) if kept is None else kept


def _of_video(parts: Sequence[BulkPart]) -> Payload:
    if len(parts) != 1:
        raise SourceError("is video in several parts; a stream is one")
    (part,) = parts
    with part.value.opened() as file:
        video = read_video(file, part.value.length)
    described = describe_video(video, part.value.length)
    names = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames")
    facts = {name: described.pop(name) for name in names}
    return Payload(
        value=fragments_of_stream(part.value),
        vr="OB",
        transfer_syntax_uid=video.transfer_syntax_uid,
        facts=facts,
        usual={"ImageType": "DERIVED\\PRIMARY", **described},
    )


def document_payload(parts: Sequence[BulkPart], *, sop_class_uid: str) -> Payload:
    """An encapsulated document.

    Raises:
        PayloadTypeError: of a media type that is not taken.
        SourceError: it is not what it is said to be.
        OSError: it cannot be read.
    """
    if len(parts) != 1:
        raise SourceError("is a document in several parts")
    (part,) = parts
    if part.media_type == OCTET_STREAM:
        return Payload(value=part.value, vr="OB")
    if part.media_type not in _DOCUMENTS:
        raise PayloadTypeError(
            f"documents as {part.media_type} are not taken; there are "
            f"{', '.join(DOCUMENT_MEDIA_TYPES)}"
        )
    mime_type, suffix = _DOCUMENTS[part.media_type]
    head = part.value.read(0, _HEAD)
    document = document_kind(Path(f"document{suffix}"), head, part.value.length)
    if document is None or document.mime_type.lower() != mime_type.lower():
        raise SourceError(f"is not {part.media_type}, as its part says")
    if sop_class_uid != document.sop_class_uid:
        raise SourceError(f"is {part.media_type}, which SOP Class {document.sop_class_uid} has")
    described = describe_document(document, part.value.length)
    facts = {"EncapsulatedDocumentLength": described.pop("EncapsulatedDocumentLength")}
    usual = {"BurnedInAnnotation": "YES", **described}
    if not document.is_model:
        usual["ConversionType"] = "WSD"
    return Payload(value=part.value, vr="OB", facts=facts, usual=usual)
