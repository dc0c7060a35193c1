"""Manifests of studies that exist nowhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from isocenter.services.integration.sharing.key_object_manifest import (
    DocumentIdentity,
    ManifestForm,
)
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestInstance,
    ManifestPatient,
    ManifestSeries,
    Retrieval,
    StudyManifest,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.33"
ROOT = "1.2.826.0.1.3680043.10.999.7"
MADE_AT = datetime(2026, 11, 30, 7, 30, 15, tzinfo=UTC)
PATIENT = ManifestPatient(
    patient_id="P1",
    issuer="CLINIC",
    name="Müller^Jörg^^Dr.=ミュラー^ヨルク",
    birth_date="19700102",
    sex="O",
)


def series(number: int, sop_class: str = CT, count: int = 3, **values: Any) -> ManifestSeries:
    """A series of so many instances."""
    uid = f"{ROOT}.{number}"
    instances = tuple(
        ManifestInstance(
            sop_instance_uid=f"{uid}.{each}",
            sop_class_uid=sop_class,
            number=each,
            frames=12 if sop_class == ENHANCED_CT else None,
        )
        for each in range(1, count + 1)
    )
    made = ManifestSeries(
        series_instance_uid=uid,
        modality="CT",
        number=number,
        description=f"Series {number}",
        body_part="CHEST",
        laterality="R",
        date="20260102",
        time="101501.123",
        instances=instances,
        instance_count=count,
    )
    return replace(made, **values)


def manifest(**values: Any) -> StudyManifest:
    """A study of three series."""
    made = StudyManifest(
        study_instance_uid=ROOT,
        patient=PATIENT,
        date="20260102",
        time="101500",
        accession_number="A1",
        study_id="1",
        description="CT Thorax",
        referring_physician="Recommends^Anna",
        institution="Clinic",
        series=(
            series(1),
            series(2, ENHANCED_CT, 1),
            series(3, ECG, 1, modality="ECG", laterality="", body_part=""),
            series(4, SR, 1, modality="SR", laterality="", body_part=""),
        ),
        retrieval=Retrieval(
            wado_rs="https://archive.example/dicomweb",
            location_uid="1.2.826.0.1.3680043.10.999.99",
            ae_title="ISOCENTER",
        ),
        authorities=AssigningAuthorities(
            patient_ids="1.3.6.1.4.1.1",
            by_issuer={"CLINIC": "1.3.6.1.4.1.2"},
            accession_numbers="1.3.6.1.4.1.3",
        ),
    )
    return replace(made, **values)


def identity(form: ManifestForm = ManifestForm.XDS_I) -> DocumentIdentity:
    """Of one document."""
    return DocumentIdentity(document_uid=f"{ROOT}.900", made_at=MADE_AT, form=form)
