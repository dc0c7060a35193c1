"""Query model of the index, for C-FIND, C-MOVE, C-GET and others.

A query is a value.  `isocenter.services.service_classes.query_retrieve.identifier` makes it from an
identifier, `isocenter.services.archive.index.matching` says in plain Python what it means, and an
index adapter may compile it to something faster that gives the same answers. All kinds of matching
are those of PS3.4 C.2.2.2.
"""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level


@dataclass(frozen=True, slots=True)
class SingleValue:
    """C.2.2.2.1: equal by the rules of the VR (`matching.normalize`); one of several suffices."""

    value: str


@dataclass(frozen=True, slots=True)
class ValueList:
    """List of UID matching (C.2.2.2.2) and multiple value matching (C.2.2.2.8): any of these."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WildCard:
    """C.2.2.2.4: ``*`` any characters, also none; ``?`` exactly one.  Never only ``*``."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """C.2.2.2.5: from *low* to *high*, both included; None is an open end."""

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """C.2.2.2.7: the attribute has no value."""


@dataclass(frozen=True, slots=True)
class SequenceMatch:
    """C.2.2.2.6: some item of the sequence satisfies all criteria."""

    criteria: tuple[Criterion, ...]


Match = SingleValue | ValueList | WildCard | Range | EmptyValue | SequenceMatch


@dataclass(frozen=True, slots=True)
class Criterion:
    """*tag* has to match.  Universal matching (C.2.2.2.3) is the absence of a criterion."""

    tag: int
    match: Match


@dataclass(frozen=True, slots=True)
class CombinedRange:
    """Combined date-time matching (C.2.2.2.5.3): one point in time from two attributes.

    *low* and *high* are ``YYYYMMDDHHMMSS.FFFFFF`` or None.
    """

    date_tag: int
    time_tag: int
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Everything of *level* that satisfies all criteria.

    Criteria may name attributes of any level at or above *level*; with relational queries
    also below it (some entity there matches).
    """

    level: Level
    criteria: tuple[Criterion, ...] = ()
    combined: tuple[CombinedRange, ...] = ()
    #: Tags of `attributes.ATTRIBUTES` that the answer shall hold, beside the unique keys.
    return_tags: tuple[int, ...] = ()
    #: Where objects say different things, an answer shows what was said first, not last.
    shows_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """So many matches of a query at most, behind the first *offset* of them in their order.

    The order is a total one (`isocenter.services.archive.ports.Index.find`), so pages neither
    overlap nor leave anything out as long as nothing comes or goes.
    """

    limit: int
    offset: int = 0
