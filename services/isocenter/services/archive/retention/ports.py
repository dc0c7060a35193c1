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


class RetentionBook(Protocol):
    """Knows when studies came and were used.  Failures are `StorageError`."""

    async def candidates(
        self, rule: RetentionRule, now: float, *, limit: int
    ) -> Sequence[Candidate]:
        """Studies that are past their time, in no order that means anything; by a rule with
        ``disk_percent`` those that were not used for the longest first."""
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
