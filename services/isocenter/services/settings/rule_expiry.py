"""Age at which what a rule matched is deleted, in a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.rules.conditions import Condition, fingerprint_of
from isocenter.services.settings.age_tables import MOST_DAYS
from isocenter.services.settings.value_types import InvalidValueError

_DAYS: Final = "delete_after_days"
_SINCE: Final = "delete_since"
EXPIRY_KEYS: Final = (_DAYS, _SINCE)
_ARRIVED: Final = "arrived"
_FORWARDED: Final = "forwarded"
#: Destinations of such a rule have another object.
_CHANGING: Final = ("deidentify", "forward_coerce")


def rule_retention(
    name: str,
    table: Mapping[str, Any],
    conditions: Sequence[Condition],
    fault: Callable[[str], InvalidValueError],
) -> RetentionRule | None:
    """What a rule's table says of deleting; None: nothing.

    Args:
        name: of the rule.
        conditions: of the rule.
        fault: an error of that rule.
    """
    days = table.get(_DAYS, 0)
    since = table.get(_SINCE, "")
    if isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= MOST_DAYS:
        raise fault(f"{_DAYS} is a whole number from 1 to {MOST_DAYS}, or 0: delete nothing")
    if since not in ("", _ARRIVED, _FORWARDED):
        raise fault(f"{_SINCE} must be {_ARRIVED} or {_FORWARDED}")
    is_sent = bool(table.get("forward"))
    if not days:
        if since:
            raise fault(f"{_SINCE} is about deleting; add {_DAYS} = 30")
        return None
    if since == _FORWARDED and not is_sent:
        raise fault(f'{_SINCE} = "{_FORWARDED}" is about sending; add forward = ["AET"], a peer')
    fingerprint = fingerprint_of(conditions)
    if is_sent and since != _ARRIVED:
        changing = next((key for key in _CHANGING if table.get(key)), "")
        if changing:
            raise fault(
                f"{_DAYS} with {changing} would leave nobody with the object as it is; leave one "
                f'of them out, or say {_SINCE} = "{_ARRIVED}": delete it by age, whoever has it'
            )
        return RetentionRule(name=name, routed_by=name, conditions=fingerprint, forwarded_days=days)
    return RetentionRule(name=name, routed_by=name, conditions=fingerprint, arrived_days=days)


def table_of_retention(retention: RetentionRule) -> dict[str, object]:
    """What `rule_retention` makes the same of."""
    if retention.forwarded_days:
        return {_DAYS: retention.forwarded_days, _SINCE: _FORWARDED}
    return {_DAYS: retention.arrived_days, _SINCE: _ARRIVED}
