"""Which earlier studies are fetched."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.prefetch.priors import (
    PriorRules,
    ScheduledPatient,
    choose_priors,
)

TODAY = date(2026, 11, 30)
PATIENT = ScheduledPatient(patient_id="P1", modality="CT", study_instance_uid="1.9")


def study(uid: str, day: str, modalities: str = "CT", patient: str = "P1") -> RemoteStudy:
    return RemoteStudy(
        study_instance_uid=uid, study_date=day, modalities=modalities, patient_id=patient
    )


def chosen(*studies: RemoteStudy, rules: PriorRules | None = None) -> list[str]:
    found = choose_priors(studies, PATIENT, rules or PriorRules(), TODAY)
    return [each.study_instance_uid for each in found]


def test_the_same_modality_comes_first_and_then_the_newest() -> None:
    assert chosen(
        study("1.1", "20260101", "MR"),
        study("1.2", "20250101"),
        study("1.3", "20261129", "MR\\US"),
        study("1.4", "20240101", "SR, CT"),
    ) == ["1.2", "1.4", "1.3", "1.1"]


def test_what_is_none_of_the_patients_priors_is_left_out() -> None:
    good = study("1.1", "20261130")
    assert chosen(
        good,
        replace(good, study_instance_uid="1.9"),
        study("1.2", ""),
        study("1.3", "20261201"),
        study("1.4", "20211201"),
        study("1.5", "19990101"),
        study("1.6", "20260101", patient="P10"),
        good,
    ) == ["1.1", "1.4"]
    only = PriorRules(look_back=365, same_modality_only=True)
    assert chosen(good, study("1.7", "20261001", "MR"), study("1.8", "20251101"), rules=only) == [
        "1.1"
    ]
    assert chosen(study("1.1", "2026.01.05")) == ["1.1"], "as old archives write it"
