"""Objects made of pictures, documents and video: Secondary Capture, Visible Light, encapsulated.

An object is a DICOM JSON model (PS3.18 F.2) with what its IOD needs (types 1 and 2), laid over what
somebody gives: a patient, a study or a series of another file, and attributes of one's own.
"""

from __future__ import annotations

import secrets
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLEMENTATION_VERSION_NAME
from isocenter.services.dicom.creation.documents import Document
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.creation.video import Video
from isocenter.services.dicom.data_set import put_in_model
from isocenter.services.dicom.model_file import write_model_file
from isocenter.services.dicom.model_reader import FileRange, ModelElement, read_model

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_PIXEL_DATA: Final = 0x7FE00010
_DOCUMENT: Final = 0x00420011
_META_SYNTAX: Final = "00020010"
_ITEM: Final = struct.Struct("<HHI")
#: Of an encapsulated stream, how much is in one fragment.
_FRAGMENT: Final = 1 << 30
_PIECE: Final = 1 << 20

#: JSON model → value; what a file or a user gives.
Model = dict[str, Any]


class Target(Enum):
    """The SOP classes that pictures become."""

    SECONDARY_CAPTURE = "sc"
    #: The multi-frame ones, also for one frame.
    NEW_SECONDARY_CAPTURE = "new-sc"
    VL_PHOTO = "vl-photo"
    VL_ENDOSCOPIC = "vl-endoscopic"
    VL_MICROSCOPIC = "vl-microscopic"

    @property
    def is_visible_light(self) -> bool:
        return self in _VISIBLE_LIGHT


#: Picture, video, modality.
_VISIBLE_LIGHT: Final = {
    Target.VL_PHOTO: ("77.1.4", "77.1.4.1", "XC"),
    Target.VL_ENDOSCOPIC: ("77.1.1", "77.1.1.1", "ES"),
    Target.VL_MICROSCOPIC: ("77.1.2", "77.1.2.1", "GM"),
}


def new_uid() -> str:
    """A UID of its own (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


@dataclass(slots=True, kw_only=True)
class Identity:
    """Whose object it is, and of which study and series.

    Attributes:
        given: attributes of patient, study and series that are to stand in it: keyword or path →
            text; ``\\`` parts values.
        source: a model of another file, with attributes of its patient, study, series or more.
        keys: attributes that win over all others.
        at: when it is made.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    source: Model = field(default_factory=dict)
    keys: tuple[tuple[str, str], ...] = ()
    at: datetime = field(default_factory=lambda: datetime.now().astimezone())
    study_instance_uid: str = field(default_factory=new_uid)
    series_instance_uid: str = field(default_factory=new_uid)
    patient_id: str = field(default_factory=lambda: f"ISO{secrets.token_hex(4).upper()}")


#: Free text is not parted at backslashes.
_FREE_TEXT: Final = frozenset({"LT", "ST", "UT", "UR"})


def _base(identity: Identity, sop_class: str, modality: str, number: int) -> Model:
    """What every object has: patient, study, series, equipment, SOP common (PS3.3 C.7, C.12)."""
    date, time = identity.at.strftime("%Y%m%d"), identity.at.strftime("%H%M%S")
    defaults = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": new_uid(),
        "InstanceCreationDate": date,
        "InstanceCreationTime": time,
        "PatientName": "ANONYMOUS",
        "PatientID": identity.patient_id,
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": identity.study_instance_uid,
        "StudyDate": date,
        "StudyTime": time,
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "Modality": modality,
        "SeriesInstanceUID": identity.series_instance_uid,
        "SeriesNumber": "1",
        "InstanceNumber": str(number),
        "Manufacturer": "",
    }
    model: Model = {}
    _put(model, defaults)
    _put(model, identity.given)
    model.update(identity.source)
    # Of the source these are another object's.
    _put(model, {name: defaults[name] for name in ("SOPClassUID", "SOPInstanceUID")})
    _put(model, {"InstanceNumber": str(number)})
    return model


