"""Objects made of pictures, documents and video: Secondary Capture, Visible Light, encapsulated.

An object is a DICOM JSON model (PS3.18 F.2) with what its IOD needs (types 1 and 2), laid over what
somebody gives: a patient, a study or a series of another file, and attributes of one's own.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLEMENTATION_VERSION_NAME
from isocenter.services.dicom.creation.described import (
    SECONDARY_CAPTURE,
    describe_document,
    describe_pages,
    describe_picture,
    describe_video,
    image_type,
)
from isocenter.services.dicom.creation.documents import Document
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.creation.video import Video
from isocenter.services.dicom.long_values import (
    FileRange,
    fragments_of_frames,
    fragments_of_stream,
)
from isocenter.services.dicom.model_edits import put_in_model
from isocenter.services.dicom.model_file import write_model_file
from isocenter.services.dicom.model_reader import ModelElement, read_model

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_PIXEL_DATA: Final = 0x7FE00010
_DOCUMENT: Final = 0x00420011
_META_SYNTAX: Final = "00020010"

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
        "ImageType": image_type(picture),
        "ContentDate": date,
        "ContentTime": time,
        "PatientOrientation": "",
        "BurnedInAnnotation": "YES",
        **describe_picture(picture, sop_class),
    }
    if kind.is_visible_light:
        model["00400555"] = {"vr": "SQ"}  # Acquisition Context, type 2
    else:
        also |= {"ConversionType": "WSD", "DateOfSecondaryCapture": date}
        also["TimeOfSecondaryCapture"] = time
    if sop_class != SECONDARY_CAPTURE and not kind.is_visible_light:
        also |= describe_pages(picture)
    _finish(model, identity, also)
    is_native = picture.is_native
    model[_META_SYNTAX] = {
        "vr": "UI",
        "Value": [transfer_syntax_uid if is_native else picture.transfer_syntax_uid],
    }
    pixels = b"".join(picture.frames) if is_native else fragments_of_frames(picture.frames)
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
        **describe_document(document, size),
    }
    model["0040A043"] = {"vr": "SQ"}  # Concept Name Code, type 2
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
    also = {
        "ImageType": "DERIVED\\PRIMARY",
        "ContentDate": identity.at.strftime("%Y%m%d"),
        "ContentTime": identity.at.strftime("%H%M%S"),
        "PatientOrientation": "",
        "BurnedInAnnotation": "YES",
        **describe_video(video, size),
    }
    model["00400555"] = {"vr": "SQ"}
    _finish(model, identity, also)
    model[_META_SYNTAX] = {"vr": "UI", "Value": [video.transfer_syntax_uid]}
    stream = FileRange(source.fileno(), 0, size)
    read = read_model(model)
    read.elements[_PIXEL_DATA] = ModelElement(_PIXEL_DATA, "OB", fragments_of_stream(stream))
    write_model_file(read, target)
