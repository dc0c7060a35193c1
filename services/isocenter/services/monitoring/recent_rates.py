"""Rates over the last minute, of what only grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

#: Over how long.
WINDOW_SECONDS: Final = 60.0
#: Of two looks within so short a time the earlier one is kept.
_STEP_SECONDS: Final = 1.0


class RecentRates:
    """Remembers what the numbers were, and says by how much they grow.

    Who looks often keeps no more than one look a second.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        #: The first one is as old as the window, or the oldest there is.
        self._looks: deque[tuple[float, Mapping[str, float]]] = deque()

    def rates(self, totals: Mapping[str, float]) -> Mapping[str, float]:
        """By name, per second; 0 until a second has passed."""
        now, looks = self._now(), self._looks
        while len(looks) > 1 and now - looks[1][0] >= WINDOW_SECONDS:
            looks.popleft()
        if not looks or now - looks[-1][0] >= _STEP_SECONDS:
            looks.append((now, dict(totals)))
        began, before = looks[0]
        seconds = now - began
        if seconds < _STEP_SECONDS:
            return dict.fromkeys(totals, 0.0)
        return {name: (total - before.get(name, 0.0)) / seconds for name, total in totals.items()}
