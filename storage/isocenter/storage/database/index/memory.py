"""Index in memory: the reference implementation, for tests and small archives.

It is the reference for what every index answers: entities in a tree, what their objects say
of them, and criteria judged one by one with `isocenter.services.archive.index.matching`.  Faster is
not its business.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from itertools import count
from operator import itemgetter
from time import time
from typing import Final, TypeVar

import trio

from isocenter.services.archive.index.attributes import BY_TAG, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import FoundPage, Page, Query
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    InstanceRecord,
    OtherPatient,
    StoredInstance,
)
from isocenter.storage.database.index.memory_answers import (
    answer,
    instance_order,
    place_in_order,
    satisfies_above,
    satisfies_below,
)
from isocenter.storage.database.index.memory_entities import (
    Entity,
    Texts,
    add_statement,
    patient_identity,
)

_STUDY_UID, _SERIES_UID, _SOP_UID = 0x0020000D, 0x0020000E, 0x00080018
_SOP_CLASS = 0x00080016
_BLOCK: Final = 1000
_T = TypeVar("_T")


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
        self._serial = count()
        self._patients: dict[Texts, Entity] = {}
        self._studies: dict[str, Entity] = {}
        self._instances: dict[str, Entity] = {}

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
        if study is None or [one.key for one in study.parents] == [
            patient_identity(record.attributes)
        ]:
            return None
        since: dict[Texts, float] = {}
        examples: dict[Texts, str] = {}
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
        identity = patient_identity(record.attributes)
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
        identity = patient_identity(attributes)
        patient = self._patients.get(identity)
        if patient is None:
            patient = self._patients[identity] = self._new(Level.PATIENT, identity)
        key: Texts = (record.study_instance_uid,)
        study = self._studies.get(record.study_instance_uid)
        if study is None:
            study = self._studies[record.study_instance_uid] = self._new(Level.STUDY, key)
        if patient not in study.parents:
            study.parents.append(patient)
            patient.children[key] = study
        series = self._child(study, Level.SERIES, (record.series_instance_uid,))
        instance = self._child(series, Level.IMAGE, (record.sop_instance_uid,))
        instance.stored = _stored_instance(record)
        instance.record = record
        instance.own = (
            add_statement(study, (Level.PATIENT, Level.STUDY), attributes, patient, said),
            add_statement(series, (Level.SERIES,), attributes, None, said),
        )
        add_statement(instance, (Level.IMAGE,), attributes, None, said)
        self._instances[record.sop_instance_uid] = instance

    def _child(self, parent: Entity, level: Level, key: Texts) -> Entity:
        child = parent.children.get(key)
        if child is None:
            child = parent.children[key] = self._new(level, key)
            child.parents.append(parent)
        return child

    def _new(self, level: Level, key: Texts) -> Entity:
        return Entity(level, key, next(self._serial))

    def _take_out(self, instance: Entity) -> Entity:
        """Remove an instance, not what is empty then; its series."""
        (uid,) = instance.key
        (series,) = instance.parents
        del self._instances[uid]
        del series.children[instance.key]
        for statement in instance.own:
            statement.number -= 1
        return series

    def _prune(self, series: Entity) -> None:
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
        tags = _tags(query)
        answers = [answer(query, tags, entity) for entity in self._matching(query)]
        answers.sort(key=lambda answer: answer[UNIQUE_KEY[query.level]])
        async with aclosing(_blocks(answers)) as blocks:
            yield blocks

    async def find_page(self, query: Query, page: Page) -> FoundPage:
        await trio.lowlevel.checkpoint()
        tags = _tags(query)
        standing = [(place_in_order(query, one), one) for one in self._matching(query)]
        is_descending = query.level is Level.STUDY
        standing.sort(key=itemgetter(0), reverse=is_descending)
        after, before = page.after, page.before
        if is_descending:
            after, before = before, after
        if after is not None:
            standing = [one for one in standing if one[0] > after]
        if before is not None:
            standing = [one for one in standing if one[0] < before]
        if page.before is not None:
            standing.reverse()
        standing = standing[page.offset : page.offset + page.limit]
        if page.before is not None:
            standing.reverse()
        return FoundPage(
            matches=[answer(query, tags, entity) for _, entity in standing],
            places=[place for place, _ in standing],
        )

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
        found.sort(key=instance_order)
        stored = [entity.stored for entity in found if entity.stored is not None]
        async with aclosing(_blocks(stored)) as blocks:
            yield blocks

    async def probe(self) -> None:
        await trio.lowlevel.checkpoint()

    async def sync(self) -> None:
        pass  # nothing survives

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
        self._serial = new._serial

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _matching(self, query: Query) -> Iterator[Entity]:
        """The entities of the query's level that satisfy it, each once."""
        entities = list(self._patients.values())
        for _ in range(query.level.depth):
            below = (child for entity in entities for child in entity.children.values())
            entities = list({id(child): child for child in below}.values())
        for entity in entities:
            if satisfies_above(query, entity) and satisfies_below(query, entity):
                yield entity


def _tags(query: Query) -> Mapping[int, None]:
    """What is answered: the unique keys, and what is asked for."""
    return dict.fromkeys(
        [UNIQUE_KEY[level] for level in Level if level.depth <= query.level.depth]
        + [tag for tag in query.return_tags if BY_TAG[tag].level.depth <= query.level.depth]
    )


async def _blocks(values: Sequence[_T]) -> AsyncGenerator[Sequence[_T], None]:
    for start in range(0, len(values), _BLOCK):
        await trio.lowlevel.checkpoint()
        yield values[start : start + _BLOCK]