def _put(model: Model, values: Mapping[str, str]) -> None:
    for name, text in values.items():
        put_in_model(model, name, *([text] if text else []))


def _finish(model: Model, identity: Identity, also: Mapping[str, str]) -> Model:
    """Attributes of the kind of object, and then those that somebody wants in any case."""
    for name, text in also.items():
        put_in_model(model, name, *(text.split("\\") if text else []))
    for name, text in identity.keys:
        put_in_model(model, name, *_values(name, text))
    return model


def _values(name: str, text: str) -> list[str]:
    if not text:
        return []
    probe: Model = {}
    put_in_model(probe, name, text)
    while (vr := next(iter(probe.values())).get("vr")) == "SQ":
        probe = next(iter(probe.values()))["Value"][-1]
    return [text] if vr in _FREE_TEXT else text.split("\\")


# -- Pictures ----------------------------------------------------------------------------


def write_picture(
    picture: Picture,
    identity: Identity,
    target: IO[bytes],
    *,
    kind: Target = Target.SECONDARY_CAPTURE,
    number: int = 1,
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
) -> None:
    """Write an image.

    Args:
        number: Instance Number.
        transfer_syntax_uid: of native frames.

    Raises:
        SourceError: *kind* has no such images.
        ModelError: an attribute makes no sense.
        DataSetError, LocalProtocolError, OSError: it cannot be written.
    """
    image = picture.image
    sop_class = _sop_class_of(picture, kind)
    modality = _VISIBLE_LIGHT[kind][2] if kind in _VISIBLE_LIGHT else "OT"
    model = _base(identity, sop_class, modality, number)
    date, time = identity.at.strftime("%Y%m%d"), identity.at.strftime("%H%M%S")
    also = {
        "ImageType": "DERIVED\\SECONDARY" if picture.lossy_method else "ORIGINAL\\PRIMARY",
        "ContentDate": date,
        "ContentTime": time,
        "PatientOrientation": "",
        "SamplesPerPixel": str(image.samples_per_pixel),
        "PhotometricInterpretation": image.photometric_interpretation,
        "Rows": str(image.rows),
        "Columns": str(image.columns),
        "BitsAllocated": str(image.bits_allocated),
        "BitsStored": str(image.bits_stored),
        "HighBit": str(image.high_bit),
        "PixelRepresentation": str(image.pixel_representation),
        "BurnedInAnnotation": "YES",
    }
    if image.samples_per_pixel > 1:
        also["PlanarConfiguration"] = "0"
    if picture.lossy_method:
        also |= {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": f"{max(picture.ratio, 1):.4g}",
            "LossyImageCompressionMethod": picture.lossy_method,
        }
    elif kind.is_visible_light:
        also["LossyImageCompression"] = "00"
    if kind.is_visible_light:
        model["00400555"] = {"vr": "SQ"}  # Acquisition Context, type 2
    else:
        also |= {"ConversionType": "WSD", "DateOfSecondaryCapture": date}
        also["TimeOfSecondaryCapture"] = time
    if sop_class != f"{_STORAGE}7" and not kind.is_visible_light:
        also |= _multi_frame(picture, model)
    _finish(model, identity, also)
    is_native = picture.is_native
    model[_META_SYNTAX] = {
        "vr": "UI",
        "Value": [transfer_syntax_uid if is_native else picture.transfer_syntax_uid],
    }
    pixels = b"".join(picture.frames) if is_native else _encapsulated(picture.frames)
    vr = "OW" if image.bits_allocated > 8 else "OB"
    read = read_model(model)
    read.elements[_PIXEL_DATA] = ModelElement(_PIXEL_DATA, vr, pixels)
    write_model_file(read, target, transfer_syntax_uid=transfer_syntax_uid if is_native else "")


