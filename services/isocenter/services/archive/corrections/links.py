"""Queries that follow the links between patients who are one person.

A link changes no object: both patients stay, each with its own ID.  Whoever asks for one of them
by the ID may be answered for all that are linked to it, step by step: a group.  Of a group in which
two were told apart no link is followed, until somebody has taken back the one that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isocenter.services.archive.corrections.ports import LinkedPatients
from isocenter.services.archive.corrections.values import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    PatientKey,
)
from isocenter.services.archive.index.query import Criterion, Query, SingleValue


async def followed(query: Query, links: LinkedPatients | None) -> Sequence[Query]:
    """*query*, and the same for each patient that is linked to the one that it asks for by ID."""
    if links is None:
        return (query,)
    matches = {each.tag: each.match for each in query.criteria}
    patient_id = matches.get(PATIENT_ID)
    issuer = matches.get(ISSUER_OF_PATIENT_ID)
    if not isinstance(patient_id, SingleValue) or not isinstance(issuer, SingleValue | None):
        return (query,)
    linked = await links.linked(patient_id.value, None if issuer is None else issuer.value)
    rest = tuple(
        each for each in query.criteria if each.tag not in (PATIENT_ID, ISSUER_OF_PATIENT_ID)
    )
    return (query, *(replace(query, criteria=(*_named(each), *rest)) for each in linked))


def _named(patient: PatientKey) -> Sequence[Criterion]:
    criteria = [Criterion(PATIENT_ID, SingleValue(patient.patient_id))]
    if patient.issuer:
        criteria.append(Criterion(ISSUER_OF_PATIENT_ID, SingleValue(patient.issuer)))
    return criteria
