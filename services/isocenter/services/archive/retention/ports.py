"""Port of retention: which studies are past their time, and which were used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.retention.rules import RetentionRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A study that is past its time by a rule; *size* in bytes of Part 10 files."""

    study_instance_uid: str
    instances: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """A study that stays, although destinations were sent it: nothing says that they have it.

    Attributes:
        came_again: so many instances came here again from somebody else than who sent them first,
            and no destination has committed them.
        unsent: so many had no destination: they came from it.
    """

    study_instance_uid: str
    instances: int
    size: int
    came_again: int
    unsent: int

    @property
    def candidate(self) -> Candidate:
        """As one that is past its time."""
        return Candidate(
            study_instance_uid=self.study_instance_uid, instances=self.instances, size=self.size
        )

    def texts(self) -> list[str]:
        """Why it stays, in words."""
        kinds = (
            (
                self.came_again,
                "that came here again from others (isocenter queue commit asks who was sent them)",
            ),
            (self.unsent, "that came from their only destination, and were not sent there"),
        )
        return [f"{count} {text}" for count, text in kinds if count]


class RetentionBook(Protocol):
    """Knows when studies came and were used.  Failures are `StorageError`."""

    async def candidates(
        self, rule: RetentionRule, now: float, *, limit: int
    ) -> Sequence[Candidate]:
        """Studies that are past their time, in no order that means anything; by a rule with
        ``disk_percent`` those that were not used for the longest first."""
        ...

    async def unproven(self, rule: RetentionRule, now: float, *, limit: int) -> Sequence[Unproven]:
        """Studies that would be past their time by a rule with ``forwarded_days``, were it known
        that destinations have them; by any other rule none."""
        ...

    async def note_use(self, study_instance_uids: Sequence[str], now: float) -> None:
        """Somebody has retrieved of these studies; the day is kept."""
        ...


class ExpiryMarks(Protocol):
    """Knows which objects rules for what comes delete some time.  Failures are `StorageError`."""

    async def came_again(self, sop_instance_uid: str, sender: str) -> bool:
        """An object of that UID came, and the archive has one already.

        Unless it came from who had sent that, its rule does not delete it any more because
        destinations have it: one of them gives back what it is sent, or is this archive.

        Args:
            sender: AE title; empty: nobody knows, or it is one of ours.

        Returns:
            Whether that was not known of it.
        """
        ...
