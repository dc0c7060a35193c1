"""Timing of a rule: when it holds, and when it sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from isocenter.engine.fast_init import dataclass
from isocenter.services.hours import ALWAYS, Hours


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTiming:
    """When a rule is looked at, and when it sends; times are seconds since 1970.

    Attributes:
        begins, ends: it is looked at from then on, and until then; None: it does not say.
        hours: of the week in which it is looked at.
        schedule, zone: when what it forwards is sent, as somebody wrote it; empty: at once.
        next_after: the first moment of the schedule behind another one; None: there is none.
    """

    begins: float | None = None
    ends: float | None = None
    hours: Hours = ALWAYS
    schedule: str = ""
    zone: str = ""
    next_after: Callable[[float], float | None] | None = field(default=None, compare=False)

    def why_not(self, at: float) -> str:
        """Why the rule is not looked at at that moment; empty: it is."""
        if self.begins is not None and at < self.begins:
            return "it holds later (effective_from)"
        if self.ends is not None and at >= self.ends:
            return "it held until now (effective_until)"
        if not self.hours.is_open(at):
            return f"it holds in its hours only: {self.hours.text}"
        return ""

    def send_at(self, at: float) -> float:
        """When something is sent that could be at that moment."""
        if self.next_after is None:
            return at
        return self.next_after(at) or at


class NextMoment:
    """The next moment of a schedule, which is computed once until it has passed.

    Args:
        next_after: computes it.
    """

    def __init__(self, next_after: Callable[[float], float | None]) -> None:
        self._next_after = next_after
        self._from = self._to = 0.0

    def __call__(self, at: float) -> float | None:
        """The first moment behind *at*; None: there is none any more."""
        if not self._from <= at < self._to:
            found = self._next_after(at)
            if found is None:
                return None
            self._from, self._to = at, found
        return self._to