def _sop_class_of(picture: Picture, kind: Target) -> str:
    image = picture.image
    many = len(picture.frames) > 1
    if kind.is_visible_light:
        if many:
            raise SourceError("has several frames, and visible light images have one; choose sc")
        if image.bits_allocated != 8 or image.is_signed:
            raise SourceError("has more than 8 bits, and visible light images have 8; choose sc")
        return f"{_STORAGE}{_VISIBLE_LIGHT[kind][0]}"
    if not many and kind is Target.SECONDARY_CAPTURE:
        return f"{_STORAGE}7"
    if image.samples_per_pixel == 3:
        if image.bits_allocated != 8:
            raise SourceError("has frames in colour of more than 8 bits, which no SOP class has")
        return f"{_STORAGE}7.4"
    if image.is_signed:
        raise SourceError("has frames of signed samples, which no SOP class for them has")
    return f"{_STORAGE}{'7.2' if image.bits_allocated == 8 else '7.3'}"


def _multi_frame(picture: Picture, model: Model) -> dict[str, str]:
    """SC Multi-frame Image and Multi-frame Modules (PS3.3 C.8.6.3, C.7.6.6)."""
    count = len(picture.frames)
    also = {"NumberOfFrames": str(count)}
    if count > 1:
        # Pages, in their order: nobody knows of a time between them.
        model["00182001"] = {"vr": "IS", "Value": [str(page) for page in range(1, count + 1)]}
        model["00280009"] = {"vr": "AT", "Value": ["00182001"]}
    if picture.image.samples_per_pixel == 1:
        also |= {
            "PresentationLUTShape": "IDENTITY",
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        }
    return also


def _encapsulated(frames: Iterable[bytes]) -> bytes:
    """Items of an encapsulated value (PS3.5 A.4): offsets, and a fragment for each frame."""
    offsets: list[int] = []
    pieces: list[bytes] = []
    at = 0
    for frame in frames:
        padded = frame + b"\0" * (len(frame) & 1)
        offsets.append(at)
        pieces += [_ITEM.pack(0xFFFE, 0xE000, len(padded)), padded]
        at += _ITEM.size + len(padded)
    if at >= 1 << 32:
        raise SourceError("has more than 4 GiB of compressed frames")
    table = struct.pack(f"<{len(offsets)}I", *offsets) if len(offsets) > 1 else b""
    return b"".join((_ITEM.pack(0xFFFE, 0xE000, len(table)), table, *pieces))


# -- Documents ---------------------------------------------------------------------------


def write_document(
    document: Document,
    path: Path,
    identity: Identity,
    target: IO[bytes],
    *,
    title: str = "",
    number: int = 1,
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
) -> None:
    """Write an encapsulated document; its bytes are read from *path* when their turn comes.

    Raises:
        SourceError: it is too long.
        ModelError: an attribute makes no sense.
        DataSetError, LocalProtocolError, OSError: it cannot be written.
    """
    size = path.stat().st_size
    if size >= 0xFFFFFFFE:
        raise SourceError("is longer than 4 GiB, which no value is")
    model = _base(identity, document.sop_class_uid, document.modality, number)
    also = {
        "ContentDate": identity.at.strftime("%Y%m%d"),
        "ContentTime": identity.at.strftime("%H%M%S"),
        "AcquisitionDateTime": "",
        "BurnedInAnnotation": "YES",
        "DocumentTitle": title,
        "MIMETypeOfEncapsulatedDocument": document.mime_type,
        "EncapsulatedDocumentLength": str(size),
    }
    model["0040A043"] = {"vr": "SQ"}  # Concept Name Code, type 2
    if document.hl7_instance_identifier:
        also["HL7InstanceIdentifier"] = document.hl7_instance_identifier
    if document.is_model:
        also |= {
            "FrameOfReferenceUID": new_uid(),
            "PositionReferenceIndicator": "",
            "Manufacturer": "Isocenter",
            "ManufacturerModelName": "imgtodcm",
            "DeviceSerialNumber": "1",
            "SoftwareVersions": IMPLEMENTATION_VERSION_NAME,
        }
        # Measurement Units: files of models do not say theirs; millimetres is what is meant.
        put_in_model(model, "MeasurementUnitsCodeSequence[0].CodeValue", "mm")
        put_in_model(model, "MeasurementUnitsCodeSequence[0].CodingSchemeDesignator", "UCUM")
        put_in_model(model, "MeasurementUnitsCodeSequence[0].CodeMeaning", "mm")
    else:
        also["ConversionType"] = "WSD"
    _finish(model, identity, also)
    read = read_model(model)
    read.elements[_DOCUMENT] = ModelElement(_DOCUMENT, "OB", FileRange(path, 0, size))
    write_model_file(read, target, transfer_syntax_uid=transfer_syntax_uid)


