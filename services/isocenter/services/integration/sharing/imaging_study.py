"""FHIR ImagingStudy of a manifest, with its patient and its endpoint (R4, R5)."""

from __future__ import annotations

from datetime import tzinfo
from typing import Final

from isocenter.services.integration.sharing.fhir_values import (
    FhirRelease,
    Json,
    accession_identifier,
    codeable,
    coding,
    date_of,
    date_time_of,
    display_name,
    gender,
    human_names,
    is_id,
    patient_identifier,
    patient_key,
    single_line,
    study_identifier,
    uid_urn,
    unknown,
)
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    ManifestInstance,
    ManifestPatient,
    ManifestSeries,
    StudyManifest,
)

_SNOMED: Final = "http://snomed.info/sct"
_LATERALITIES: Final = {
    "R": ("24028007", "Right"),
    "L": ("7771000", "Left"),
    "B": ("51440002", "Right and left"),
}
_URI: Final = "urn:ietf:rfc:3986"
_CONNECTION: Final = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
_PAYLOAD: Final = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
_LOCATION: Final = (
    "https://profiles.ihe.net/RAD/MADO/StructureDefinition/MadoRetrieveLocationUIDExtension"
)
_ENDPOINT: Final = "wado-rs"


def imaging_study(
    manifest: StudyManifest,
    release: FhirRelease,
    *,
    subject: str = "",
    zone: tzinfo | None = None,
) -> Json:
    """The resource.

    Args:
        subject: the URL of its patient; empty: as this server has it.
        zone: of times in the archive; None: that of this machine.

    Raises:
        ManifestError: FHIR cannot express it, for a UID is none.
    """
    check_uids(manifest)
    is_r4 = release is FhirRelease.R4
    identifiers = [study_identifier(manifest.study_instance_uid)]
    found: Json = {
        "resourceType": "ImagingStudy",
        "id": manifest.study_instance_uid,
        "identifier": identifiers,
        "status": "available",
        "subject": patient_reference(manifest.patient, manifest.authorities, subject),
        "numberOfSeries": len(manifest.series),
        "numberOfInstances": manifest.instance_count,
    }
    if manifest.modalities:
        found["modality"] = [coding(one) if is_r4 else codeable(one) for one in manifest.modalities]
    started = date_time_of(manifest.date, manifest.time, zone)
    if started:
        found["started"] = started
    if number := single_line(manifest.accession_number):
        accession = accession_identifier(number, manifest.authorities)
        identifiers.append(accession)
        found["basedOn"] = [{"type": "ServiceRequest", "identifier": accession}]
    if referrer := display_name(manifest.referring_physician):
        found["referrer"] = {"display": single_line(referrer)}
    if description := single_line(manifest.description):
        found["description"] = description
    if manifest.retrieval.wado_rs or manifest.retrieval.location_uid:
        found["contained"] = [_endpoint(manifest, release)]
        found["endpoint"] = [{"reference": f"#{_ENDPOINT}"}]
    if manifest.series:
        found["series"] = [_series(one, release, zone) for one in manifest.series]
        if "endpoint" in found:
            for one in found["series"]:
                one["endpoint"] = [{"reference": f"#{_ENDPOINT}"}]
    return found


def patient_resource(patient: ManifestPatient, authorities: AssigningAuthorities) -> Json:
    """A patient, the same in both releases."""
    found: Json = {"resourceType": "Patient"}
    if key := patient_key(patient):
        found["id"] = key
    if patient.patient_id:
        found["identifier"] = [patient_identifier(patient, authorities)]
    if names := human_names(patient.name):
        found["name"] = names
    if patient.sex.strip():
        found["gender"] = gender(patient.sex)
    if born := date_of(patient.birth_date):
        found["birthDate"] = born
    return found


def patient_reference(
    patient: ManifestPatient, authorities: AssigningAuthorities, url: str = ""
) -> Json:
    """A reference to a patient: by URL where there is one, and by its identifier."""
    found: Json = {"type": "Patient"}
    key = patient_key(patient)
    if url or key:
        found["reference"] = url or f"Patient/{key}"
    if patient.patient_id:
        found["identifier"] = patient_identifier(patient, authorities)
    if len(found) == 1:
        # A study of nobody: what has to be there is not known.
        found |= unknown()
    return found


def check_uids(manifest: StudyManifest) -> None:
    """Raise `ManifestError` where a UID cannot be a value of FHIR."""
    uids = [manifest.study_instance_uid]
    uids += [one.series_instance_uid for one in manifest.series]
    uids += [one.sop_instance_uid for _, one in manifest.instances()]
    if not all(map(is_id, uids)):
        raise ManifestError("a UID of the study is none; FHIR cannot express that")


def _series(series: ManifestSeries, release: FhirRelease, zone: tzinfo | None) -> Json:
    is_r4 = release is FhirRelease.R4
    found: Json = {
        "uid": series.series_instance_uid,
        "modality": _modality(series.modality, is_r4=is_r4),
        "numberOfInstances": series.instance_count,
    }
    if series.number is not None and series.number >= 0:
        found["number"] = series.number
    if description := single_line(series.description):
        found["description"] = description
    if part := single_line(series.body_part):
        # Without the table of PS3.16 Annex L a code of ours would claim more than is known.
        found["bodySite"] = {"display": part} if is_r4 else {"concept": {"text": part}}
    if side := _LATERALITIES.get(series.laterality.strip().upper()):
        code, display = side
        one = coding(code, _SNOMED, display)
        found["laterality"] = one if is_r4 else {"coding": [one]}
    if started := date_time_of(series.date, series.time, zone):
        found["started"] = started
    if series.instances:
        found["instance"] = [_instance(one) for one in series.instances]
    return found


def _modality(modality: str, *, is_r4: bool) -> Json:
    one = coding(modality) if modality else unknown()
    return one if is_r4 or not modality else {"coding": [one]}


def _instance(instance: ManifestInstance) -> Json:
    found: Json = {
        "uid": instance.sop_instance_uid,
        "sopClass": coding(uid_urn(instance.sop_class_uid), _URI),
    }
    if instance.number is not None and instance.number >= 0:
        found["number"] = instance.number
    return found


def _endpoint(manifest: StudyManifest, release: FhirRelease) -> Json:
    """Where the instances can be had, by WADO-RS."""
    retrieval = manifest.retrieval
    connection = coding("dicom-wado-rs", _CONNECTION, "DICOM WADO-RS")
    payload = {"coding": [coding("none", _PAYLOAD)], "text": "DICOM WADO-RS"}
    found: Json = {
        "resourceType": "Endpoint",
        "id": _ENDPOINT,
        "status": "active",
        # An address has to be there; where there is none the location UID names the service.
        "address": retrieval.wado_rs or "http://notspecified",
    }
    if not retrieval.wado_rs:
        found["_address"] = unknown()
    if retrieval.location_uid:
        found["extension"] = [{"url": _LOCATION, "valueString": retrieval.location_uid}]
    if release is FhirRelease.R4:
        found["connectionType"] = connection
        found["payloadType"] = [payload]
        found["payloadMimeType"] = ["application/dicom"]
    else:
        found["connectionType"] = [{"coding": [connection]}]
        found["payload"] = [{"type": [payload], "mimeType": ["application/dicom"]}]
    return found
