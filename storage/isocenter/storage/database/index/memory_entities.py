"""Entities of the index in memory, and what their objects say of them."""

from __future__ import annotations

from collections.abc import (
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import ATTRIBUTES, BY_TAG, Level
from isocenter.services.archive.ports import (
    InstanceRecord,
    StoredInstance,
)

_PATIENT_ID, _ISSUER, _PATIENT_NAME, _BIRTH_DATE = 0x00100020, 0x00100021, 0x00100010, 0x00100030
_SOP_CLASS, _MODALITY = 0x00080016, 0x00080060
_MODALITIES_IN_STUDY, _SOP_CLASSES_IN_STUDY = 0x00080061, 0x00080062

#: What objects say themselves of each level.
STATED_BY_LEVEL: Final = {
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

#: Values that tell an entity from others.
Texts = tuple[str, ...]


@dataclass(eq=False, slots=True)
class Statement:
    """What objects say, of how many it is said, and since and up to when."""

    said: dict[int, str]
    #: Of a study: whose it is.
    patient: Entity | None
    first: float
    last: float
    number: int = 0


@dataclass(eq=False, slots=True)
class Entity:
    """A patient, study, series or instance.

    A study is a child of each patient that its statements name.
    """

    level: Level
    key: Texts
    #: How many came before it.
    serial: int
    parents: list[Entity] = field(default_factory=list)
    children: dict[Texts, Entity] = field(default_factory=dict)
    #: Of a study: what its objects say of it and of their patient; of a series; an instance
    #: has one.
    statements: dict[Texts, Statement] = field(default_factory=dict)
    stored: StoredInstance | None = None
    record: InstanceRecord | None = None
    #: Of an instance: its statements of study and series.
    own: tuple[Statement, ...] = ()

    def below(self, depth: int) -> Iterator[Entity]:
        """The entities *depth* levels below this one."""
        if depth == 0:
            yield self
        else:
            for child in self.children.values():
                yield from child.below(depth - 1)

    def above(self, level: Level) -> Entity:
        """The entity of *level*, not PATIENT, that this one is or is below."""
        entity = self
        while entity.level is not level:
            (entity,) = entity.parents
        return entity


def add_statement(
    entity: Entity,
    levels: Sequence[Level],
    attributes: Mapping[int, str],
    patient: Entity | None,
    when: float,
) -> Statement:
    """What an object of *entity* says of *levels*; counted with others that say the same."""
    said = {tag: attributes.get(tag, "") for level in levels for tag in STATED_BY_LEVEL[level]}
    key = tuple(said.values())
    statement = entity.statements.get(key)
    if statement is None:
        statement = entity.statements[key] = Statement(said, patient, when, when)
    statement.number += 1
    statement.first, statement.last = min(statement.first, when), max(statement.last, when)
    return statement


def _distinct(entities: Iterator[Entity], tag: int) -> str:
    texts = {s.said[tag] for entity in entities for s in entity.statements.values()}
    return "\\".join(sorted(texts - {""}))


def _count(entity: Entity, tag: int) -> str:
    return str(sum(1 for _ in entity.below(_COUNTS[tag])))


def computed_texts(level: Level, entity: Entity) -> dict[int, str]:
    """What is derived for *entity*, of *level*, from what is below it."""
    texts = {tag: _count(entity, tag) for tag in _COUNTS if BY_TAG[tag].level is level}
    if level is Level.STUDY:
        texts[_MODALITIES_IN_STUDY] = _distinct(entity.below(1), _MODALITY)
        texts[_SOP_CLASSES_IN_STUDY] = _distinct(entity.below(2), _SOP_CLASS)
    return texts


def patient_identity(attributes: Mapping[int, str]) -> Texts:
    """What tells patients apart: ID and issuer; without an ID also name and birth date."""
    patient_id = attributes.get(_PATIENT_ID, "")
    issuer = attributes.get(_ISSUER, "")
    if patient_id:
        return (patient_id, issuer)
    return ("", issuer, attributes.get(_PATIENT_NAME, ""), attributes.get(_BIRTH_DATE, ""))
