"""Former names of settings, and those that they have now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: A former key → the key of today.  Two that said the same are one now.
FORMER_NAMES: Final[Mapping[str, str]] = {
    "query.time_zone": "server.time_zone",
    "sharing.time_zone": "server.time_zone",
}


def current_name(key: str) -> str:
    """What a setting is called today."""
    return FORMER_NAMES.get(key, key)


def in_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """*values* by the keys of today; one that was given by that key wins over its former ones, and
    of those the last."""
    former = {FORMER_NAMES[key]: one for key, one in values.items() if key in FORMER_NAMES}
    return former | {key: one for key, one in values.items() if key not in FORMER_NAMES}
