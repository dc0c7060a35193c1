"""Settings that hold rules of retention: ``[[retention]]``."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.retention.rules import RetentionRule
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

_MOST_PERCENT: Final = 99
_MOST_KEPT: Final = 10_000
_NUMBERS: Final = {
    **dict.fromkeys(DAYS, MOST_DAYS),
    "keep_newest": _MOST_KEPT,
    "disk_percent": _MOST_PERCENT,
}
_KEYS: Final = frozenset({"name", "modalities", *_NUMBERS, "although_promised"})


class RetentionFault(kinds.InvalidValueError):
    """A rule that cannot be; the message says which, and why."""


def parse_retention_rule(table: object) -> RetentionRule:
    """One table of ``[[retention]]``.

    Raises:
        RetentionFault: it cannot be.
    """
    table, name = name_in(table, "retention", "retention", RetentionFault)

    def fault(text: str) -> RetentionFault:
        return RetentionFault(f"retention rule {name!r}: {text}")

    check_keys(table, _KEYS, fault)
    numbers = numbers_in(table, _NUMBERS, fault)
    if not numbers:
        raise fault(f"say what is past its time: {', '.join(DAYS)}, keep_newest or disk_percent")
    return RetentionRule(
        name=name,
        modalities=modalities_in(table, fault),
        study_days=numbers.get("study_days", 0),
        arrived_days=numbers.get("arrived_days", 0),
        unused_days=numbers.get("unused_days", 0),
        keep_newest=numbers.get("keep_newest", 0),
        disk_percent=numbers.get("disk_percent", 0),
        although_promised=truth_in(table, "although_promised", fault),
    )


@dataclass(frozen=True, slots=True)
class RetentionRuleKind:
    """One table of ``[[retention]]``."""

    allowed: str = (
        "a table [[retention]] with name, and what is past its time (study_days, arrived_days, "
        "unused_days, keep_newest, disk_percent; modalities, although_promised)"
    )

    def from_toml(self, value: object) -> RetentionRule:
        """A table."""
        return parse_retention_rule(value)

    def from_text(self, text: str) -> RetentionRule:
        """An inline table of TOML."""
        return parse_retention_rule(inline(text, RetentionFault))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, RetentionRule)
        pairs = [f"name = {kinds.toml_string(value.name)}"]
        if value.modalities:
            pairs.append(f"modalities = [{', '.join(map(kinds.toml_string, value.modalities))}]")
        pairs += [f"{key} = {number}" for key in _NUMBERS if (number := getattr(value, key))]
        if value.although_promised:
            pairs.append("although_promised = true")
        return f"{{ {', '.join(pairs)} }}"


RETENTION_RULES: Final = ArrayOfTables(
    RetentionRuleKind(), "rules of retention", MAX_RULES, RetentionFault
)
