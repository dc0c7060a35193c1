"""Matching and answers of the index in memory, entity by entity."""

from __future__ import annotations

import re
from collections.abc import (
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Final

from isocenter.services.archive.index.attributes import BY_TAG, Level
from isocenter.services.archive.index.matching import matches, matches_combined, normalize
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import CombinedRange, Criterion, Query
from isocenter.services.archive.index.shown_values import Said, Statements
from isocenter.storage.database.index.memory_entities import (
    STATED_BY_LEVEL,
    Entity,
    Statement,
    Texts,
    computed_texts,
)

_ONE: Final = {level: frozenset({level}) for level in Level}
_PATIENT_AND_STUDY: Final = frozenset({Level.PATIENT, Level.STUDY})
_INSTANCE_NUMBER: Final = 0x00200013
_SERIES_NUMBER: Final = 0x00200011
_STUDY_DATE: Final = 0x00080020
_STUDY_TIME: Final = 0x00080030
#: As `normalize` writes an IS; 12 characters are all that it may have (PS3.5 6.2).
_NUMBER: Final = re.compile(r"-?[0-9]{1,12}", re.ASCII)


def _of_patient(patient: Entity) -> Iterator[tuple[float, float, dict[int, str]]]:
    """What is said of a patient in all studies: since and up to when."""
    for study in patient.children.values():
        for statement in study.statements.values():
            if statement.patient is patient:
                texts = {tag: statement.said[tag] for tag in STATED_BY_LEVEL[Level.PATIENT]}
                texts |= computed_texts(Level.PATIENT, patient)
                yield statement.first, statement.last, texts


def _of_study(study: Entity) -> Iterator[tuple[Statement, dict[int, str]]]:
    of_study = computed_texts(Level.STUDY, study)
    for statement in study.statements.values():
        assert statement.patient is not None
        yield (
            statement,
            statement.said | computed_texts(Level.PATIENT, statement.patient) | of_study,
        )


def _of_part(part: Entity) -> Iterator[tuple[Statement, dict[int, str]]]:
    """What is said of a series or an instance."""
    computed = computed_texts(part.level, part)
    for statement in part.statements.values():
        yield statement, statement.said | computed


def _asked(query: Query, levels: frozenset[Level]) -> tuple[list[Criterion], list[CombinedRange]]:
    """What is asked of just these levels."""
    return (
        [c for c in query.criteria if BY_TAG[c.tag].level in levels],
        [
            both
            for both in query.combined
            if BY_TAG[both.date_tag].level in levels and BY_TAG[both.time_tag].level in levels
        ],
    )


def satisfies_all(
    texts: Mapping[int, str], criteria: Sequence[Criterion], combined: Sequence[CombinedRange]
) -> bool:
    """Whether what is said satisfies every criterion."""
    return all(matches(criterion, texts[criterion.tag]) for criterion in criteria) and all(
        matches_combined(both, texts[both.date_tag], texts[both.time_tag]) for both in combined
    )


def _part_satisfies(query: Query, part: Entity) -> bool:
    asked = _asked(query, _ONE[part.level])
    return any(satisfies_all(texts, *asked) for _, texts in _of_part(part))


def satisfies_above(query: Query, entity: Entity) -> bool:
    """Whether *entity* and what is above it satisfy what is asked at their levels."""
    if entity.level is Level.PATIENT:
        asked = _asked(query, _ONE[Level.PATIENT])
        return any(satisfies_all(texts, *asked) for _, _, texts in _of_patient(entity))
    asked = _asked(query, _PATIENT_AND_STUDY)
    study = entity.above(Level.STUDY)
    if not any(satisfies_all(texts, *asked) for _, texts in _of_study(study)):
        return False
    while entity is not study:
        if not _part_satisfies(query, entity):
            return False
        (entity,) = entity.parents
    return True


def satisfies_below(query: Query, entity: Entity) -> bool:
    """Whether a path of entities below *entity* satisfies what is asked at their levels."""
    asked = [BY_TAG[c.tag].level for c in query.criteria]
    for both in query.combined:
        asked += [BY_TAG[both.date_tag].level, BY_TAG[both.time_tag].level]
    deepest = max(asked, key=lambda level: level.depth, default=Level.PATIENT)

    def reaches(parent: Entity) -> bool:
        if parent.level.depth >= deepest.depth:
            return True
        return any(
            satisfies(parent, child) and reaches(child) for child in parent.children.values()
        )

    def satisfies(parent: Entity, child: Entity) -> bool:
        if child.level is not Level.STUDY:
            return _part_satisfies(query, child)
        criteria, _ = _asked(query, _ONE[Level.STUDY])
        # A point in time may be a date of the patient and a time of the study.
        combined = [
            both
            for both in query.combined
            if Level.STUDY in (BY_TAG[both.date_tag].level, BY_TAG[both.time_tag].level)
        ]
        return any(
            statement.patient is parent and satisfies_all(texts, criteria, combined)
            for statement, texts in _of_study(child)
        )

    return reaches(entity)


def answer(query: Query, tags: Collection[int], entity: Entity) -> dict[int, str]:
    """What is shown of *entity* where it, or what is below, matches."""

    def here(levels: frozenset[Level]) -> list[int]:
        return [tag for tag in tags if BY_TAG[tag].level in levels]

    def preferred(first: float, last: float) -> float:
        return first if query.shows_first else -last

    if entity.level is Level.PATIENT:
        grouped: dict[Texts, tuple[float, float, dict[int, str]]] = {}
        for first, last, texts in _of_patient(entity):
            key = tuple(texts.values())
            known = grouped.get(key, (first, last, texts))
            grouped[key] = min(known[0], first), max(known[1], last), texts
        ordered = sorted(grouped.values(), key=lambda one: preferred(one[0], one[1]))
        levels = _ONE[Level.PATIENT]
        patient = [Said(number, 0, one[2]) for number, one in enumerate(ordered)]
        return Statements(patient, here(levels), *_asked(query, levels)).shown()
    own = {id(statement) for statement in entity.own} if entity.level is Level.IMAGE else set()

    def order(one: tuple[Statement, dict[int, str]]) -> float:
        return preferred(one[0].first, one[0].last)

    answer: dict[int, str] = {}
    for level in list(Level)[Level.STUDY.depth : entity.level.depth + 1]:
        part = entity.above(level)
        if level is Level.STUDY:
            levels = _PATIENT_AND_STUDY
            statements = sorted(_of_study(part), key=order)
        else:
            levels = _ONE[level]
            statements = sorted(_of_part(part), key=order)
        said = [Said(id(s), id(s.patient), texts) for s, texts in statements]
        answer |= Statements(said, here(levels), *_asked(query, levels)).shown(
            next((each.number for each in said if each.number in own), None)
        )
    return {tag: answer[tag] for tag in tags}


def instance_order(entity: Entity) -> tuple[str, str, int, str]:
    """By study, series and instance number; one that has no number stands at 0."""
    assert entity.record is not None
    number = normalize("IS", entity.record.attributes.get(_INSTANCE_NUMBER, ""))
    return (
        entity.record.study_instance_uid,
        entity.record.series_instance_uid,
        int(number) if _NUMBER.fullmatch(number) else 0,
        entity.key[0],
    )


def place_in_order(query: Query, entity: Entity) -> Place:
    """Where *entity*, which matches, stands in the pages of *query*."""
    if entity.level is Level.IMAGE:
        return *instance_order(entity), entity.serial
    if entity.level is Level.PATIENT:
        patient_id, issuer = entity.key[:2]
        return patient_id, issuer, entity.serial
    study = entity.above(Level.STUDY)
    if entity.level is Level.STUDY:
        asked = _asked(query, _PATIENT_AND_STUDY)
        said = [
            (texts[_STUDY_DATE], texts[_STUDY_TIME])
            for _, texts in _of_study(study)
            if satisfies_all(texts, *asked)
        ]
        return *max(said), entity.serial
    asked = _asked(query, _ONE[Level.SERIES])
    numbers = [
        (len(number), number)
        for _, texts in _of_part(entity)
        if satisfies_all(texts, *asked)
        for number in (texts[_SERIES_NUMBER],)
    ]
    return study.key[0], *min(numbers), entity.key[0], entity.serial
