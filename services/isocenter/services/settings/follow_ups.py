"""Settings that hold follow-ups of workitems: ``[[ups.follow_ups]]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.service_classes.ups.follow_ups import FollowUp
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.age_tables import MAX_RULES, check_keys, name_in
from isocenter.services.settings.array_of_tables import ArrayOfTables, inline

_TEXTS: Final = ("after", "label", "worklist_label")
_PRIORITIES: Final = ("HIGH", "MEDIUM", "LOW")
_KEYS: Final = frozenset({"name", *_TEXTS, "priority"})
#: Of an LO.
_LONGEST: Final = 64


class FollowUpFault(kinds.InvalidValueError):
    """A follow-up that cannot be; the message says which, and why."""


def parse_follow_up(table: object) -> FollowUp:
    """One table of ``[[ups.follow_ups]]``.

    Raises:
        FollowUpFault: it cannot be.
    """
    table, name = name_in(table, "follow-ups", "ups.follow_ups", FollowUpFault)

    def fault(text: str) -> FollowUpFault:
        return FollowUpFault(f"follow-up {name!r}: {text}")

    check_keys(table, _KEYS, fault)
    texts = {key: _text(table, key, fault) for key in _TEXTS}
    priority = table.get("priority", "")
    if "priority" in table and priority not in _PRIORITIES:
        raise fault(f"priority is one of {', '.join(_PRIORITIES)}")
    return FollowUp(name=name, priority=priority, **texts)


def _text(table: Mapping[str, Any], key: str, fault: Any) -> str:
    value = table.get(key)
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > _LONGEST
        or not value.isascii()
        or not value.isprintable()
        or "\\" in value
    ):
        raise fault(f"{key} is a text of 1 to {_LONGEST} characters of ASCII")
    return value.strip()


@dataclass(frozen=True, slots=True)
class FollowUpKind:
    """One table of ``[[ups.follow_ups]]``."""

    allowed: str = (
        "a table [[ups.follow_ups]] with name, after (the worklist label of what is completed), "
        "label and worklist_label of what follows, and priority, if it is another one"
    )

    def from_toml(self, value: object) -> FollowUp:
        """A table."""
        return parse_follow_up(value)

    def from_text(self, text: str) -> FollowUp:
        """An inline table of TOML."""
        return parse_follow_up(inline(text, FollowUpFault))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, FollowUp)
        keys = ("name", *_TEXTS, *(("priority",) if value.priority else ()))
        pairs = [f"{key} = {kinds.toml_string(getattr(value, key))}" for key in keys]
        return f"{{ {', '.join(pairs)} }}"


FOLLOW_UPS: Final = ArrayOfTables(FollowUpKind(), "follow-ups", MAX_RULES, FollowUpFault)
