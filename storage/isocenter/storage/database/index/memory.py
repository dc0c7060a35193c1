"""Index in memory: the reference implementation, for tests and small archives.

It is the reference for what every index answers: entities in a tree, what their objects say
of them, and criteria judged one by one with `isocenter.services.archive.index.matching`.  Faster is
not its business.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import field
from time import time
from typing import Final, TypeVar

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import ATTRIBUTES, BY_TAG, UNIQUE_KEY, Level
from isocenter.services.archive.index.matching import matches, matches_combined, normalize
from isocenter.services.archive.index.query import CombinedRange, Criterion, Query
from isocenter.services.archive.index.shown_values import Said, Statements
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    IndexStatistics,
    InstanceRecord,
    OtherPatient,
    StoredInstance,
)

_BLOCK: Final = 1000
#: As `normalize` writes an IS; 12 characters are all that it may have (PS3.5 6.2).
_NUMBER: Final = re.compile(r"-?[0-9]{1,12}", re.ASCII)
_T = TypeVar("_T")

_PATIENT_ID, _ISSUER, _PATIENT_NAME, _BIRTH_DATE = 0x00100020, 0x00100021, 0x00100010, 0x00100030
_STUDY_UID, _SERIES_UID, _SOP_UID = 0x0020000D, 0x0020000E, 0x00080018
_SOP_CLASS, _MODALITY, _INSTANCE_NUMBER = 0x00080016, 0x00080060, 0x00200013
_MODALITIES_IN_STUDY, _SOP_CLASSES_IN_STUDY = 0x00080061, 0x00080062

_STATED_BY_LEVEL: Final = {
    level: tuple(a.tag for a in ATTRIBUTES if a.level is level and not a.computed)
    for level in Level
}

#: Counts: tag → how many levels below its own it counts.
_COUNTS: Final = {
    0x00201200: 1,
    0x00201202: 2,
    0x00201204: 3,
    0x00201206: 1,
    0x00201208: 2,
    0x00201209: 1,
}

_Texts = tuple[str, ...]


@dataclass(eq=False, slots=True)
class _Statement:
    """What objects say, of how many it is said, and since and up to when."""

    said: dict[int, str]
    #: Of a study: whose it is.
    patient: _Entity | None
    first: float
    last: float
    number: int = 0


@dataclass(eq=False, slots=True)
class _Entity:
    """A patient, study, series or instance.

    A study is a child of each patient that its statements name.
    """

    level: Level
    key: _Texts
    parents: list[_Entity] = field(default_factory=list)
    children: dict[_Texts, _Entity] = field(default_factory=dict)
    #: Of a study: what its objects say of it and of their patient; of a series; an instance
    #: has one.
    statements: dict[_Texts, _Statement] = field(default_factory=dict)
    stored: StoredInstance | None = None
    record: InstanceRecord | None = None
    #: Of an instance: its statements of study and series.
    own: tuple[_Statement, ...] = ()

    def below(self, depth: int) -> Iterator[_Entity]:
        """The entities *depth* levels below this one."""
        if depth == 0:
            yield self
        else:
            for child in self.children.values():
                yield from child.below(depth - 1)

    def above(self, level: Level) -> _Entity:
        """The entity of *level*, not PATIENT, that this one is or is below."""
        entity = self
        while entity.level is not level:
            (entity,) = entity.parents
        return entity


def _distinct(entities: Iterator[_Entity], tag: int) -> str:
    texts = {s.said[tag] for entity in entities for s in entity.statements.values()}
    return "\\".join(sorted(texts - {""}))


def _count(entity: _Entity, tag: int) -> str:
    return str(sum(1 for _ in entity.below(_COUNTS[tag])))


def _computed(level: Level, entity: _Entity) -> dict[int, str]:
    """What is derived for *entity*, of *level*, from what is below it."""
    texts = {tag: _count(entity, tag) for tag in _COUNTS if BY_TAG[tag].level is level}
    if level is Level.STUDY:
        texts[_MODALITIES_IN_STUDY] = _distinct(entity.below(1), _MODALITY)
        texts[_SOP_CLASSES_IN_STUDY] = _distinct(entity.below(2), _SOP_CLASS)
    return texts


def _identity(attributes: Mapping[int, str]) -> _Texts:
    patient_id = attributes.get(_PATIENT_ID, "")
    issuer = attributes.get(_ISSUER, "")
    if patient_id:
        return (patient_id, issuer)
    return ("", issuer, attributes.get(_PATIENT_NAME, ""), attributes.get(_BIRTH_DATE, ""))


def _stored_instance(record: InstanceRecord) -> StoredInstance:
    return StoredInstance(
        **{name: getattr(record, name) for name in StoredInstance.__dataclass_fields__}
    )


class MemoryIndex:
    """An `isocenter.services.archive.ports.Index` that lasts as long as the process.

    No method awaits anything between its first and its last change.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time) -> None:
        self._now = now
        self._said = 0.0
        self._patients: dict[_Texts, _Entity] = {}
        self._studies: dict[str, _Entity] = {}
        self._instances: dict[str, _Entity] = {}

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        await trio.lowlevel.checkpoint()
        outcomes = []
        emptied = []
        for record in records:
            known = self._instances.get(record.sop_instance_uid)
            previous = None if known is None else known.stored
            is_same = previous is not None and record.digest in (
                previous.digest, previous.received_digest
            )  # fmt: skip
            if known is not None and (not replace or (is_same and unless_same)):
                outcomes.append(AddResult(AddOutcome.DUPLICATE, previous))
                continue
            other = self._other_patient(record)
            if other is not None and one_patient:
                outcomes.append(AddResult(AddOutcome.OTHER_PATIENT, previous, other))
                continue
            if known is not None:
                emptied.append(self._take_out(known))
            outcome = AddOutcome.ADDED if known is None else AddOutcome.REPLACED
            outcomes.append(AddResult(outcome, previous, other))
            self._put(record)
        # Last: what is replaced by the same remains what it was.
        for series in emptied:
            self._prune(series)
        return outcomes

    def _other_patient(self, record: InstanceRecord) -> OtherPatient | None:
        study = self._studies.get(record.study_instance_uid)
        if study is None or [one.key for one in study.parents] == [_identity(record.attributes)]:
            return None
        since: dict[_Texts, float] = {}
        examples: dict[_Texts, str] = {}
        for instance in study.below(2):
            statement = instance.own[0]
            if instance.key[0] != record.sop_instance_uid:
                assert statement.patient is not None
                key = statement.patient.key
                examples[key] = instance.key[0]
                of_patient = [
                    s.first for s in study.statements.values() if s.patient is statement.patient
                ]
                since[key] = min(of_patient)
        if not since:
            return None
        first = min(since, key=since.__getitem__)
        identity = _identity(record.attributes)
        if first == identity:
            return None
        return OtherPatient(examples[first], is_first=identity not in since)

    def _put(self, record: InstanceRecord) -> None:
        attributes = {
            **record.attributes,
            _STUDY_UID: record.study_instance_uid,
            _SERIES_UID: record.series_instance_uid,
            _SOP_UID: record.sop_instance_uid,
            _SOP_CLASS: record.sop_class_uid,
        }
        said = record.stored_at
        if said is None:
            said = max(self._now(), math.nextafter(self._said, math.inf))
        self._said = max(self._said, said)
        identity = _identity(attributes)
        patient = self._patients.get(identity)
        if patient is None:
            patient = self._patients[identity] = _Entity(Level.PATIENT, identity)
        key: _Texts = (record.study_instance_uid,)
        study = self._studies.get(record.study_instance_uid)
        if study is None:
            study = self._studies[record.study_instance_uid] = _Entity(Level.STUDY, key)
        if patient not in study.parents:
            study.parents.append(patient)
            patient.children[key] = study
        series = self._child(study, Level.SERIES, (record.series_instance_uid,))
        instance = self._child(series, Level.IMAGE, (record.sop_instance_uid,))
        instance.stored = _stored_instance(record)
        instance.record = record
        instance.own = (
            _say(study, (Level.PATIENT, Level.STUDY), attributes, patient, said),
            _say(series, (Level.SERIES,), attributes, None, said),
        )
        _say(instance, (Level.IMAGE,), attributes, None, said)
        self._instances[record.sop_instance_uid] = instance

    @staticmethod
    def _child(parent: _Entity, level: Level, key: _Texts) -> _Entity:
        child = parent.children.get(key)
        if child is None:
            child = parent.children[key] = _Entity(level, key, [parent])
        return child

    def _take_out(self, instance: _Entity) -> _Entity:
        """Remove an instance, not what is empty then; its series."""
        (uid,) = instance.key
        (series,) = instance.parents
        del self._instances[uid]
        del series.children[instance.key]
        for statement in instance.own:
            statement.number -= 1
        return series

    def _prune(self, series: _Entity) -> None:
        """Remove *series* and what is above it, as far as it is empty, and what nobody says."""
        (study,) = series.parents
        for entity in (series, study):
            for key in [key for key, said in entity.statements.items() if not said.number]:
                del entity.statements[key]
        if not series.children:
            study.children.pop(series.key, None)
        for patient in list(study.parents):
            if not any(s.patient is patient for s in study.statements.values()):
                study.parents.remove(patient)
                del patient.children[study.key]
                if not patient.children:
                    del self._patients[patient.key]
        if not study.children:
            self._studies.pop(study.key[0], None)

    async def remove(self, sop_instance_uids: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()
        for uid in sop_instance_uids:
            instance = self._instances.get(uid)
            if instance is not None:
                self._prune(self._take_out(instance))

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        await trio.lowlevel.checkpoint()
        known = (self._instances.get(uid) for uid in sop_instance_uids)
        return {one.key[0]: one.stored for one in known if one is not None and one.stored}

    async def records(self, sop_instance_uids: Sequence[str]) -> Mapping[str, InstanceRecord]:
        await trio.lowlevel.checkpoint()
        known = (self._instances.get(uid) for uid in sop_instance_uids)
        found = {}
        for one in known:
            if one is not None and one.record is not None:
                found[one.key[0]] = dataclasses.replace(
                    one.record, source_ae_title="", routes=(), stored_at=None
                )
        return found

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        tags = dict.fromkeys(
            [UNIQUE_KEY[level] for level in Level if level.depth <= query.level.depth]
            + [tag for tag in query.return_tags if BY_TAG[tag].level.depth <= query.level.depth]
        )
        answers = [_answer(query, tags, entity) for entity in self._matching(query)]
        answers.sort(key=lambda answer: answer[UNIQUE_KEY[query.level]])
        async with aclosing(_blocks(answers)) as blocks:
            yield blocks

    @asynccontextmanager
    async def instances(
        self, query: Query | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredInstance]]]:
        if query is None:
            found = list(self._instances.values())
        else:
            below = (
                instance
                for entity in self._matching(query)
                for instance in entity.below(Level.IMAGE.depth - query.level.depth)
            )
            # A study of two patients is below both.
            found = list({id(instance): instance for instance in below}.values())
        found.sort(key=_instance_order)
        stored = [entity.stored for entity in found if entity.stored is not None]
        async with aclosing(_blocks(stored)) as blocks:
            yield blocks

    async def probe(self) -> None:
        await trio.lowlevel.checkpoint()

    async def check(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ()

    async def statistics(self) -> IndexStatistics:
        await trio.lowlevel.checkpoint()
        return IndexStatistics(
            patients=len(self._patients),
            studies=len(self._studies),
            series=sum(len(study.children) for study in self._studies.values()),
            instances=len(self._instances),
            size=sum(i.stored.size for i in self._instances.values() if i.stored is not None),
        )

    @asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[MemoryIndex]:
        new = MemoryIndex(self._now)
        yield new
        self._patients, self._studies = new._patients, new._studies
        self._instances, self._said = new._instances, new._said

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _matching(self, query: Query) -> Iterator[_Entity]:
        """The entities of the query's level that satisfy it, each once."""
        entities = list(self._patients.values())
        for _ in range(query.level.depth):
            below = (child for entity in entities for child in entity.children.values())
            entities = list({id(child): child for child in below}.values())
        for entity in entities:
            if _satisfies_above(query, entity) and _satisfies_below(query, entity):
                yield entity


def _say(
    entity: _Entity,
    levels: Sequence[Level],
    attributes: Mapping[int, str],
    patient: _Entity | None,
    when: float,
) -> _Statement:
    said = {tag: attributes.get(tag, "") for level in levels for tag in _STATED_BY_LEVEL[level]}
    key = tuple(said.values())
    statement = entity.statements.get(key)
    if statement is None:
        statement = entity.statements[key] = _Statement(said, patient, when, when)
    statement.number += 1
    statement.first, statement.last = min(statement.first, when), max(statement.last, when)
    return statement


def _of_patient(patient: _Entity) -> Iterator[tuple[float, float, dict[int, str]]]:
    """What is said of a patient in all studies: since and up to when."""
    for study in patient.children.values():
        for statement in study.statements.values():
            if statement.patient is patient:
                texts = {tag: statement.said[tag] for tag in _STATED_BY_LEVEL[Level.PATIENT]}
                texts |= _computed(Level.PATIENT, patient)
                yield statement.first, statement.last, texts


def _of_study(study: _Entity) -> Iterator[tuple[_Statement, dict[int, str]]]:
    of_study = _computed(Level.STUDY, study)
    for statement in study.statements.values():
        assert statement.patient is not None
        yield statement, statement.said | _computed(Level.PATIENT, statement.patient) | of_study


def _of_part(part: _Entity) -> Iterator[tuple[_Statement, dict[int, str]]]:
    """What is said of a series or an instance."""
    computed = _computed(part.level, part)
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


_ONE: Final = {level: frozenset({level}) for level in Level}
_PATIENT_AND_STUDY: Final = frozenset({Level.PATIENT, Level.STUDY})


def _satisfies(
    texts: Mapping[int, str], criteria: Sequence[Criterion], combined: Sequence[CombinedRange]
) -> bool:
    return all(matches(criterion, texts[criterion.tag]) for criterion in criteria) and all(
        matches_combined(both, texts[both.date_tag], texts[both.time_tag]) for both in combined
    )


def _part_satisfies(query: Query, part: _Entity) -> bool:
    asked = _asked(query, _ONE[part.level])
    return any(_satisfies(texts, *asked) for _, texts in _of_part(part))


def _satisfies_above(query: Query, entity: _Entity) -> bool:
    """Whether *entity* and what is above it satisfy what is asked at their levels."""
    if entity.level is Level.PATIENT:
        asked = _asked(query, _ONE[Level.PATIENT])
        return any(_satisfies(texts, *asked) for _, _, texts in _of_patient(entity))
    asked = _asked(query, _PATIENT_AND_STUDY)
    study = entity.above(Level.STUDY)
    if not any(_satisfies(texts, *asked) for _, texts in _of_study(study)):
        return False
    while entity is not study:
        if not _part_satisfies(query, entity):
            return False
        (entity,) = entity.parents
    return True


def _satisfies_below(query: Query, entity: _Entity) -> bool:
    """Whether a path of entities below *entity* satisfies what is asked at their levels."""
    asked = [BY_TAG[c.tag].level for c in query.criteria]
    for both in query.combined:
        asked += [BY_TAG[both.date_tag].level, BY_TAG[both.time_tag].level]
    deepest = max(asked, key=lambda level: level.depth, default=Level.PATIENT)

    def reaches(parent: _Entity) -> bool:
        if parent.level.depth >= deepest.depth:
            return True
        return any(
            satisfies(parent, child) and reaches(child) for child in parent.children.values()
        )

    def satisfies(parent: _Entity, child: _Entity) -> bool:
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
            statement.patient is parent and _satisfies(texts, criteria, combined)
            for statement, texts in _of_study(child)
        )

    return reaches(entity)


