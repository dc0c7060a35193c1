"""Section of the storage tiers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_location import ALLOWED, ObjectLocation
from isocenter.services.archive.tiers.recall import RecallAnswer
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier, TierRule
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import MIB, seconds, setting
from isocenter.services.settings.sections.objects import LocationKind
from isocenter.services.settings.tier_rules import TIER_RULES

#: Instance Availability (PS3.3 C.4.23.1.1) of what is in a tier.
AvailabilityName = Literal["online", "nearline", "offline"]
_NAMES: Final = ("online", "nearline", "offline")
#: Classes from which nothing can be read before somebody has it restored.
_NOT_READABLE: Final = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE"})
_CLASS: Final = re.compile(r"[A-Za-z0-9_-]{0,64}")


class StorageClassKind:
    """A storage class of S3, or an access tier of Azure."""

    allowed = "a storage class of S3 (STANDARD_IA) or access tier of Azure (Cool), or nothing"

    def from_toml(self, value: object) -> str:
        """A word."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> str:
        """A word."""
        if not _CLASS.fullmatch(text):
            raise kinds.InvalidValueError(f"must be {self.allowed}")
        if text.upper() in _NOT_READABLE:
            raise kinds.InvalidValueError(
                f"{text} keeps objects that nobody can read before they are restored, which "
                "Isocenter cannot ask for; take one that can be read at once, such as STANDARD_IA, "
                "GLACIER_IR, Cool or Cold"
            )
        return text

    def to_toml(self, value: object) -> str:
        """Quoted."""
        return kinds.toml_string(str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Cheaper and slower places for objects, and which of them move there; new ones are stored in
    the hot tier, the place that [objects] names."""

    warm: ObjectLocation | None = setting(
        None,
        LocationKind(),
        f"where the warm tier keeps objects: {ALLOWED} (nothing: there is none). Credentials, keys "
        "and encryption are those of [objects]",
    )
    cold: ObjectLocation | None = setting(
        None,
        LocationKind(),
        "the same of the cold tier",
    )
    warm_availability: AvailabilityName = setting(
        "online",
        kinds.one_of(*_NAMES),
        "Instance Availability (0008,0056) of the warm tier. online: objects are read where they "
        "are; nearline: they are brought back to the hot tier when somebody reads them; offline: "
        "a person has to bring them back",
    )
    cold_availability: AvailabilityName = setting(
        "nearline",
        kinds.one_of(*_NAMES),
        "the same of the cold tier",
    )
    warm_class: str = setting(
        "",
        StorageClassKind(),
        "storage class (S3) or access tier (Azure) of objects in the warm tier (empty: as the "
        "bucket has it)",
    )
    cold_class: str = setting("", StorageClassKind(), "the same of the cold tier")
    rules: tuple[TierRule, ...] = setting(
        (), TIER_RULES, "which studies move, and when: [[tiers.rules]]"
    )
    recall: RecallAnswer = setting(
        "wait",
        kinds.one_of("wait", "refuse"),
        "whoever reads an object that is nearline: waits until it is back, or is refused (A7xx, "
        "503) and may ask again later",
    )
    recall_timeout: float = seconds(
        60.0, "how long whoever reads waits for an object to be brought back"
    )
    interval: float = seconds(3_600.0, "from one look at the rules to the next")
    instances_per_cycle: int = setting(
        10_000,
        kinds.Integer(1, 1_000_000_000, "instances"),
        "so many objects move at one look at the rules, the rest at the next",
    )
    bytes_per_cycle: int = setting(
        100 << 30,
        kinds.Integer(MIB, 1 << 60, "bytes"),
        "so many bytes move at one look at the rules, the rest at the next",
    )

    @property
    def places(self) -> Mapping[Tier, ObjectLocation]:
        """Those that there are, without the hot one."""
        named = {Tier.WARM: self.warm, Tier.COLD: self.cold}
        return {tier: place for tier, place in named.items() if place is not None}

    @property
    def availability(self) -> Mapping[Tier, InstanceAvailability]:
        """Of those that there are, without the hot one."""
        named = {Tier.WARM: self.warm_availability, Tier.COLD: self.cold_availability}
        return {tier: InstanceAvailability(named[tier].upper()) for tier in self.places}

    def storage_class(self, tier: Tier) -> str:
        """What a bucket is asked for; empty: nothing."""
        return {Tier.WARM: self.warm_class, Tier.COLD: self.cold_class}.get(tier, "")
