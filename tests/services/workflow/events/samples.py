"""Events made to order."""

from __future__ import annotations

from isocenter.services.workflow.events.event import StudyComplete, StudyOpened


def opened_study(study: str) -> StudyOpened:
    return StudyOpened(study_instance_uid=study, accession_number="A1", source_ae_title="CT1")


def complete_study(study: str) -> StudyComplete:
    return StudyComplete(
        study_instance_uid=study,
        accession_number="A1",
        modalities=("CT",),
        series=1,
        instances=2,
        received=2,
        reason="quiet",
        first_at="2026-11-21T08:00:00.000+00:00",
        last_at="2026-11-21T08:00:01.000+00:00",
        times=1,
    )
