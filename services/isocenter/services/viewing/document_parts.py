"""Parts of documents that are made of marks: attributes, codes, content items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.model_edits import attribute_model
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.dicom.model_reader import read_model
from isocenter.services.dicom.uids import new_uid
from isocenter.services.viewing.attribute_view import AttributeView, key_of

#: A data set, or an item, in the DICOM JSON Model.
Item = dict[str, Any]

#: Patient, patient at the time of the study, and study: as the image says them; type 2 ones are
#: there also where it does not.
_FROM_IMAGE: Final = {
    "PatientName": True, "PatientID": True, "IssuerOfPatientID": False,
    "IssuerOfPatientIDQualifiersSequence": False, "TypeOfPatientID": False,
    "OtherPatientIDsSequence": False, "PatientBirthDate": True, "PatientSex": True,
    "PatientAge": False, "PatientSize": False, "PatientWeight": False,
    "StudyDate": True, "StudyTime": True, "ReferringPhysicianName": True, "StudyID": True,
    "AccessionNumber": True, "IssuerOfAccessionNumberSequence": False, "StudyDescription": False,
}  # fmt: skip
_LONGEST_DECIMAL: Final = 16
_MOST_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedImage:
    """An image that a document speaks of.

    Attributes:
        stored: what the archive calls it.
        view: its data set.
    """

    stored: StoredInstance
    view: AttributeView


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorship:
    """Who made the marks that become a document, and when it is made.

    Attributes:
        instance_number: of the document in its series, from 1 on.
    """

    author: str
    now: datetime
    instance_number: int = 1


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str

    def item(self) -> Item:
        """As an item of a code sequence."""
        return attributes(
            CodeValue=self.value, CodingSchemeDesignator=self.scheme, CodeMeaning=self.meaning
        )


def attributes(**values: Any) -> Item:
    """Attributes by keyword; items of a sequence are a list, None has no value."""
    found: Item = {}
    for keyword, value in values.items():
        key = key_of(keyword)
        several = value if isinstance(value, list | tuple) else [] if value is None else [value]
        if any(isinstance(one, dict) for one in several) or keyword.endswith("Sequence"):
            found[key] = {"vr": "SQ", "Value": list(several)} if several else {"vr": "SQ"}
        else:
            found[key] = attribute_model(int(key, 16), list(several), "")
    return found


def decimal(number: float) -> str:
    """A number as a DS has it: at most 16 characters (PS3.5 6.2)."""
    for digits in range(15, 5, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= _LONGEST_DECIMAL:
            return text
    return f"{number:.8g}"


def person(name: str) -> str:
    """A name of a user as a PN: no more than its characters and length allow."""
    return "".join(" " if one in "\\=" or not one.isprintable() else one for one in name)[
        :_MOST_NAME
    ]


def series_uid(study: str, modality: str, author: str) -> str:
    """The series that holds what is made of somebody's marks: always the same one."""
    return f"2.25.{uuid5(NAMESPACE_OID, f'{study}/{modality}/{author}').int}"


def document(
    image: MarkedImage,
    authorship: Authorship,
    *,
    sop_class_uid: str,
    modality: str,
    series_number: int,
    series_description: str,
    content: Item,
) -> ModelFile:
    """An object of the patient and study of an image.

    Args:
        content: what is not the same for all kinds of them.
    """
    view, stored = image.view, image.stored
    made: Item = {}
    for keyword, is_always in _FROM_IMAGE.items():
        element = view.model.get(key_of(keyword))
        if element is not None:
            made[key_of(keyword)] = element
        elif is_always:
            made |= attributes(**{keyword: None})
    study = stored.study_instance_uid
    made |= attributes(
        SOPClassUID=sop_class_uid,
        SOPInstanceUID=new_uid(),
        InstanceCreationDate=date_text(authorship.now),
        InstanceCreationTime=time_text(authorship.now),
        StudyInstanceUID=study,
        SeriesInstanceUID=series_uid(study, modality, authorship.author),
        Modality=modality,
        SeriesNumber=series_number,
        SeriesDescription=series_description,
        InstanceNumber=authorship.instance_number,
        Manufacturer="Isocenter",
        ManufacturerModelName="Isocenter",
        SoftwareVersions=version("isocenter"),
    )
    return ModelFile(read_model(made | content))


def date_text(moment: datetime) -> str:
    """As a DA."""
    return moment.strftime("%Y%m%d")


def time_text(moment: datetime) -> str:
    """As a TM."""
    return moment.strftime("%H%M%S")


