"""Types of directory records, their keys, and what they reference (PS3.3 F.4, F.5)."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_dictionary import tag_for_keyword
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordType:
    """One type of directory record.

    Attributes:
        letters: of names of files that it references.
        keys: tag → type: 1 has a value, 2 is there, 3 is copied where an object has it (so also
            what is 1C).
        is_root: it is not below a patient.
    """

    name: str
    letters: str
    keys: dict[int, int]
    is_root: bool = False


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def _type(name: str, letters: str, keys: str = "", *, is_root: bool = False) -> RecordType:
    words = keys.split()
    found = {_tag(key): int(kind) for key, kind in zip(words[::2], words[1::2], strict=True)}
    return RecordType(name=name, letters=letters, keys=found, is_root=is_root)


_NUMBER: Final = "InstanceNumber 1 "
_CREATED: Final = "ContentDate 1 ContentTime 1 "
#: Content Identification Macro (PS3.3 Table 10-12).
_LABEL: Final = "ContentLabel 1 ContentDescription 2 ContentCreatorName 2 "

PATIENT: Final = "PATIENT"
STUDY: Final = "STUDY"
SERIES: Final = "SERIES"
IMAGE: Final = "IMAGE"
PRIVATE: Final = "PRIVATE"
#: Retired (PS3.3-2004): references a file for several records.
MRDR: Final = "MRDR"

_ALL: Final = (
    _type(
        PATIENT, "PA",
        "PatientName 2 PatientID 1 IssuerOfPatientID 3 PatientBirthDate 3 PatientSex 3",
        is_root=True,
    ),
    _type(
        STUDY, "ST",
        "StudyDate 1 StudyTime 1 StudyDescription 2 StudyInstanceUID 1 StudyID 1 "
        "AccessionNumber 2 ReferringPhysicianName 3",
    ),
    _type(
        SERIES, "SE",
        "Modality 1 SeriesInstanceUID 1 SeriesNumber 1 SeriesDescription 3 SeriesDate 3 "
        "SeriesTime 3 BodyPartExamined 3",
    ),
    _type(
        IMAGE, "IM",
        _NUMBER + "ImageType 3 Rows 3 Columns 3 NumberOfFrames 3 ContentDate 3 ContentTime 3 "
        "FrameOfReferenceUID 3 ImagePositionPatient 3 ImageOrientationPatient 3 PixelSpacing 3 "
        "LossyImageCompression 3 LossyImageCompressionRatio 3 CalibrationImage 3",
    ),
    _type("RT DOSE", "RD", _NUMBER + "DoseSummationType 1 DoseComment 3"),
    _type(
        "RT STRUCTURE SET", "RS",
        _NUMBER + "StructureSetLabel 1 StructureSetDate 2 StructureSetTime 2",
    ),
    _type("RT PLAN", "RP", _NUMBER + "RTPlanLabel 1 RTPlanDate 2 RTPlanTime 2"),
    _type("RT TREAT RECORD", "RX", _NUMBER + "TreatmentDate 2 TreatmentTime 2"),
    _type(
        "PRESENTATION", "PR",
        _NUMBER + _LABEL + "PresentationCreationDate 1 PresentationCreationTime 1 "
        "ReferencedSeriesSequence 3 BlendingSequence 3",
    ),
    _type("WAVEFORM", "WV", _NUMBER + _CREATED),
    _type(
        "SR DOCUMENT", "SR",
        _NUMBER + _CREATED + "CompletionFlag 1 VerificationFlag 1 VerificationDateTime 3 "
        "ConceptNameCodeSequence 1 ContentSequence 3",
    ),
    _type(
        "KEY OBJECT DOC", "KO",
        _NUMBER + _CREATED + "ConceptNameCodeSequence 1 ContentSequence 3",
    ),
    _type(
        "SPECTROSCOPY", "SP",
        _NUMBER + _CREATED + "ImageType 1 ReferencedImageEvidenceSequence 3 NumberOfFrames 1 "
        "Rows 1 Columns 1 DataPointRows 1 DataPointColumns 1",
    ),
    _type("RAW DATA", "RW", "InstanceNumber 2 " + _CREATED),
    _type("REGISTRATION", "RG", _NUMBER + _CREATED + _LABEL),
    _type("FIDUCIAL", "FD", _NUMBER + _CREATED + _LABEL),
    _type(
        "ENCAP DOC", "ED",
        _NUMBER + "ContentDate 2 ContentTime 2 DocumentTitle 2 HL7InstanceIdentifier 3 "
        "ConceptNameCodeSequence 2 MIMETypeOfEncapsulatedDocument 1",
    ),
    _type("VALUE MAP", "VM", _NUMBER + _CREATED + _LABEL),
    _type("STEREOMETRIC", "SX"),
    _type("PLAN", "PL"),
    _type("MEASUREMENT", "MX", _NUMBER + _CREATED + _LABEL),
    _type("SURFACE", "SF", _NUMBER + _CREATED + _LABEL),
    _type("SURFACE SCAN", "SS", _CREATED),
    _type("TRACT", "TR", _NUMBER + _CREATED + _LABEL),
    _type("ASSESSMENT", "AS", _NUMBER + "InstanceCreationDate 1 InstanceCreationTime 2"),
    _type("ANNOTATION", "AN", _NUMBER + _CREATED + _LABEL),
    _type(
        "RADIOTHERAPY", "RT",
        _NUMBER + "UserContentLabel 3 UserContentLongLabel 3 ContentDescription 2 "
        "ContentCreatorName 2",
    ),
    _type(PRIVATE, "PV"),
    _type(
        "HANGING PROTOCOL", "HG",
        "HangingProtocolCreator 1 HangingProtocolCreationDateTime 1 "
        "HangingProtocolDefinitionSequence 1 NumberOfPriorsReferenced 1 "
        "HangingProtocolUserIdentificationCodeSequence 2",
        is_root=True,
    ),
    _type("PALETTE", "PL", "ContentLabel 1 ContentDescription 2", is_root=True),
    _type(
        "IMPLANT", "IP", "Manufacturer 1 ImplantName 1 ImplantSize 3 ImplantPartNumber 1",
        is_root=True,
    ),
    _type(
        "IMPLANT ASSY", "IA",
        "ImplantAssemblyTemplateName 1 Manufacturer 1 ProcedureTypeCodeSequence 1", is_root=True,
    ),
    _type(
        "IMPLANT GROUP", "IG", "ImplantTemplateGroupName 1 ImplantTemplateGroupIssuer 1",
        is_root=True,
    ),
)  # fmt: skip

#: Name → the type.
RECORD_TYPES: Final = {each.name: each for each in _ALL}
#: What a file may need of them, beside other attributes that stand in for what is missing.
KEY_TAGS: Final = frozenset(tag for each in _ALL for tag in each.keys)

#: Part of the name of a SOP class → its type of record; the first that is found counts.
_BY_NAME: Final = (
    (" SR ", "SR DOCUMENT"),
    ("RT Beams Delivery Instruction", "PLAN"),
    ("RT Brachy Application Setup Delivery Instruction", "PLAN"),
    ("RT Dose", "RT DOSE"),
    ("RT Structure Set", "RT STRUCTURE SET"),
    ("RT Plan", "RT PLAN"),
    ("RT Ion Plan", "RT PLAN"),
    ("Treatment Record", "RT TREAT RECORD"),
    ("Treatment Summary Record", "RT TREAT RECORD"),
    ("RT Image", IMAGE),
    ("RT ", "RADIOTHERAPY"),
    ("Radiation", "RADIOTHERAPY"),
    ("Presentation State", "PRESENTATION"),
    ("Basic Structured Display", "PRESENTATION"),
    ("Waveform", "WAVEFORM"),
    ("ECG", "WAVEFORM"),
    ("Key Object Selection", "KEY OBJECT DOC"),
    ("Procedure Log", "SR DOCUMENT"),
    ("Spectacle Prescription Report", "SR DOCUMENT"),
    ("Macular Grid Thickness", "SR DOCUMENT"),
    ("Spectroscopy", "SPECTROSCOPY"),
    ("Raw Data", "RAW DATA"),
    ("Registration", "REGISTRATION"),
    ("Fiducials", "FIDUCIAL"),
    ("Encapsulated", "ENCAP DOC"),
    ("Real World Value Mapping", "VALUE MAP"),
    ("Stereometric", "STEREOMETRIC"),
    ("Surface Segmentation", "SURFACE"),
    ("Surface Scan", "SURFACE SCAN"),
    ("Tractography", "TRACT"),
    ("Content Assessment", "ASSESSMENT"),
    ("Bulk Simple Annotations", "ANNOTATION"),
    ("Measurements", "MEASUREMENT"),
    ("Refraction", "MEASUREMENT"),
    ("Keratometry", "MEASUREMENT"),
    ("Visual Field", "MEASUREMENT"),
    ("Intraocular Lens", "MEASUREMENT"),
    ("Image", IMAGE),
    ("Segmentation", IMAGE),
    ("Map", IMAGE),
    ("Volume", IMAGE),
    ("Analysis", IMAGE),
)
#: Objects that are nobody's in particular.
_OF_NO_PATIENT: Final = {
    "1.2.840.10008.5.1.4.38.1": "HANGING PROTOCOL",
    "1.2.840.10008.5.1.4.39.1": "PALETTE",
    "1.2.840.10008.5.1.4.43.1": "IMPLANT",
    "1.2.840.10008.5.1.4.44.1": "IMPLANT ASSY",
    "1.2.840.10008.5.1.4.45.1": "IMPLANT GROUP",
}


def record_type_of(sop_class_uid: str, *, has_rows: bool) -> RecordType:
    """The type of record that references objects of a SOP class.

    Args:
        has_rows: an object has Rows (0028,0010): of a SOP class that nobody knows it is an image,
            and without, a private record's.
    """
    known = _OF_NO_PATIENT.get(sop_class_uid)
    if known is None:
        name = STORAGE_SOP_CLASSES.get(sop_class_uid, "")
        known = next((type_ for part, type_ in _BY_NAME if part in name), None) if name else None
    return RECORD_TYPES[known or (IMAGE if has_rows else PRIVATE)]
