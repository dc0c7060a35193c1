"""Priors: which earlier studies of a patient are worth having, and in which order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.prefetch.body_regions import regions_in

#: What a study of the modality that is scheduled counts more than others.
_SAME_MODALITY: Final = 10
#: The same of the region of the body.
_SAME_REGION: Final = 5
_SEPARATORS: Final = re.compile(r"[,\\\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorRules:
    """Which studies are fetched.

    Attributes:
        look_back: days before today from which they may be.
        most: of one patient, and one scheduled step.
        same_modality_only: none of other modalities.
        modalities: of which a study has one; empty: any.
        not_modalities: studies that have nothing but these are left out.
    """

    look_back: int = 5 * 365
    most: int = 3
    same_modality_only: bool = False
    modalities: frozenset[str] = frozenset()
    not_modalities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledPatient:
    """Whose priors are wanted, and for what.

    Attributes:
        study_instance_uid: of the study that is scheduled; empty: not known yet.
        description: of what is scheduled.
    """

    patient_id: str
    modality: str
    study_instance_uid: str = ""
    description: str = ""


def choose_priors(
    studies: Iterable[RemoteStudy], patient: ScheduledPatient, rules: PriorRules, today: date
) -> list[RemoteStudy]:
    """Those worth having, the most wanted first: of the same modality, of the same region of the
    body as far as descriptions say so, then the newest.

    A study of no date, of the future, or of another patient than was asked for is none.
    """
    earliest = (today - timedelta(days=rules.look_back)).strftime("%Y%m%d")
    latest = today.strftime("%Y%m%d")
    regions = regions_in(patient.description)
    found: dict[str, tuple[int, str, RemoteStudy]] = {}
    for study in studies:
        day = study.study_date.replace(".", "").replace("-", "")
        modalities = frozenset(filter(None, _SEPARATORS.split(study.modalities)))
        is_same = patient.modality in modalities
        is_wanted = not rules.modalities or bool(rules.modalities & modalities)
        if modalities and modalities <= rules.not_modalities:
            is_wanted = False
        if (
            study.patient_id.strip() != patient.patient_id
            or study.study_instance_uid == patient.study_instance_uid
            or not earliest <= day <= latest
            or (rules.same_modality_only and not is_same)
            or not is_wanted
        ):
            continue
        score = _SAME_MODALITY if is_same else 0
        if regions & regions_in(study.study_description):
            score += _SAME_REGION
        found.setdefault(study.study_instance_uid, (score, day, study))
    ordered = sorted(found.values(), key=lambda each: each[:2], reverse=True)
    return [study for _, _, study in ordered]
