"""Instance Availability (0008,0056) of what a query found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.tiers.ports import TierBook
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier

INSTANCE_AVAILABILITY: Final = 0x00080056
#: Unique keys, from the patient down.
_KEYS: Final = (0x00100020, 0x0020000D, 0x0020000E, 0x00080018)
_WORST_LAST: Final = tuple(InstanceAvailability)


class Availabilities:
    """Says of matches how soon all of their objects can be read.

    Args:
        availability: of each tier but the hot one.
    """

    def __init__(self, book: TierBook, availability: Mapping[Tier, InstanceAvailability]) -> None:
        self._book = book
        self._availability = availability

    async def shown(
        self, level: Level, matches: Sequence[Mapping[int, str]]
    ) -> Sequence[Mapping[int, str]]:
        """*matches* with the attribute: that of the object that can be read last (PS3.4
        C.4.1.1.3.2).

        Raises:
            StorageError: nobody can tell.
        """
        keys = _KEYS[: level.depth + 1]
        uids = [tuple(match.get(key, "") for key in keys) for match in matches]
        found = await self._book.tiers_of(level, uids)
        return [
            {**match, INSTANCE_AVAILABILITY: self._worst(tiers)}
            for match, tiers in zip(matches, found, strict=True)
        ]

    def _worst(self, tiers: Collection[Tier]) -> str:
        online = InstanceAvailability.ONLINE
        return max(
            (self._availability.get(tier, online) for tier in tiers),
            key=_WORST_LAST.index,
            default=online,
        ).value
