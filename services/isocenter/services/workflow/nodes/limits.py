"""Limits of destinations: associations, bandwidth, hours, and whether they are held."""

from __future__ import annotations

import re
from dataclasses import field, replace
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.concurrency import Backoff
from isocenter.services.hours import ALWAYS, Hours

MOST_ASSOCIATIONS: Final = 100
_MOST_BANDWIDTH: Final = 1 << 40
_RATE: Final = re.compile(r"([0-9]{1,13})(?:\.([0-9]{1,3}))?([kmg]?)")
_UNITS: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationLimit:
    """What one destination may be sent, whoever sends: rules, jobs, C-MOVE.

    Attributes:
        associations: at once; 0: as many as the settings say.
        bandwidth: bytes a second; 0: as many as the network takes.
        hours: in which it is sent to.
        is_held: nothing is sent until it is released.
        released_at: when it was held last, in seconds since 1970; 0: never.
    """

    destination: str
    associations: int = 0
    bandwidth: int = 0
    hours: Hours = field(default=ALWAYS)
    is_held: bool = False
    released_at: float = 0.0

    def is_open(self, at: float) -> bool:
        """Whether it is sent to at that moment, in seconds since 1970."""
        return not self.is_held and self.hours.is_open(at)

    def why_closed(self, at: float) -> str:
        """Why it is not; empty: it is."""
        if self.is_held:
            return "it is held until somebody releases it"
        return "" if self.is_open(at) else f"it is sent to in its hours only: {self.hours.text}"

    def backoff(self, backoff: Backoff) -> Backoff:
        """*backoff*, which gives up after so many seconds in which the destination was open."""
        return replace(
            backoff, give_up_after_seconds=backoff.give_up_after_seconds / self.hours.share
        )


def unlimited(destination: str) -> DestinationLimit:
    """Of a destination of which nothing is said."""
    return DestinationLimit(destination=destination)


def parse_bandwidth(text: str) -> int:
    """Bytes a second as somebody wrote them: ``500k``, ``2.5M``; 0: no limit.

    Raises:
        ValueError: they are none.
    """
    match = _RATE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("a bandwidth is bytes a second, as in 500k or 2.5M; 0: no limit")
    whole, part, unit = match.groups()
    found = round(float(f"{whole}.{part or 0}") * _UNITS[unit])
    if found > _MOST_BANDWIDTH or 0 < found < 1_000:
        raise ValueError("a bandwidth is 0 (no limit), or from 1k to 1000G bytes a second")
    return found


def check_associations(number: int) -> int:
    """A number of associations; 0: as the settings say.

    Raises:
        ValueError: it is none.
    """
    if not 0 <= number <= MOST_ASSOCIATIONS:
        raise ValueError(f"associations are a number from 1 to {MOST_ASSOCIATIONS}; 0: no limit")
    return number
