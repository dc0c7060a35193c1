"""Which earlier studies are fetched."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.prefetch.body_regions import regions_in
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


def test_the_same_region_of_the_body_counts_less_than_the_modality() -> None:
    patient = replace(PATIENT, description="CT Thorax nativ")
    studies = [
        replace(study("1.1", "20260101"), study_description="CT Abdomen"),
        replace(study("1.2", "20200101", "MR"), study_description="MR Lunge"),
        replace(study("1.3", "20230101"), study_description="Chest w/o contrast"),
        replace(study("1.4", "20260201", "MR"), study_description="MR Schädel"),
        replace(study("1.5", "20220101", "CR"), study_description="CXR pa"),
    ]
    rules = PriorRules(look_back=10 * 365)
    found = choose_priors(studies, patient, rules, TODAY)
    assert [each.study_instance_uid for each in found] == ["1.3", "1.1", "1.5", "1.2", "1.4"]


def test_modalities_narrow_it() -> None:
    studies = (
        study("1.1", "20260101", "SR"),
        study("1.2", "20260102", "CT\\SR"),
        study("1.3", "20260103", "US"),
        study("1.4", "20260104", ""),
    )
    assert chosen(*studies, rules=PriorRules(not_modalities=frozenset({"SR", "PR"}))) == [
        "1.2", "1.4", "1.3",
    ]  # fmt: skip
    assert chosen(*studies, rules=PriorRules(modalities=frozenset({"US"}))) == ["1.3"]


def test_regions_are_known_by_whole_words_with_and_without_accents() -> None:
    assert regions_in("Röntgen HÜFTE links") == {"hip"}
    assert regions_in("CT CHEST/ABDOMEN") == {"chest", "abdomen"}
    assert regions_in("Neckarsulm, Handel, Kniepe") == frozenset()
    assert regions_in("") == frozenset()
