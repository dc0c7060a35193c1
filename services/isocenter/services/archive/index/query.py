"""Query model of the index, for C-FIND, C-MOVE, C-GET and others.

A query is a value.  `isocenter.services.service_classes.query_retrieve.identifier` makes it from an
identifier, `isocenter.services.archive.index.matching` says in plain Python what it means, and an
index adapter may compile it to something faster that gives the same answers. All kinds of matching
are those of PS3.4 C.2.2.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.time_zones import ZoneChange


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


class NameComparison(Enum):
    """How person names are compared (PS3.4 C.2.2.2.1.1)."""

    #: Without case.
    LITERAL = "literal"
    #: Literally, and without accents.
    FOLDED = "folded"
    #: By words and sounds, in any order (`isocenter.services.archive.index.names`).
    FUZZY = "fuzzy"


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A name that any of *keys* describes, which may have wild cards; never compared literally."""

    keys: tuple[str, ...]
    comparison: NameComparison


Match = SingleValue | ValueList | WildCard | Range | EmptyValue | SequenceMatch | NameMatch


def compared_by(vr: str, match: Match | None, comparison: NameComparison) -> Match | None:
    """*match* of an attribute of this VR, where person names are compared so."""
    if vr != "PN" or comparison is NameComparison.LITERAL:
        return match
    match match:
        case SingleValue(key) | WildCard(key):
            return NameMatch((key,), comparison)
        case ValueList(keys):
            return NameMatch(keys, comparison)
        case _:
            return match


@dataclass(frozen=True, slots=True)
class Criterion:
    """*tag* has to match.  Universal matching (C.2.2.2.3) is the absence of a criterion."""

    tag: int
    match: Match


@dataclass(frozen=True, slots=True)
class CombinedRange:
    """Combined date-time matching (C.2.2.2.5.3): one point in time from two attributes.

    *low* and *high* are ``YYYYMMDDHHMMSS.FFFFFF`` or None.

    Attributes:
        zoned: in another time zone than the archive's; *low* and *high* are by its clock.
    """

    date_tag: int
    time_tag: int
    low: str | None
    high: str | None
    zoned: ZonedKeys | None = None


@dataclass(frozen=True, slots=True)
class ZonedKeys:
    """Keys of a date and a time that are compared by the clock of another time zone.

    Attributes:
        date, time: what is asked of each, beside the range that both may make.
    """

    change: ZoneChange
    date: Match | None = None
    time: Match | None = None


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
    """So many matches of a query at most, from some place of their order on.

    The order is a total one (`isocenter.services.archive.ports.Index.find_page`).  Pages that begin
    behind the last place of the one before neither overlap nor leave anything out, whatever comes
    and goes meanwhile, and each takes the same time; with offsets that holds as long as nothing
    comes or goes, and what is left out is counted.

    Attributes:
        offset: so many are left out first.
        after: only what stands behind this place.
        before: only what stands ahead of this place, and of that the last *limit*.
    """

    limit: int
    offset: int = 0
    after: Place | None = None
    before: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPage:
    """The matches of a page, in order, and where each of them stands."""

    matches: Sequence[Mapping[int, str]]
    places: Sequence[Place]
