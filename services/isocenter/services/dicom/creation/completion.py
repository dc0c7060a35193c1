"""Completion of metadata by the payload that came with it (PS3.18 10.5.2).

What the bytes decide is put right, what is usual stands in for what is missing, attributes of type
2 that nobody gave are empty, and those of type 1 that nobody can know are missed.
"""

from __future__ import annotations

from typing import Any, Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.error_codes import ErrorCode
from isocenter.services.dicom.creation.described import SECONDARY_CAPTURE, VISIBLE_LIGHT, Texts
from isocenter.services.dicom.creation.payloads import Payload
from isocenter.services.dicom.data_dictionary import tag_for_keyword
from isocenter.services.dicom.model_edits import put_in_model
from isocenter.services.dicom.model_reader import (
    ModelElement,
    ModelError,
    ModelItem,
    ReadModel,
    read_model,
)

_TRANSFER_SYNTAX: Final = 0x00020010
_DOCUMENTS: Final = "1.2.840.10008.5.1.4.1.1.104."
_MODELS: Final = tuple(f"{_DOCUMENTS}{number}" for number in (3, 4, 5))
#: Type 1 of every object.
_REQUIRED: Final = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
)  # fmt: skip
#: Type 1 of documents, and of models beside.
_OF_DOCUMENTS: Final = ("InstanceNumber",)
_OF_MODELS: Final = (
    "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
    "FrameOfReferenceUID", "MeasurementUnitsCodeSequence",
)  # fmt: skip
#: Type 2 of every object (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1).
_TYPE_2: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "Manufacturer",
    "InstanceNumber",
)  # fmt: skip
_TYPE_2_OF_DOCUMENTS: Final = (
    "ContentDate", "ContentTime", "AcquisitionDateTime", "DocumentTitle",
    "ConceptNameCodeSequence",
)  # fmt: skip


class MissingAttributesError(ModelError):
    """Attributes that the object must have are not there; the message names them."""

    error_code = ErrorCode.ELEMENT_NOT_FOUND


def complete(read: ReadModel, tag: int, payload: Payload, *, sop_class_uid: str) -> list[str]:
    """Put *payload* into the metadata *read*, as element *tag*.

    Returns:
        Keywords of attributes that said something else than the bytes do.

    Raises:
        MissingAttributesError: attributes of type 1 are missing; the message names them.
    """
    elements = read.elements
    elements[tag] = ModelElement(tag, payload.vr or elements[tag].vr, payload.value)
    read.meta[_TRANSFER_SYNTAX] = payload.transfer_syntax_uid
    if not payload.facts:  # nothing is known of it: it is taken as it is
        return []
    corrected = []
    for fact, element in _elements_of(payload.facts).items():
        given = elements.get(fact)
        if given is not None and not _is_empty(given) and not _is_same(given, element):
            corrected.append(fact)
        if given is None or not _is_same(given, element):
            elements[fact] = element
    usual = dict(payload.usual)
    if sop_class_uid == SECONDARY_CAPTURE or sop_class_uid.startswith(f"{SECONDARY_CAPTURE}."):
        usual.setdefault("ConversionType", "WSD")
    for name, element in _elements_of(usual).items():
        if name not in elements or _is_empty(elements[name]):
            elements[name] = element
    _check_required(elements, sop_class_uid)
    names: tuple[str, ...] = _TYPE_2
    if sop_class_uid.startswith(_DOCUMENTS):
        names = (*names, *_TYPE_2_OF_DOCUMENTS)
    if sop_class_uid.startswith(VISIBLE_LIGHT):
        names = (*names, "AcquisitionContextSequence")
    for name, element in _elements_of(dict.fromkeys(names, "")).items():
        elements.setdefault(name, element)
    read.elements = dict(sorted(elements.items()))
    return [tag_text(one) for one in corrected]


def _check_required(elements: ModelItem, sop_class_uid: str) -> None:
    names: tuple[str, ...] = _REQUIRED
    if sop_class_uid.startswith(_DOCUMENTS):
        names = (*names, *_OF_DOCUMENTS)
    if sop_class_uid in _MODELS:
        names = (*names, *_OF_MODELS)
    missing = []
    for name in names:
        tag = tag_for_keyword(name)
        assert tag is not None
        if tag not in elements or _is_empty(elements[tag]):
            missing.append(f"{name} {tag_text(tag)}")
    if missing:
        raise MissingAttributesError(f"type 1 attributes are missing: {', '.join(missing)}")


def _elements_of(texts: Texts) -> ModelItem:
    model: dict[str, Any] = {}
    for name, text in texts.items():
        put_in_model(model, name, *(text.split("\\") if text else []))
    return read_model(model).elements


def _is_empty(element: ModelElement) -> bool:
    return not element.value and not element.text


def _is_same(given: ModelElement, known: ModelElement) -> bool:
    return _text(given) == _text(known)


def _text(element: ModelElement) -> bytes:
    if element.text is not None:
        return element.text.strip().encode()
    value = element.value
    if not isinstance(value, bytes):
        return b""
    return value.strip(b" \0") if element.vr in ("CS", "DS", "IS") else value
