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
