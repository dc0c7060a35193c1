"""An index in plain dictionaries: for tests, and for an archive that nobody wants to keep.

It is the reference for what every index answers: entities in a tree, and criteria
judged one by one with `isocenter.services.index.matching`.  Faster is not its business.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import trio

from isocenter.services.index.attributes import ATTRIBUTES, BY_TAG, UNIQUE_KEY, Level
from isocenter.services.index.matching import matches, matches_combined, normalize
from isocenter.services.index.query import CombinedRange, Criterion, Query
from isocenter.services.ports import (
    Added,
    IndexStatistics,
    InstanceRecord,
    Outcome,
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

#: What is known of an entity when it comes into being, and never filled in later.
_IDENTITY: Final = frozenset({_PATIENT_ID, _ISSUER, _STUDY_UID, _SERIES_UID, _SOP_UID, _SOP_CLASS})

_STORED_BY_LEVEL: Final = {
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


@dataclass(eq=False, slots=True)
class _Entity:
    """A patient, study, series or instance; the root of the tree has no level."""

    level: Level | None = None
    parent: _Entity | None = None
    key: tuple[str, ...] = ()
    values: dict[int, str] = field(default_factory=dict)
    children: dict[tuple[str, ...], _Entity] = field(default_factory=dict)
    stored: StoredInstance | None = None

    def fill(self, attributes: Mapping[int, str]) -> None:
        """Take what this entity has no value for yet; its identity is never filled in."""
        assert self.level is not None
        is_new = not self.values
        for tag in _STORED_BY_LEVEL[self.level]:
            if not self.values.get(tag) and (is_new or tag not in _IDENTITY):
                self.values[tag] = attributes.get(tag, "")

    def below(self, depth: int) -> Iterator[_Entity]:
        """The entities *depth* levels below this one."""
        if depth == 0:
            yield self
        else:
            for child in self.children.values():
                yield from child.below(depth - 1)

    def value(self, tag: int) -> str:
        """The text of an attribute of this entity's level or of one above."""
        attribute = BY_TAG[tag]
        entity = self
        while entity.level is not attribute.level:
            assert entity.parent is not None
            entity = entity.parent
        if tag in _COUNTS:
            return str(sum(1 for _ in entity.below(_COUNTS[tag])))
        if tag == _MODALITIES_IN_STUDY:
            return _distinct(entity.below(1), _MODALITY)
        if tag == _SOP_CLASSES_IN_STUDY:
            return _distinct(entity.below(2), _SOP_CLASS)
        return entity.values[tag]


def _distinct(entities: Iterator[_Entity], tag: int) -> str:
    return "\\".join(sorted({entity.values[tag] for entity in entities} - {""}))


def _identity(attributes: Mapping[int, str]) -> tuple[str, ...]:
    patient_id = attributes.get(_PATIENT_ID, "")
    issuer = attributes.get(_ISSUER, "")
    if patient_id:
        return (patient_id, issuer)
    return ("", issuer, attributes.get(_PATIENT_NAME, ""), attributes.get(_BIRTH_DATE, ""))


def _stored_instance(record: InstanceRecord) -> StoredInstance:
    return StoredInstance(
        sop_instance_uid=record.sop_instance_uid,
        sop_class_uid=record.sop_class_uid,
        study_instance_uid=record.study_instance_uid,
        series_instance_uid=record.series_instance_uid,
        transfer_syntax_uid=record.transfer_syntax_uid,
        object_key=record.object_key,
        size=record.size,
        data_set_offset=record.data_set_offset,
        digest=record.digest,
    )


