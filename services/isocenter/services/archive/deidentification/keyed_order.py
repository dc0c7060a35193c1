"""Keyed order of matches, which says nothing of dates, names and arrival.

Whoever asks for one study after the other would else learn which was made first, also where all
dates of each patient were moved by days of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.places import Place

T = TypeVar("T")

#: What tells patients apart: ID, issuer, name, birth date.
PATIENT_KEYS: Final = (0x00100020, 0x00100021, 0x00100010, 0x00100030)
_LEVELS: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)


def place_of(level: Level, match: Mapping[int, str], keyed_hash: Callable[[str], str]) -> Place:
    """Where a match stands in the order: what is of one study, or series, stands together."""
    if level is Level.PATIENT:
        return (keyed_hash("\0".join(match.get(tag, "") for tag in PATIENT_KEYS)),)
    return tuple(
        keyed_hash(match.get(UNIQUE_KEY[one], "")) for one in _LEVELS if one.depth <= level.depth
    )


class MatchPage(Generic[T]):
    """One page of the matches that are added: the first behind a place, or the last before one."""

    def __init__(
        self, limit: int, *, after: Place | None = None, before: Place | None = None
    ) -> None:
        self.places: list[Place] = []
        self.items: list[T] = []
        self._limit = limit
        self._after = after
        self._before = before

    def add(self, place: Place, item: T) -> None:
        """Keep it, if it is among them."""
        if self._after is not None and place <= self._after:
            return
        if self._before is not None and place >= self._before:
            return
        at = bisect_left(self.places, place)
        if len(self.places) < self._limit:
            pass
        elif self._before is not None:
            if at == 0:
                return
            del self.places[0], self.items[0]
            at -= 1
        elif at == self._limit:
            return
        else:
            del self.places[-1], self.items[-1]
        self.places.insert(at, place)
        self.items.insert(at, item)
