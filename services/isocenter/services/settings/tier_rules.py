"""Settings that hold rules of tiers: ``[[tiers.rules]]``."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.tiers.tier import Tier, TierRule
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.age_tables import (
    DAYS,
    MAX_RULES,
    MOST_DAYS,
    check_keys,
    modalities_in,
    name_in,
    numbers_in,
    truth_in,
)
from isocenter.services.settings.array_of_tables import ArrayOfTables, inline

_MOST_BYTES: Final = 1 << 50
_NUMBERS: Final = {**dict.fromkeys(DAYS, MOST_DAYS), "least_size": _MOST_BYTES}
_KEYS: Final = frozenset({"name", "tier", "modalities", *_NUMBERS, "is_complete"})
_TIERS: Final = (Tier.WARM, Tier.COLD)


class TierRuleFault(kinds.InvalidValueError):
    """A rule that cannot be; the message says which, and why."""


def parse_tier_rule(table: object) -> TierRule:
    """One table of ``[[tiers.rules]]``.

    Raises:
        TierRuleFault: it cannot be.
    """
    table, name = name_in(table, "tiers", "tiers.rules", TierRuleFault)

    def fault(text: str) -> TierRuleFault:
        return TierRuleFault(f"tier rule {name!r}: {text}")

    check_keys(table, _KEYS, fault)
    if table.get("tier") not in [tier.value for tier in _TIERS]:
        raise fault('tier is "warm" or "cold"')
    numbers = numbers_in(table, _NUMBERS, fault)
    if not numbers.keys() & set(DAYS):
        raise fault(f"say for how long: {', '.join(DAYS)}")
    return TierRule(
        name=name,
        tier=Tier(table["tier"]),
        modalities=modalities_in(table, fault),
        is_complete=truth_in(table, "is_complete", fault),
        **numbers,
    )


@dataclass(frozen=True, slots=True)
class TierRuleKind:
    """One table of ``[[tiers.rules]]``."""

    allowed: str = (
        "a table [[tiers.rules]] with name, tier (warm, cold), and when (study_days, arrived_days, "
        "unused_days; modalities, is_complete, least_size)"
    )

    def from_toml(self, value: object) -> TierRule:
        """A table."""
        return parse_tier_rule(value)

    def from_text(self, text: str) -> TierRule:
        """An inline table of TOML."""
        return parse_tier_rule(inline(text, TierRuleFault))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, TierRule)
        pairs = [
            f"name = {kinds.toml_string(value.name)}",
            f"tier = {kinds.toml_string(value.tier.value)}",
        ]
        if value.modalities:
            pairs.append(f"modalities = [{', '.join(map(kinds.toml_string, value.modalities))}]")
        pairs += [f"{key} = {number}" for key in _NUMBERS if (number := getattr(value, key))]
        if value.is_complete:
            pairs.append("is_complete = true")
        return f"{{ {', '.join(pairs)} }}"


TIER_RULES: Final = ArrayOfTables(TierRuleKind(), "rules of tiers", MAX_RULES, TierRuleFault)