class MemoryIndex:
    """An `isocenter.services.ports.Index` that lasts as long as the process.

    No method awaits anything between its first and its last change.
    """

    def __init__(self) -> None:
        self._root = _Entity()
        self._studies: dict[str, _Entity] = {}
        self._instances: dict[str, _Entity] = {}

    async def add(
        self, records: Sequence[InstanceRecord], *, replace: bool = False
    ) -> Sequence[Added]:
        await trio.lowlevel.checkpoint()
        outcomes = []
        emptied = []
        for record in records:
            known = self._instances.get(record.sop_instance_uid)
            if known is None:
                outcomes.append(Added(Outcome.ADDED))
            elif replace:
                outcomes.append(Added(Outcome.REPLACED, known.stored))
                emptied.append(self._take_out(known))
            else:
                outcomes.append(Added(Outcome.DUPLICATE, known.stored))
                continue
            self._put(record)
        # Last: a parent whose only instance is replaced remains what it was.
        for series in emptied:
            self._prune(series)
        return outcomes

    def _put(self, record: InstanceRecord) -> None:
        attributes = {
            **record.attributes,
            _STUDY_UID: record.study_instance_uid,
            _SERIES_UID: record.series_instance_uid,
            _SOP_UID: record.sop_instance_uid,
            _SOP_CLASS: record.sop_class_uid,
        }
        study = self._studies.get(record.study_instance_uid)
        if study is None:
            patient = self._child(self._root, Level.PATIENT, _identity(attributes))
            study = self._child(patient, Level.STUDY, (record.study_instance_uid,))
            self._studies[record.study_instance_uid] = study
        series = self._child(study, Level.SERIES, (record.series_instance_uid,))
        instance = self._child(series, Level.IMAGE, (record.sop_instance_uid,))
        instance.stored = _stored_instance(record)
        self._instances[record.sop_instance_uid] = instance
        for entity in _path(instance):
            entity.fill(attributes)

    @staticmethod
    def _child(parent: _Entity, level: Level, key: tuple[str, ...]) -> _Entity:
        child = parent.children.get(key)
        if child is None:
            child = parent.children[key] = _Entity(level, parent, key)
        return child

    def _take_out(self, instance: _Entity) -> _Entity:
        """Remove an instance, not what is empty then; its series."""
        (uid,) = instance.key
        series = instance.parent
        assert series is not None
        del self._instances[uid]
        del series.children[instance.key]
        return series

    def _prune(self, entity: _Entity) -> None:
        """Remove *entity* and what is above it, as far as it is empty."""
        while entity.parent is not None and not entity.children:
            if entity.parent.children.pop(entity.key, None) is None:
                return  # it went before
            if entity.level is Level.STUDY:
                del self._studies[entity.key[0]]
            entity = entity.parent

    async def remove(self, sop_instance_uids: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()
        for uid in sop_instance_uids:
            instance = self._instances.get(uid)
            if instance is not None:
                self._prune(self._take_out(instance))

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        await trio.lowlevel.checkpoint()
        found = {}
        for uid in sop_instance_uids:
            instance = self._instances.get(uid)
            if instance is not None and instance.stored is not None:
                found[uid] = instance.stored
        return found

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        matched = list(self._matching(query))
        matched.sort(key=lambda entity: entity.value(UNIQUE_KEY[query.level]))
        tags = dict.fromkeys(
            [UNIQUE_KEY[level] for level in Level if level.depth <= query.level.depth]
            + [tag for tag in query.return_tags if BY_TAG[tag].level.depth <= query.level.depth]
        )
        answers = [{tag: entity.value(tag) for tag in tags} for entity in matched]
        async with aclosing(_blocks(answers)) as blocks:
            yield blocks

    @asynccontextmanager
    async def instances(
        self, query: Query | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredInstance]]]:
        tops = [self._root] if query is None else list(self._matching(query))
        found = [
            entity
            for top in tops
            for entity in top.below(3 - (-1 if top.level is None else top.level.depth))
        ]
        found.sort(key=_instance_order)
        stored = [entity.stored for entity in found if entity.stored is not None]
        async with aclosing(_blocks(stored)) as blocks:
            yield blocks

    async def check(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ()

    async def statistics(self) -> IndexStatistics:
        await trio.lowlevel.checkpoint()
        return IndexStatistics(
            patients=len(self._root.children),
            studies=len(self._studies),
            series=sum(1 for _ in self._root.below(3)),
            instances=len(self._instances),
            size=sum(i.stored.size for i in self._instances.values() if i.stored is not None),
        )

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _matching(self, query: Query) -> Iterator[_Entity]:
        """The entities of the query's level that satisfy it."""
        criteria: dict[Level, list[Criterion | CombinedRange]] = {level: [] for level in Level}
        for criterion in query.criteria:
            criteria[BY_TAG[criterion.tag].level].append(criterion)
        for combined in query.combined:
            lower = max(
                BY_TAG[combined.date_tag].level, BY_TAG[combined.time_tag].level, key=_depth
            )
            criteria[lower].append(combined)
        lowest = max(
            (level for level in Level if criteria[level]), key=_depth, default=Level.PATIENT
        )

        def reaches(entity: _Entity, level: Level) -> Iterator[_Entity]:
            """Those of *level* below *entity* to which a path of satisfying entities leads."""
            if entity.level is not None and not all(
                _satisfies(entity, criterion) for criterion in criteria[entity.level]
            ):
                return
            if entity.level is level:
                yield entity
                return
            for child in entity.children.values():
                yield from reaches(child, level)

        for entity in reaches(self._root, query.level):
            if lowest.depth <= query.level.depth or any(True for _ in reaches(entity, lowest)):
                yield entity


def _depth(level: Level) -> int:
    return level.depth


def _path(entity: _Entity) -> Iterator[_Entity]:
    """*entity* and what is above it, without the root."""
    while entity.parent is not None:
        yield entity
        entity = entity.parent


def _satisfies(entity: _Entity, criterion: Criterion | CombinedRange) -> bool:
    if isinstance(criterion, Criterion):
        return matches(criterion, entity.value(criterion.tag))
    return matches_combined(
        criterion, entity.value(criterion.date_tag), entity.value(criterion.time_tag)
    )


def _instance_order(entity: _Entity) -> tuple[str, str, int, str]:
    """By study, series and instance number; one that has no number stands at 0."""
    number = normalize("IS", entity.value(_INSTANCE_NUMBER))
    return (
        entity.value(_STUDY_UID),
        entity.value(_SERIES_UID),
        int(number) if _NUMBER.fullmatch(number) else 0,
        entity.value(_SOP_UID),
    )


async def _blocks(values: Sequence[_T]) -> AsyncGenerator[Sequence[_T], None]:
    for start in range(0, len(values), _BLOCK):
        await trio.lowlevel.checkpoint()
        yield values[start : start + _BLOCK]
