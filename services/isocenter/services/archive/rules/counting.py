"""Counting of what rules match, to be written down now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.rules.ports import RuleFiring

#: Studies, rules and senders that are remembered until they are written down.
MOST: Final = 10_000


@dataclass(slots=True)
class _Count:
    objects: int
    first_at: float
    last_at: float


class RuleCounter:
    """What rules matched in this process since it was taken last.

    Args:
        now: seconds since 1970.
    """

    __slots__ = ("_counts", "_now", "lost")

    def __init__(self, now: Callable[[], float] = time) -> None:
        self._now = now
        self._counts: dict[tuple[str, str, str], _Count] = {}
        #: Objects that were not counted, because nobody took what was.
        self.lost = 0

    def note(self, rules: Sequence[str], study: str, calling_ae: str) -> None:
        """An object of *study* was stored, which *rules* match."""
        now = self._now()
        for rule in rules:
            key = (rule, study, calling_ae)
            count = self._counts.get(key)
            if count is not None:
                count.objects += 1
                count.last_at = now
            elif len(self._counts) < MOST:
                self._counts[key] = _Count(1, now, now)
            else:
                self.lost += 1

    def take(self) -> Sequence[RuleFiring]:
        """All of it; from now on it is counted anew."""
        counts, self._counts = self._counts, {}
        return [
            RuleFiring(
                rule=rule,
                study_instance_uid=study,
                calling_ae=calling_ae,
                objects=count.objects,
                first_at=count.first_at,
                last_at=count.last_at,
            )
            for (rule, study, calling_ae), count in counts.items()
        ]

    def put_back(self, firings: Sequence[RuleFiring]) -> None:
        """They could not be written down."""
        for one in firings:
            key = (one.rule, one.study_instance_uid, one.calling_ae)
            count = self._counts.get(key)
            if count is not None:
                count.objects += one.objects
                count.first_at = min(count.first_at, one.first_at)
            elif len(self._counts) < MOST:
                self._counts[key] = _Count(one.objects, one.first_at, one.last_at)
            else:
                self.lost += one.objects
