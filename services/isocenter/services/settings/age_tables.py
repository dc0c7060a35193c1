"""Tables of rules by age, as TOML has them: name, numbers of days, modalities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from isocenter.services.settings.array_of_tables import Fault

MAX_RULES: Final = 100
MOST_DAYS: Final = 36_500
#: Days by which rules of any kind can go.
DAYS: Final = ("study_days", "arrived_days", "unused_days")
_MAX_NAME: Final = 64
_MODALITY: Final = re.compile(r"[A-Z0-9 _]{1,16}")


def name_in(table: object, what: str, name: str, fault: Fault) -> tuple[dict[str, Any], str]:
    """A table and the name in it.

    Args:
        what: whose rule it is, in the message.
        name: of the array of tables.
    """
    if not isinstance(table, dict):
        raise fault(f"each rule of {what} is a table: [[{name}]]")
    found = table.get("name")
    if not isinstance(found, str) or not found.isprintable() or not 0 < len(found) <= _MAX_NAME:
        raise fault(f"each rule of {what} needs a name of 1 to {_MAX_NAME} characters")
    return table, found


def numbers_in(table: Mapping[str, Any], most: Mapping[str, int], fault: Fault) -> dict[str, int]:
    """The whole numbers of a table, from 1 to *most*, by their keys."""
    numbers: dict[str, int] = {}
    for key, highest in most.items():
        if key in table:
            value = table[key]
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
                raise fault(f"{key} is a whole number from 1 to {highest}")
            numbers[key] = value
    return numbers


def modalities_in(table: Mapping[str, Any], fault: Fault) -> tuple[str, ...]:
    """The modalities of a table; none: any."""
    modalities = table.get("modalities", [])
    if not isinstance(modalities, list) or not all(
        isinstance(one, str) and _MODALITY.fullmatch(one) is not None for one in modalities
    ):
        raise fault('modalities is a list of modalities: ["US", "XA"]')
    if "modalities" in table and not modalities:
        raise fault("modalities is empty; leave it out for all of them")
    return tuple(modalities)


def truth_in(table: Mapping[str, Any], key: str, fault: Fault) -> bool:
    """Whether *key* is true in a table; it need not be there."""
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise fault(f"{key} is true or false")
    return value


def check_keys(table: Mapping[str, Any], keys: frozenset[str], fault: Fault) -> None:
    """Whether a table has these keys only."""
    unknown = sorted(table.keys() - keys)
    if unknown:
        raise fault(f"there is no {unknown[0]!r}; there are {', '.join(sorted(keys))}")