def _answer(query: Query, tags: Collection[int], entity: _Entity) -> dict[int, str]:
    def here(levels: frozenset[Level]) -> list[int]:
        return [tag for tag in tags if BY_TAG[tag].level in levels]

    def preferred(first: float, last: float) -> float:
        return first if query.shows_first else -last

    if entity.level is Level.PATIENT:
        grouped: dict[_Texts, tuple[float, float, dict[int, str]]] = {}
        for first, last, texts in _of_patient(entity):
            key = tuple(texts.values())
            known = grouped.get(key, (first, last, texts))
            grouped[key] = min(known[0], first), max(known[1], last), texts
        ordered = sorted(grouped.values(), key=lambda one: preferred(one[0], one[1]))
        levels = _ONE[Level.PATIENT]
        patient = [Said(number, 0, one[2]) for number, one in enumerate(ordered)]
        return Statements(patient, here(levels), *_asked(query, levels)).shown()
    own = {id(statement) for statement in entity.own} if entity.level is Level.IMAGE else set()

    def order(one: tuple[_Statement, dict[int, str]]) -> float:
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


def _instance_order(entity: _Entity) -> tuple[str, str, int, str]:
    """By study, series and instance number; one that has no number stands at 0."""
    assert entity.record is not None
    number = normalize("IS", entity.record.attributes.get(_INSTANCE_NUMBER, ""))
    return (
        entity.record.study_instance_uid,
        entity.record.series_instance_uid,
        int(number) if _NUMBER.fullmatch(number) else 0,
        entity.key[0],
    )


async def _blocks(values: Sequence[_T]) -> AsyncGenerator[Sequence[_T], None]:
    for start in range(0, len(values), _BLOCK):
        await trio.lowlevel.checkpoint()
        yield values[start : start + _BLOCK]
