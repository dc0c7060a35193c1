"""Tiers of objects, as the keys of objects name them.

A key without a mark is in the hot tier, where all objects are stored.  The others begin with the
name of their tier, as no key of `isocenter.services.archive.object_keys` does; so whoever has
the key knows the tier, and asks nobody.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass

_MARK: Final = "~"


class Tier(Enum):
    """Where an object is; the later, the cheaper, and the slower."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"

    @property
    def depth(self) -> int:
        """0: hot."""
        return _ORDER.index(self)


_ORDER: Final[tuple[Tier, ...]] = tuple(Tier)
_PREFIXES: Final[dict[Tier, str]] = {
    tier: f"{_MARK}{tier.value}/" for tier in Tier if tier is not Tier.HOT
}


class InstanceAvailability(Enum):
    """Instance Availability (PS3.3 C.4.23.1.1), the worst last."""

    ONLINE = "ONLINE"
    #: It has to be brought back first, which goes by itself.
    NEARLINE = "NEARLINE"
    #: It has to be brought back by a person.
    OFFLINE = "OFFLINE"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRule:
    """Which studies move to which tier: all that is set has to be so.

    Attributes:
        modalities: all of the study's are among these; empty: any.
        study_days: Study Date is longer ago, in all that its objects say.
        arrived_days: its last object came longer ago.
        unused_days: nobody has retrieved of it for so long, and nothing of it came.
        is_complete: nothing more is expected of it.
        least_size: bytes that it has at least.
    """

    name: str
    tier: Tier
    modalities: tuple[str, ...] = ()
    study_days: int = 0
    arrived_days: int = 0
    unused_days: int = 0
    is_complete: bool = False
    least_size: int = 0


def tier_of(key: str) -> Tier:
    """The tier that has the object with this key."""
    if not key.startswith(_MARK):
        return Tier.HOT
    for tier, prefix in _PREFIXES.items():
        if key.startswith(prefix):
            return tier
    return Tier.HOT


def key_within(key: str) -> str:
    """The key by which its tier knows the object."""
    return key[len(_PREFIXES[tier]) :] if (tier := tier_of(key)) is not Tier.HOT else key


def key_in(tier: Tier, key: str) -> str:
    """The key of an object in *tier* that knows it by *key*."""
    return _PREFIXES.get(tier, "") + key


def prefix_of(tier: Tier) -> str:
    """What keys of a tier begin with; empty: those of the hot one have no mark."""
    return _PREFIXES.get(tier, "")
