"""FHIR resources of manifests, judged by the models of fhir.resources (R4B and R5)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from fhir.resources.endpoint import Endpoint as EndpointR5
from fhir.resources.imagingstudy import ImagingStudy as ImagingStudyR5
from fhir.resources.patient import Patient as PatientR5
from fhir.resources.R4B.imagingstudy import ImagingStudy as ImagingStudyR4B
from fhir.resources.R4B.patient import Patient as PatientR4B

from isocenter.services.integration.sharing.fhir_values import (
    FhirRelease,
    date_time_of,
    human_names,
    patient_key,
    read_patient_key,
)
from isocenter.services.integration.sharing.imaging_study import imaging_study, patient_resource
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    ManifestPatient,
    Retrieval,
    StudyManifest,
)
from services.integration.sharing.samples import CT, PATIENT, ROOT, manifest, series

RELEASES = pytest.mark.parametrize("release", list(FhirRelease))
MODELS: dict[FhirRelease, Any] = {
    FhirRelease.R4: ImagingStudyR4B,
    FhirRelease.R5: ImagingStudyR5,
}
ZONE = ZoneInfo("Europe/Berlin")


@RELEASES
@pytest.mark.parametrize(
    "of",
    [
        manifest(),
        manifest(retrieval=Retrieval(location_uid="1.2.3")),
        manifest(retrieval=Retrieval(), authorities=AssigningAuthorities()),
        manifest(patient=ManifestPatient(), accession_number="", date=""),
        manifest(series=(series(1, modality="", laterality="B", time=""),)),
        StudyManifest(study_instance_uid=ROOT, patient=ManifestPatient(name="A^B C^D^E^F=&^&")),
    ],
)
def test_resources_are_what_their_release_defines(of: StudyManifest, release: FhirRelease) -> None:
    made = imaging_study(of, release, zone=ZONE)
    found = MODELS[release].model_validate_json(orjson.dumps(made))
    # What the model did not know would be missing here.
    assert orjson.loads(found.model_dump_json()) == made
    patient = patient_resource(of.patient, of.authorities)
    model = PatientR4B if release is FhirRelease.R4 else PatientR5
    assert orjson.loads(model.model_validate_json(orjson.dumps(patient)).model_dump_json()) == (
        patient
    )


def test_an_endpoint_says_where_instances_are() -> None:
    made = imaging_study(manifest(), FhirRelease.R5)
    (endpoint,) = made["contained"]
    EndpointR5.model_validate_json(orjson.dumps(endpoint))
    assert endpoint["address"] == "https://archive.example/dicomweb"
    assert made["endpoint"] == [{"reference": "#wado-rs"}]
    (extension,) = endpoint["extension"]
    assert extension["valueString"] == "1.2.826.0.1.3680043.10.999.99"


def test_a_study_is_told_with_its_series_and_instances() -> None:
    made = imaging_study(manifest(), FhirRelease.R4, zone=ZONE)
    assert made["id"] == ROOT
    assert [one["value"] for one in made["identifier"]] == [f"urn:oid:{ROOT}", "A1"]
    assert made["identifier"][1]["system"] == "urn:oid:1.3.6.1.4.1.3"
    assert [one["code"] for one in made["modality"]] == ["CT", "ECG", "SR"]
    assert made["started"] == "2026-01-02T10:15:00+01:00"
    assert (made["numberOfSeries"], made["numberOfInstances"]) == (4, 6)
    first = made["series"][0]
    assert first["laterality"]["code"] == "24028007"
    assert first["instance"][0]["sopClass"]["code"] == f"urn:oid:{CT}"
    assert made["subject"]["identifier"]["system"] == "urn:oid:1.3.6.1.4.1.2"


@RELEASES
def test_what_is_not_known_is_not_claimed(release: FhirRelease) -> None:
    bare = StudyManifest(
        study_instance_uid=ROOT, patient=ManifestPatient(), series=(series(1, modality=""),)
    )
    made = imaging_study(bare, release)
    for one in (made["subject"], made["series"][0]["modality"]):
        assert one["extension"][0]["valueCode"] == "unknown"
    assert "started" not in made
    assert "basedOn" not in made
    assert patient_resource(ManifestPatient(sex="X"), AssigningAuthorities())["gender"] == "unknown"


def test_a_uid_that_fhir_cannot_have_is_refused() -> None:
    with pytest.raises(ManifestError, match="FHIR cannot express"):
        imaging_study(manifest(study_instance_uid="1.2_3"), FhirRelease.R4)


@pytest.mark.parametrize(
    ("date", "time", "zone", "told"),
    [
        ("20260102", "101500", ZONE, "2026-01-02T10:15:00+01:00"),
        ("2026.01.02", "10:15", ZONE, "2026-01-02T10:15:00+01:00"),
        ("20260702", "1015", ZONE, "2026-07-02T10:15:00+02:00"),
        ("20260102", "101500", None, datetime(2026, 1, 2, 10, 15).astimezone().isoformat()),
        ("20260102", "", ZONE, "2026-01-02"),
        ("20260102", "10", ZONE, "2026-01-02"),
        ("20260102", "235960", ZONE, "2026-01-02"),
        ("20260230", "101500", ZONE, ""),
        ("", "101500", ZONE, ""),
        ("2026010", "", ZONE, ""),
    ],
)
def test_times_have_a_zone_or_are_dates(
    date: str, time: str, zone: ZoneInfo | None, told: str
) -> None:
    assert date_time_of(date, time, zone) == told


def test_names_are_taken_apart_by_group() -> None:
    alphabetic, ideographic = human_names(PATIENT.name)
    assert alphabetic["family"] == "Müller"
    assert alphabetic["given"] == ["Jörg"]
    assert alphabetic["prefix"] == ["Dr."]
    assert ideographic["extension"][0]["valueCode"] == "IDE"
    assert human_names("") == []
    assert human_names("Single") == [{"use": "official", "family": "Single"}]


@pytest.mark.parametrize(
    "patient",
    [
        PATIENT,
        ManifestPatient(patient_id="P1"),
        ManifestPatient(patient_id="Ünïcödé?/>>~", issuer="A^B"),
    ],
)
def test_ids_of_patients_lead_back_to_them(patient: ManifestPatient) -> None:
    key = patient_key(patient)
    assert read_patient_key(key) == (patient.patient_id, patient.issuer)


def test_ids_that_are_not_ours_lead_nowhere() -> None:
    assert patient_key(ManifestPatient(patient_id="P" * 64)) == ""
    assert patient_key(ManifestPatient()) == ""
    # UDF= is the same bytes as UDE=, and not what we write.
    for key in ("UDF", "", "?", "a", "UDE.", "-" * 64, "é"):
        assert (
            read_patient_key(key) is None
            or patient_key(
                ManifestPatient(patient_id=read_patient_key(key)[0])  # type: ignore[index]
            )
            == key
        )
