"""Key Object Selection of a manifest (PS3.3 A.35.4, TID 2010; IHE RAD-68, MADO)."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from importlib.metadata import version
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.dicom.model_reader import read_model
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.integration.sharing.manifest import (
    ManifestInstance,
    ManifestSeries,
    StudyManifest,
)
from isocenter.services.viewing.document_parts import (
    CONTAINS,
    Code,
    Item,
    attributes,
    coded,
    container,
    content_item,
    date_text,
    series_uid,
    time_text,
)

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
_HAS_ACQUISITION_CONTEXT: Final = "HAS ACQ CONTEXT"
_SERIES_NUMBER: Final = 9902


class ManifestForm(Enum):
    """How much a Key Object Selection says."""

    #: IHE XDS-I.b: references alone.
    XDS_I = "xds-i"
    #: IHE MADO: also what is known of each series and instance.  Its codes are those of the trial
    #: implementation, until DICOM has given them others (CP-2595).
    MADO = "mado"


_TITLES: Final = {
    ManifestForm.XDS_I: Code("113030", "DCM", "Manifest"),
    ManifestForm.MADO: Code("MADOTEMP001", "99IHE", "Manifest with Description"),
}
_LIBRARY: Final = Code("111028", "DCM", "Image Library")
_GROUP: Final = Code("126200", "DCM", "Image Library Group")
_MODALITY: Final = Code("121139", "DCM", "Modality")
_REGION: Final = Code("123014", "DCM", "Target Region")
_STUDY_SERIES: Final = Code("MADOTEMP009", "99IHE", "Number of Study Related Series")
_SERIES_DATE: Final = Code("MADOTEMP003", "99IHE", "Series Date")
_SERIES_TIME: Final = Code("MADOTEMP004", "99IHE", "Series Time")
_SERIES_DESCRIPTION: Final = Code("MADOTEMP002", "99IHE", "Series Description")
_NUMBER_OF_SERIES: Final = Code("113607", "DCM", "Series Number")
_SERIES_UID: Final = Code("112002", "DCM", "Series Instance UID")
_SERIES_INSTANCES: Final = Code("MADOTEMP007", "99IHE", "Number of Series Related Instances")
_INSTANCE_NUMBER: Final = Code("113609", "DCM", "Instance Number")
_FRAMES: Final = Code("121140", "DCM", "Number of Frames")
#: What MADO calls regions of the body by, for searches → Body Part Examined (0018,0015) of PS3.16
#: Annex L that lie in it.
_REGIONS: Final = {
    Code("774007", "SCT", "Head and neck"): (
        "HEAD", "SKULL", "BRAIN", "NECK", "HEADNECK", "JAW", "EYE", "ORBIT", "EAR", "IAC", "SINUS",
        "NOSE", "FACE", "MANDIBLE", "MAXILLA", "TMJ", "THYROID", "ZYGOMA",
    ),
    Code("67734004", "SCT", "Upper trunk"): (
        "CHEST", "LUNG", "RIB", "STERNUM", "MEDIASTINUM", "THORAX", "CLAVICLE", "SCAPULA",
    ),
    Code("63337009", "SCT", "Lower trunk"): (
        "ABDOMEN", "PELVIS", "ABDOMENPELVIS", "LIVER", "KIDNEY", "BLADDER", "PANCREAS", "SPLEEN",
        "GALLBLADDER", "PROSTATE", "UTERUS", "STOMACH", "COLON", "RECTUM",
    ),
    Code("53120007", "SCT", "Arm"): (
        "ARM", "SHOULDER", "HUMERUS", "ELBOW", "FOREARM", "RADIUS", "ULNA", "WRIST", "HAND",
        "FINGER", "THUMB", "EXTREMITY_UPPER",
    ),
    Code("61685007", "SCT", "Leg"): (
        "LEG", "HIP", "FEMUR", "THIGH", "KNEE", "PATELLA", "CALF", "TIBIA", "FIBULA", "ANKLE",
        "FOOT", "TOE", "CALCANEUS",
    ),
    Code("76752008", "SCT", "Breast"): ("BREAST",),
    Code("80891009", "SCT", "Heart"): ("HEART", "CORONARYARTERY"),
    Code("1141981001", "SCT", "Vertebral column"): (
        "SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "CTSPINE", "TLSPINE", "LSSPINE", "COCCYX",
    ),
    Code("38266002", "SCT", "Whole body"): ("WHOLEBODY",),
}  # fmt: skip
_REGION_OF: Final = {part: region for region, parts in _REGIONS.items() for part in parts}


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentIdentity:
    """What makes one document of a manifest: the same identity gives the same bytes again.

    Attributes:
        document_uid: its SOP Instance UID.
        made_at: with an offset from UTC.
    """

    document_uid: str
    made_at: datetime
    form: ManifestForm = ManifestForm.XDS_I


def key_object_manifest(manifest: StudyManifest, identity: DocumentIdentity) -> ModelFile:
    """The manifest as a file."""
    now = identity.made_at
    patient, authorities = manifest.patient, manifest.authorities
    issuer = authorities.of_patient(patient.issuer)
    order = _issuer(authorities.accession_numbers) if manifest.accession_number else None
    references = [_content_reference(instance) for _, instance in manifest.instances()]
    if identity.form is ManifestForm.MADO:
        references.append(_image_library(manifest))
    made = attributes(
        SOPClassUID=KEY_OBJECT_SELECTION,
        SOPInstanceUID=identity.document_uid,
        InstanceCreationDate=date_text(now),
        InstanceCreationTime=time_text(now),
        TimezoneOffsetFromUTC=now.strftime("%z") or None,
        PatientName=patient.name or None,
        PatientID=patient.patient_id or None,
        PatientBirthDate=patient.birth_date or None,
        PatientSex=patient.sex or None,
        StudyInstanceUID=manifest.study_instance_uid,
        StudyDate=manifest.date or None,
        StudyTime=manifest.time or None,
        AccessionNumber=manifest.accession_number or None,
        StudyID=manifest.study_id or None,
        ReferringPhysicianName=manifest.referring_physician or None,
        SeriesInstanceUID=series_uid(manifest.study_instance_uid, "KO", identity.document_uid),
        Modality="KO",
        SeriesNumber=_SERIES_NUMBER,
        SeriesDescription="Manifest",
        InstanceNumber=1,
        Manufacturer="Isocenter",
        ManufacturerModelName="Isocenter",
        SoftwareVersions=version("isocenter"),
        ContentDate=date_text(now),
        ContentTime=time_text(now),
        ReferencedPerformedProcedureStepSequence=None,
        CurrentRequestedProcedureEvidenceSequence=[
            attributes(
                StudyInstanceUID=manifest.study_instance_uid,
                ReferencedSeriesSequence=[_evidence(manifest, one) for one in manifest.series],
            )
        ],
    )
    if patient.issuer:
        made |= attributes(IssuerOfPatientID=patient.issuer)
    if issuer:
        made |= attributes(IssuerOfPatientIDQualifiersSequence=[_issuer(issuer)])
    if order:
        made |= attributes(IssuerOfAccessionNumberSequence=[order])
    if manifest.description:
        made |= attributes(StudyDescription=manifest.description)
    if manifest.institution:
        made |= attributes(InstitutionName=manifest.institution)
    if manifest.accession_number:
        made |= attributes(ReferencedRequestSequence=[_request(manifest, order)])
    made |= container("", _TITLES[identity.form], references, "2010")
    return ModelFile(read_model(made))


def manifest_bytes(manifest: StudyManifest, identity: DocumentIdentity) -> bytes:
    """The manifest as a Part 10 file."""
    file = key_object_manifest(manifest, identity)
    return file.meta() + b"".join(bytes(piece) for piece in file.data_set())


def _issuer(oid: str) -> Item | None:
    """HL7v2 Hierarchic Designator Macro of an OID."""
    if not oid:
        return None
    return attributes(UniversalEntityID=oid, UniversalEntityIDType="ISO")


def _request(manifest: StudyManifest, issuer: Item | None) -> Item:
    found = attributes(
        StudyInstanceUID=manifest.study_instance_uid,
        ReferencedStudySequence=None,
        AccessionNumber=manifest.accession_number,
        PlacerOrderNumberImagingServiceRequest=None,
        FillerOrderNumberImagingServiceRequest=None,
        RequestedProcedureID=None,
        RequestedProcedureDescription=None,
        RequestedProcedureCodeSequence=None,
    )
    if issuer:
        found |= attributes(IssuerOfAccessionNumberSequence=[issuer])
    return found


def _evidence(manifest: StudyManifest, series: ManifestSeries) -> Item:
    """A series, and where its instances can be had (C.17-3a)."""
    retrieval = manifest.retrieval
    found = attributes(
        SeriesInstanceUID=series.series_instance_uid,
        ReferencedSOPSequence=[_reference(one) for one in series.instances],
    )
    if retrieval.ae_title:
        found |= attributes(RetrieveAETitle=retrieval.ae_title)
    if retrieval.location_uid:
        found |= attributes(RetrieveLocationUID=retrieval.location_uid)
    if retrieval.wado_rs:
        # The base of the service: a consumer puts the UIDs behind it (XDS-I.b, WADO-RS option).
        found |= attributes(RetrieveURL=retrieval.wado_rs)
    return found


def _reference(instance: ManifestInstance) -> Item:
    return attributes(
        ReferencedSOPClassUID=instance.sop_class_uid,
        ReferencedSOPInstanceUID=instance.sop_instance_uid,
    )


def _content_reference(instance: ManifestInstance, children: list[Item] | None = None) -> Item:
    name = name_of(instance.sop_class_uid)
    kind = "COMPOSITE"
    if "Image Storage" in name:
        kind = "IMAGE"
    elif "Waveform Storage" in name:
        kind = "WAVEFORM"
    return content_item(
        CONTAINS, kind, None, children=children or (), ReferencedSOPSequence=[_reference(instance)]
    )


# -- What MADO has beside the references: TID 1600 ----------------------------------------


def _said(value_type: str, name: Code, **value: Any) -> Item:
    return content_item(_HAS_ACQUISITION_CONTEXT, value_type, name, **value)


def _number(name: Code, number: int, unit: str) -> Item:
    measured = attributes(
        MeasurementUnitsCodeSequence=[Code(unit, "UCUM", unit.strip("{}")).item()],
        NumericValue=number,
    )
    return _said("NUM", name, MeasuredValueSequence=[measured])


def _image_library(manifest: StudyManifest) -> Item:
    said = [_modality(modality) for modality in manifest.modalities]
    regions = (_REGION_OF.get(one.body_part.strip().upper()) for one in manifest.series)
    said += [
        coded(_HAS_ACQUISITION_CONTEXT, _REGION, region)
        for region in dict.fromkeys(regions)
        if region is not None
    ]
    said.append(_number(_STUDY_SERIES, len(manifest.series), "{series}"))
    said += [_library_group(one) for one in manifest.series]
    return container(CONTAINS, _LIBRARY, said)


def _modality(modality: str) -> Item:
    return coded(_HAS_ACQUISITION_CONTEXT, _MODALITY, Code(modality, "DCM", modality))


def _library_group(series: ManifestSeries) -> Item:
    said: list[Item] = []
    if series.modality:
        said.append(_modality(series.modality))
    if series.date:
        said.append(_said("DATE", _SERIES_DATE, Date=series.date))
    if series.time:
        said.append(_said("TIME", _SERIES_TIME, Time=series.time))
    if series.description:
        said.append(_said("TEXT", _SERIES_DESCRIPTION, TextValue=series.description))
    if series.number is not None:
        said.append(_said("TEXT", _NUMBER_OF_SERIES, TextValue=str(series.number)))
    said.append(_said("UIDREF", _SERIES_UID, UID=series.series_instance_uid))
    if series.body_part:
        said.append(_said("TEXT", _REGION, TextValue=series.body_part))
    count = str(series.instance_count)
    said.append(_said("TEXT", _SERIES_INSTANCES, TextValue=count))
    said += [_library_entry(one) for one in series.instances]
    return container(CONTAINS, _GROUP, said)


def _library_entry(instance: ManifestInstance) -> Item:
    said: list[Item] = []
    if instance.frames is not None and instance.frames > 1:
        said.append(_number(_FRAMES, instance.frames, "{frames}"))
    if instance.number is not None:
        said.append(_said("TEXT", _INSTANCE_NUMBER, TextValue=str(instance.number)))
    return _content_reference(instance, said)