# -- Video -------------------------------------------------------------------------------


def write_video(
    video: Video,
    source: IO[bytes],
    identity: Identity,
    target: IO[bytes],
    *,
    kind: Target = Target.VL_PHOTO,
    number: int = 1,
) -> None:
    """Write a video object: the stream, in fragments (PS3.5 8.2.5 to 8.2.8).

    Raises:
        ModelError: an attribute makes no sense.
        DataSetError, LocalProtocolError, OSError: it cannot be written.
    """
    _, suffix, modality = _VISIBLE_LIGHT.get(kind, _VISIBLE_LIGHT[Target.VL_PHOTO])
    model = _base(identity, f"{_STORAGE}{suffix}", modality, number)
    source.seek(0, 2)
    size = source.tell()
    native = video.rows * video.columns * 3 * video.frames
    also = {
        "ImageType": "DERIVED\\PRIMARY",
        "ContentDate": identity.at.strftime("%Y%m%d"),
        "ContentTime": identity.at.strftime("%H%M%S"),
        "PatientOrientation": "",
        "SamplesPerPixel": "3",
        "PhotometricInterpretation": "YBR_PARTIAL_420",
        "PlanarConfiguration": "0",
        "Rows": str(video.rows),
        "Columns": str(video.columns),
        "BitsAllocated": "8",
        "BitsStored": "8",
        "HighBit": "7",
        "PixelRepresentation": "0",
        "NumberOfFrames": str(video.frames),
        "FrameTime": f"{video.frame_time:.10g}",
        "CineRate": str(max(round(1000 / video.frame_time), 1)),
        "BurnedInAnnotation": "YES",
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": f"{max(native / size, 1):.4g}",
        "LossyImageCompressionMethod": video.lossy_method,
    }
    model["00280009"] = {"vr": "AT", "Value": ["00181063"]}  # Frame Time
    model["00400555"] = {"vr": "SQ"}
    _finish(model, identity, also)
    model[_META_SYNTAX] = {"vr": "UI", "Value": [video.transfer_syntax_uid]}
    with _fragments(source, size) as fragments:
        read = read_model(model)
        read.elements[_PIXEL_DATA] = ModelElement(_PIXEL_DATA, "OB", fragments)
        write_model_file(read, target)


@contextmanager
def _fragments(source: IO[bytes], size: int) -> Iterator[FileRange]:
    """A stream as items of an encapsulated value, in a temporary file."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "fragments")
        with path.open("xb") as file:
            file.write(_ITEM.pack(0xFFFE, 0xE000, 0))
            source.seek(0)
            for start in range(0, size, _FRAGMENT):
                length = min(_FRAGMENT, size - start)
                file.write(_ITEM.pack(0xFFFE, 0xE000, length + (length & 1)))
                left = length
                while left:
                    piece = source.read(min(_PIECE, left))
                    if not piece:
                        raise SourceError("has become shorter while it was read")
                    file.write(piece)
                    left -= len(piece)
                file.write(b"\0" * (length & 1))
        yield FileRange(path, 0, path.stat().st_size)
