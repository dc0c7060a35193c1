"""Settings that hold rules of retention: ``[[retention]]``."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.settings import value_types as kinds

MAX_RULES: Final = 100
_MOST_PERCENT: Final = 99
_MOST_DAYS: Final = 36_500
_MOST_KEPT: Final = 10_000
_MAX_NAME: Final = 64
_MODALITY: Final = re.compile(r"[A-Z0-9 _]{1,16}")
_DAYS: Final = ("study_days", "arrived_days", "unused_days")
_NUMBERS: Final = {
    **dict.fromkeys(_DAYS, _MOST_DAYS),
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
    if not isinstance(table, dict):
        raise RetentionFault("each rule of retention is a table: [[retention]]")
    name = table.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise RetentionFault(f"each rule of retention needs a name of 1 to {_MAX_NAME} characters")

    def fault(text: str) -> RetentionFault:
        return RetentionFault(f"retention rule {name!r}: {text}")

    unknown = sorted(table.keys() - _KEYS)
    if unknown:
        raise fault(f"there is no {unknown[0]!r}; there are {', '.join(sorted(_KEYS))}")
    numbers: dict[str, int] = {}
    for key, most in _NUMBERS.items():
        if key in table:
            value = table[key]
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise fault(f"{key} is a whole number from 1 to {most}")
            numbers[key] = value
    if not numbers:
        raise fault(f"say what is past its time: {', '.join(_DAYS)}, keep_newest or disk_percent")
    modalities = table.get("modalities", [])
    if not isinstance(modalities, list) or not all(
        isinstance(one, str) and _MODALITY.fullmatch(one) is not None for one in modalities
    ):
        raise fault('modalities is a list of modalities: ["US", "XA"]')
    if "modalities" in table and not modalities:
        raise fault("modalities is empty; leave it out for all of them")
    promised = table.get("although_promised", False)
    if not isinstance(promised, bool):
        raise fault("although_promised is true or false")
    return RetentionRule(
        name=name, modalities=tuple(modalities), although_promised=promised, **numbers
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
        return parse_retention_rule(_inline(text))

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


@dataclass(frozen=True, slots=True)
class RetentionRulesKind(kinds.ListOf[RetentionRule]):
    """All rules of retention; as text, a TOML array of inline tables."""

    kind: kinds.ValueType[RetentionRule] = RetentionRuleKind()

    def from_toml(self, value: object) -> tuple[RetentionRule, ...]:
        """An array of tables."""
        rules = kinds.ListOf.from_toml(self, value)
        names = [rule.name for rule in rules]
        if len(rules) > MAX_RULES or len(set(names)) < len(names):
            raise RetentionFault(
                f"there may be {MAX_RULES} rules of retention, each with a name of its own"
            )
        return rules

    def from_text(self, text: str) -> tuple[RetentionRule, ...]:
        """``[{ name = … }]``."""
        return self.from_toml(_inline(text))


def _inline(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError) as error:
        raise RetentionFault(f"not TOML: {error}") from error
