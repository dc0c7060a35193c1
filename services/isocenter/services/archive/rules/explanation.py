"""Explanation of rules: whether each matches an object, and why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import Rule, in_order
from isocenter.services.dicom.attribute_path import TagOrPath


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleExplanation:
    """What one rule says of one object.

    Attributes:
        why: why it does not match; empty: it does.  It names fields and patterns of the rule, and
            never a value of the object.
    """

    rule: str
    why: str = ""

    @property
    def matches(self) -> bool:
        """Whether the object is meant."""
        return not self.why


def explain(
    rules: Sequence[Rule],
    sender: Sender,
    attributes: Mapping[TagOrPath, str],
    now: Callable[[], float] = time,
) -> Sequence[RuleExplanation]:
    """Of all *rules*, in the order in which they are looked at.

    Args:
        rules: also those that are switched off.
        attributes: those of the conditions of all of them.
        now: seconds since 1970.
    """
    stopped_by = ""
    found = []
    for rule in in_order(rules):
        why = _why_not(rule, sender, attributes, stopped_by, now())
        found.append(RuleExplanation(rule=rule.name, why=why))
        if not why and rule.stop:
            stopped_by = rule.name
    return found


def _why_not(
    rule: Rule,
    sender: Sender,
    attributes: Mapping[TagOrPath, str],
    stopped_by: str,
    now: float,
) -> str:
    if not rule.enabled:
        return "it is switched off"
    if stopped_by:
        return f"rule {stopped_by!r} matches, and is the last that is looked at (stop)"
    if rule.timing is not None and (why := rule.timing.why_not(now)):
        return why
    missed = [
        f"{one.field} is not {' or '.join(map(repr, one.patterns))}"
        for one in rule.conditions
        if not one.holds(sender, attributes)
    ]
    return "; ".join(missed)
