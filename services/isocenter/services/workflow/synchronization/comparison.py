"""Comparison of what an archive and a node have of a study.

Numbers of instances are compared first.  Which of them are missing is only looked into where the
numbers differ, or where it is wanted, or where nobody has looked before.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.nodes.ports import ObjectDigest


class Direction(Enum):
    """Which way objects go."""

    PULL = "pull"
    PUSH = "push"
    BOTH = "both"

    @property
    def pulls(self) -> bool:
        return self is not self.PUSH

    @property
    def pushes(self) -> bool:
        return self is not self.PULL


class ConflictKind(Enum):
    """Why nobody but a person can say what is to be done."""

    #: It was at both, and somebody has deleted it here.
    DELETED_HERE = "deleted here"
    #: The same, at the node.
    DELETED_THERE = "deleted there"
    #: An object of one SOP Instance UID is not the same at both.
    MODIFIED = "modified"
    #: The node counts other than it lists.
    COUNT = "count"


class Resolution(Enum):
    """Whose study it is to be."""

    LOCAL = "prefer local"
    REMOTE = "prefer remote"
    #: It stays as it is.
    LEAVE = "leave"


class Step(Enum):
    """What is to be done with a study."""

    #: It is alike at both, as far as is known.
    ALIKE = auto()
    #: Which instances are missing has to be looked into.
    LOOK = auto()
    PULL = auto()
    PUSH = auto()
    #: Delete it here, because it was deleted there.
    DELETE = auto()
    DELETED_HERE = auto()
    DELETED_THERE = auto()
    #: It is none of this synchronisation's business.
    NOTHING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """What is kept alike, and how.

    Attributes:
        node: its name.
        look_back_days: of Study Date; 0: all.
        modalities: of which a study has one; empty: any.
        is_full: look into each study, also where the numbers are what they were.
        deletes: delete here what was deleted at the node.
        resolution: of conflicts; None: a person says.
        most: studies for which something is done in one run.
    """

    node: str
    direction: Direction = Direction.PULL
    look_back_days: int = 0
    modalities: frozenset[str] = frozenset()
    is_full: bool = False
    deletes: bool = False
    resolution: Resolution | None = None
    most: int = 1_000

    @property
    def is_narrow(self) -> bool:
        """Whether only some studies are meant."""
        return bool(self.look_back_days or self.modalities)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStudy:
    """A study as the last run left it.

    Attributes:
        here, there: numbers of its instances.
        was_alike: it was at both, whole.
        is_left: somebody said that it stays as it is.
    """

    study_instance_uid: str
    here: int
    there: int
    was_alike: bool = False
    is_left: bool = False


#: What a node says of a number that it does not know.
UNKNOWN: Final = -1


def step_for(
    here: int | None, there: int | None, known: KnownStudy | None, options: SyncOptions
) -> Step:
    """What follows for one study.

    Args:
        here, there: numbers of instances; None: it is not there; `UNKNOWN`: nobody says how many.
    """
    direction = options.direction
    was_alike = known is not None and known.was_alike
    is_left = known is not None and known.is_left
    if here is None and there is None:
        return Step.NOTHING
    if is_left and known is not None and (here or 0, there or 0) == (known.here, known.there):
        return Step.NOTHING
    if here is None:
        if was_alike and options.resolution is not Resolution.REMOTE:
            leaves = options.resolution in (Resolution.LOCAL, Resolution.LEAVE)
            return Step.NOTHING if leaves else Step.DELETED_HERE
        return Step.PULL if direction.pulls else Step.NOTHING
    if there is None:
        if not was_alike:
            return Step.PUSH if direction.pushes else Step.NOTHING
        # What came here since was never there.
        is_unchanged = known is not None and known.here == here
        if options.deletes and direction.pulls and is_unchanged:
            return Step.DELETE
        if options.resolution is Resolution.LOCAL and direction.pushes:
            return Step.PUSH
        return Step.NOTHING if options.resolution is Resolution.LEAVE else Step.DELETED_THERE
    is_as_known = known is not None and (known.here, known.there) == (here, there)
    if was_alike and is_as_known and not options.is_full:
        return Step.ALIKE
    return Step.LOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDifference:
    """What differs between two lists of instances, by SOP Instance UID."""

    missing_here: tuple[str, ...] = ()
    missing_there: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing_here or self.missing_there or self.modified)


def difference(
    here: Mapping[str, ObjectDigest], there: Mapping[str, ObjectDigest | None]
) -> StudyDifference:
    """What differs between what is here and what is at a node.

    Args:
        there: None: the node tells no digest.
    """
    modified = []
    for uid in sorted(here.keys() & there.keys()):
        theirs, ours = there[uid], here[uid]
        # In another transfer syntax the same object has other bytes.
        is_comparable = (
            theirs is not None and ours.transfer_syntax_uid == theirs.transfer_syntax_uid
        )
        if theirs is not None and is_comparable and not ours.digests & theirs.digests:
            modified.append(uid)
    return StudyDifference(
        missing_here=tuple(sorted(there.keys() - here.keys())),
        missing_there=tuple(sorted(here.keys() - there.keys())),
        modified=tuple(modified),
    )
