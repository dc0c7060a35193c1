"""The attributes that the index keeps, by level of the query/retrieve models (PS3.4 C.6).

One table: what ingest extracts, what a query can match and what an answer can
return are all read from here.  An attribute more is a line more (and a migration
of the index).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass


class Level(Enum):
    """Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def depth(self) -> int:
        """0 for PATIENT to 3 for IMAGE."""
        return _DEPTH[self]


_DEPTH: Final = {Level.PATIENT: 0, Level.STUDY: 1, Level.SERIES: 2, Level.IMAGE: 3}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: where it belongs and what it is called.

    Attributes:
        column: its name in a table of the index.
        computed: the index derives it (counts, modalities in study); it is in no object.
    """

    tag: int
    keyword: str
    vr: str
    level: Level
    column: str
    computed: bool = False


_P, _S, _E, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE

ATTRIBUTES: Final = (
    Attribute(0x00100020, "PatientID", "LO", _P, "patient_id"),
    Attribute(0x00100010, "PatientName", "PN", _P, "patient_name"),
    Attribute(0x00100021, "IssuerOfPatientID", "LO", _P, "issuer_of_patient_id"),
    Attribute(0x00100030, "PatientBirthDate", "DA", _P, "birth_date"),
    Attribute(0x00100032, "PatientBirthTime", "TM", _P, "birth_time"),
    Attribute(0x00100040, "PatientSex", "CS", _P, "sex"),
    Attribute(0x00101000, "OtherPatientIDs", "LO", _P, "other_patient_ids"),
    Attribute(0x00102160, "EthnicGroup", "SH", _P, "ethnic_group"),
    Attribute(0x00104000, "PatientComments", "LT", _P, "patient_comments"),
    Attribute(0x00201200, "NumberOfPatientRelatedStudies", "IS", _P, "num_studies", computed=True),
    Attribute(0x00201202, "NumberOfPatientRelatedSeries", "IS", _P, "num_series", computed=True),
    Attribute(
        0x00201204, "NumberOfPatientRelatedInstances", "IS", _P, "num_instances", computed=True
    ),
    Attribute(0x0020000D, "StudyInstanceUID", "UI", _S, "study_instance_uid"),
    Attribute(0x00080020, "StudyDate", "DA", _S, "study_date"),
    Attribute(0x00080030, "StudyTime", "TM", _S, "study_time"),
    Attribute(0x00080050, "AccessionNumber", "SH", _S, "accession_number"),
    Attribute(0x00200010, "StudyID", "SH", _S, "study_id"),
    Attribute(0x00080061, "ModalitiesInStudy", "CS", _S, "modalities_in_study", computed=True),
    Attribute(0x00080062, "SOPClassesInStudy", "UI", _S, "sop_classes_in_study", computed=True),
    Attribute(0x00080090, "ReferringPhysicianName", "PN", _S, "referring_physician_name"),
    Attribute(0x00081030, "StudyDescription", "LO", _S, "study_description"),
    Attribute(0x00081060, "NameOfPhysiciansReadingStudy", "PN", _S, "reading_physician_name"),
    Attribute(0x00101010, "PatientAge", "AS", _S, "patient_age"),
    Attribute(0x00101020, "PatientSize", "DS", _S, "patient_size"),
    Attribute(0x00101030, "PatientWeight", "DS", _S, "patient_weight"),
    Attribute(0x00201206, "NumberOfStudyRelatedSeries", "IS", _S, "num_series", computed=True),
    Attribute(
        0x00201208, "NumberOfStudyRelatedInstances", "IS", _S, "num_instances", computed=True
    ),
    Attribute(0x0020000E, "SeriesInstanceUID", "UI", _E, "series_instance_uid"),
    Attribute(0x00080060, "Modality", "CS", _E, "modality"),
    Attribute(0x00200011, "SeriesNumber", "IS", _E, "series_number"),
    Attribute(0x0008103E, "SeriesDescription", "LO", _E, "series_description"),
    Attribute(0x00180015, "BodyPartExamined", "CS", _E, "body_part_examined"),
    Attribute(0x00200060, "Laterality", "CS", _E, "laterality"),
    Attribute(0x00181030, "ProtocolName", "LO", _E, "protocol_name"),
    Attribute(0x00080021, "SeriesDate", "DA", _E, "series_date"),
    Attribute(0x00080031, "SeriesTime", "TM", _E, "series_time"),
    Attribute(0x00080070, "Manufacturer", "LO", _E, "manufacturer"),
    Attribute(0x00080080, "InstitutionName", "LO", _E, "institution_name"),
    Attribute(0x00081010, "StationName", "SH", _E, "station_name"),
    Attribute(0x00081050, "PerformingPhysicianName", "PN", _E, "performing_physician_name"),
    Attribute(0x00400244, "PerformedProcedureStepStartDate", "DA", _E, "performed_step_start_date"),
    Attribute(0x00400245, "PerformedProcedureStepStartTime", "TM", _E, "performed_step_start_time"),
    Attribute(0x00400275, "RequestAttributesSequence", "SQ", _E, "request_attributes"),
    Attribute(
        0x00201209, "NumberOfSeriesRelatedInstances", "IS", _E, "num_instances", computed=True
    ),
    Attribute(0x00080018, "SOPInstanceUID", "UI", _I, "sop_instance_uid"),
    Attribute(0x00080016, "SOPClassUID", "UI", _I, "sop_class_uid"),
    Attribute(0x00200013, "InstanceNumber", "IS", _I, "instance_number"),
    Attribute(0x00080008, "ImageType", "CS", _I, "image_type"),
    Attribute(0x00080022, "AcquisitionDate", "DA", _I, "acquisition_date"),
    Attribute(0x00080032, "AcquisitionTime", "TM", _I, "acquisition_time"),
    Attribute(0x00080023, "ContentDate", "DA", _I, "content_date"),
    Attribute(0x00080033, "ContentTime", "TM", _I, "content_time"),
    Attribute(0x00280008, "NumberOfFrames", "IS", _I, "number_of_frames"),
    Attribute(0x00280010, "Rows", "US", _I, "rows"),
    Attribute(0x00280011, "Columns", "US", _I, "columns"),
    Attribute(0x00280100, "BitsAllocated", "US", _I, "bits_allocated"),
)

BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}
BY_KEYWORD: Final = {attribute.keyword: attribute for attribute in ATTRIBUTES}

#: The unique key of each level (PS3.4 C.6.1.1).
UNIQUE_KEY: Final = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}

#: Tags that ingest takes out of an object.
STORED_TAGS: Final = frozenset(a.tag for a in ATTRIBUTES if not a.computed)

#: What an item of (0040,0275) keeps: attribute of the item → VR.  In `InstanceRecord.attributes`
#: the sequence is JSON text: a list of objects from 8 upper-case hexadecimal digits to text.
REQUEST_ATTRIBUTES: Final = {
    0x00401001: "SH",  # Requested Procedure ID
    0x00400009: "SH",  # Scheduled Procedure Step ID
    0x00400007: "LO",  # Scheduled Procedure Step Description
    0x00321060: "LO",  # Requested Procedure Description
    0x00080050: "SH",  # Accession Number
}
