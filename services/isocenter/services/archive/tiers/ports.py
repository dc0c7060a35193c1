"""Ports of tiers: their stores, and the book of what is moved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import ObjectStore, StoredInstance
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier, TierRule


@dataclass(frozen=True, slots=True, kw_only=True)
class TierMove:
    """An object on its way from one tier to another.

    Attributes:
        stored: as the index has it before.
        target_key: under which it is afterwards.
    """

    stored: StoredInstance
    target_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedMove:
    """What a process that ended has left.

    Attributes:
        gone_key: under which nothing is to be any more.
    """

    sop_instance_uid: str
    gone_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierOrder:
    """A study that somebody, or whoever wants to read it, has moved.

    Attributes:
        actor: who; empty: it is wanted for reading.
        at: seconds since 1970.
    """

    study_instance_uid: str
    tier: Tier
    actor: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPin:
    """A study that no rule moves out of a tier.

    Attributes:
        at: seconds since 1970.
    """

    study_instance_uid: str
    tier: Tier
    actor: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierUsage:
    """What a tier has; *size* in bytes of Part 10 files."""

    tier: Tier
    instances: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierFault:
    """An object that could not be moved, and is where it was.

    Attributes:
        at: seconds since 1970.
    """

    sop_instance_uid: str
    study_instance_uid: str
    fault: str
    at: float


class TierBook(Protocol):
    """Knows which object is in which tier, and what moves.  Failures are `StorageError`."""

    async def candidates(self, rule: TierRule, now: float, *, limit: int) -> Sequence[str]:
        """Studies that a rule has moved, and of which something is in a faster tier than its; those
        that are pinned, faulty or were just used are left out."""
        ...

    async def instances(
        self, study_instance_uid: str, tier: Tier, *, limit: int, is_faster: bool = False
    ) -> Sequence[StoredInstance]:
        """Objects of a study that are in another tier, and that nobody moves or corrects.

        Args:
            is_faster: only those in a faster one.
        """
        ...

    async def begin(
        self, moves: Sequence[TierMove], process: str, seconds: float
    ) -> Sequence[bool]:
        """Note, durably, what is about to be written; of each, whether nobody else moves it.

        Args:
            process: who moves them.
            seconds: after these, unless `renew` is called, others may undo it.
        """
        ...

    async def renew(self, process: str, seconds: float) -> None:
        """*process* is still at work."""
        ...

    async def exchange(self, moves: Sequence[TierMove], process: str) -> Sequence[bool]:
        """Have the index name the new places, in one transaction; of each, whether the index had it
        as it was."""
        ...

    async def end(self, sop_instance_uids: Sequence[str]) -> None:
        """Nothing is left of them in the place where they are not to be."""
        ...

    async def superfluous(
        self, process: str, sop_instance_uids: Sequence[str]
    ) -> Sequence[UnfinishedMove]:
        """Of those that *process* moves what is not to be there any more, as of now."""
        ...

    async def failed(self, move: TierMove, fault: str) -> None:
        """It stays where it is, and nothing is left elsewhere; rules let it be for a while."""
        ...

    async def unfinished(self, process: str, seconds: float) -> Sequence[UnfinishedMove]:
        """What *process* has under way, with what others have left: it is theirs no more."""
        ...

    async def order(self, orders: Sequence[TierOrder]) -> None:
        """Have studies moved; the last order for a study counts."""
        ...

    async def orders(self, *, limit: int) -> Sequence[TierOrder]:
        """What is to be moved, that which somebody waits for first."""
        ...

    async def fulfilled(self, order: TierOrder) -> None:
        """There is nothing left of an order."""
        ...

    async def pin(self, pin: TierPin) -> None:
        """Keep a study in a tier; the last pin counts."""
        ...

    async def unpin(self, study_instance_uid: str) -> bool:
        """Let rules move it again; False: it was not pinned."""
        ...

    async def pins(self) -> Sequence[TierPin]:
        """All of them, the oldest first."""
        ...

    async def faults(self, *, limit: int) -> Sequence[TierFault]:
        """What could not be moved, the last first."""
        ...

    async def studies_in(self, tier: Tier, *, after: str, limit: int) -> Sequence[str]:
        """Studies that have something in a tier other than the hot one, by their UIDs, behind
        *after*."""
        ...

    async def usage(self) -> Sequence[TierUsage]:
        """What each tier has."""
        ...

    async def tiers_of(
        self, level: Level, uids: Sequence[tuple[str, ...]]
    ) -> Sequence[Collection[Tier]]:
        """Tiers other than the hot one that have something of studies, series or instances, by
        their UIDs down to *level*."""
        ...


class MatchAvailabilities(Protocol):
    """Knows how soon what a query found can be read."""

    async def shown(
        self, level: Level, matches: Sequence[Mapping[int, str]]
    ) -> Sequence[Mapping[int, str]]:
        """*matches* with Instance Availability (0008,0056)."""
        ...


@runtime_checkable
class TieredObjects(Protocol):
    """An object store that has tiers."""

    @property
    def tiers(self) -> Mapping[Tier, ObjectStore]:
        """All of them, by the keys that they know themselves."""
        ...

    def availability_of(self, key: str) -> InstanceAvailability:
        """How soon an object can be read."""
        ...

    async def check_place(self, tier: Tier) -> None:
        """Whether a tier is there, before something is moved into it.

        Raises:
            StorageError: it is not, or something else is in its place.
        """
        ...