def reference(stored: StoredInstance, frames: Sequence[int] = ()) -> Item:
    """An item that names an object, and some of its frames."""
    found = attributes(
        ReferencedSOPClassUID=stored.sop_class_uid,
        ReferencedSOPInstanceUID=stored.sop_instance_uid,
    )
    if frames:
        found |= attributes(ReferencedFrameNumber=sorted(set(frames)))
    return found


def image_reference(image: MarkedImage, frames: Sequence[int]) -> Item:
    """The same, with frames only where there are several to choose from."""
    return reference(image.stored, frames if image.view.frames > 1 else ())


def evidence(images: Sequence[StoredInstance]) -> list[Item]:
    """The items of Current Requested Procedure Evidence Sequence: what a document speaks of."""
    studies: dict[str, dict[str, list[Item]]] = {}
    for one in dict.fromkeys(images):
        series = studies.setdefault(one.study_instance_uid, {})
        series.setdefault(one.series_instance_uid, []).append(reference(one))
    return [
        attributes(
            StudyInstanceUID=study,
            ReferencedSeriesSequence=[
                attributes(SeriesInstanceUID=uid, ReferencedSOPSequence=items)
                for uid, items in series.items()
            ],
        )
        for study, series in studies.items()
    ]


# -- Content of structured reports (PS3.3 C.17.3) -----------------------------------------

CONTAINS: Final = "CONTAINS"
HAS_CONTEXT: Final = "HAS OBS CONTEXT"
HAS_MODIFIER: Final = "HAS CONCEPT MOD"
INFERRED_FROM: Final = "INFERRED FROM"
SELECTED_FROM: Final = "SELECTED FROM"


def content_item(
    relationship: str,
    value_type: str,
    name: Code | None,
    *,
    children: Sequence[Item] = (),
    **value: Any,
) -> Item:
    """A content item with its value, and those below it."""
    found = attributes(ValueType=value_type)
    if relationship:
        found |= attributes(RelationshipType=relationship)
    if name is not None:
        found |= attributes(ConceptNameCodeSequence=[name.item()])
    found |= attributes(**value)
    if children:
        found |= attributes(ContentSequence=list(children))
    return found


def container(relationship: str, name: Code, children: Sequence[Item], template: str = "") -> Item:
    """A container; *template*: the number of a template of PS3.16 that it follows."""
    value: dict[str, Any] = {"ContinuityOfContent": "SEPARATE"}
    if template:
        value["ContentTemplateSequence"] = [
            attributes(MappingResource="DCMR", TemplateIdentifier=template)
        ]
    return content_item(relationship, "CONTAINER", name, children=children, **value)


def coded(relationship: str, name: Code, value: Code) -> Item:
    """An item whose value is a code."""
    return content_item(relationship, "CODE", name, ConceptCodeSequence=[value.item()])


def image_item(
    relationship: str, image: MarkedImage, frames: Sequence[int], name: Code | None = None
) -> Item:
    """An item that is an image."""
    return content_item(
        relationship, "IMAGE", name, ReferencedSOPSequence=[image_reference(image, frames)]
    )


def is_person(author: str) -> bool:
    """Whether an author is somebody; otherwise it is a program, of which the address is known."""
    try:
        ip_address(author)
    except ValueError:
        return True
    return False


def observer(author: str) -> list[Item]:
    """Who says so: a person, or a device (TID 1001 to 1004)."""
    kind = Code("121005", "DCM", "Observer Type")
    if is_person(author):
        name = Code("121008", "DCM", "Person Observer Name")
        return [
            coded(HAS_CONTEXT, kind, Code("121006", "DCM", "Person")),
            content_item(HAS_CONTEXT, "PNAME", name, PersonName=person(author)),
        ]
    uid = f"2.25.{uuid5(NAMESPACE_OID, f'observer/{author}').int}"
    return [
        coded(HAS_CONTEXT, kind, Code("121007", "DCM", "Device")),
        content_item(HAS_CONTEXT, "UIDREF", Code("121012", "DCM", "Device Observer UID"), UID=uid),
        content_item(
            HAS_CONTEXT, "TEXT", Code("121013", "DCM", "Device Observer Name"), TextValue=author
        ),
    ]


def language() -> Item:
    """The texts of ours are in English (TID 1204)."""
    return coded(
        HAS_MODIFIER,
        Code("121049", "DCM", "Language of Content Item and Descendants"),
        Code("en", "RFC5646", "English"),
    )


def report_attributes(images: Sequence[StoredInstance], now: datetime) -> Mapping[str, Any]:
    """What all structured documents have beside their content; for `attributes`."""
    return {
        "ContentDate": date_text(now),
        "ContentTime": time_text(now),
        "ReferencedPerformedProcedureStepSequence": None,
        "CurrentRequestedProcedureEvidenceSequence": evidence(images),
    }
