"""Rules, and what they decide about one object.

Evaluation is pure and bounded: no rule is looked at twice, and matching a pattern takes time in
proportion to its length and that of the value, which `record.MAX_TEXT_LENGTH` bounds.

Conditions are about the object as it came, also where coercion changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.orders import CompressionOrder, Route
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.rules.conditions import FIELDS, Condition, Sender
from isocenter.services.archive.rules.timing import RuleTiming
from isocenter.services.archive.validation.mark import ValidationPolicy
from isocenter.services.dicom.attribute_path import TagOrPath

if TYPE_CHECKING:
    from isocenter.services.archive.coercion.edits import Edit

#: The last attribute that can be looked at, and changed, before the rest of an object has come.
LAST_OF_HEAD: Final = 0x04000561
_SOP_CLASS_UID: Final = FIELDS["sop_class_uid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is done with which objects.

    Attributes:
        priority: higher ones are looked at first.
        conditions: all of them have to hold; none: every object is meant.
        area: the first folders of the object's key; empty: it does not say.
        edits: changes of attributes on arrival.
        compression: how an object is kept; None: it does not say.
        analyses: AI services that get series of such objects once they are whole.
        signs: an object is given a digital signature of ours once it is stored.
        retention: when such objects are past their time; None: it does not say.
        quarantine: why an object is withheld until somebody releases it; empty: it is not.
        validation: what happens to one that is not valid; None: it does not say.
        timing: when it is looked at, and sends; None: always, and at once.
        stop: rules after this one are not looked at.
    """

    name: str
    enabled: bool = True
    priority: int = 0
    conditions: tuple[Condition, ...] = ()
    routes: tuple[Route, ...] = ()
    area: str = ""
    edits: tuple[Edit, ...] = ()
    compression: CompressionOrder | None = None
    signs: bool = False
    analyses: tuple[str, ...] = ()
    retention: RetentionRule | None = None
    quarantine: str = ""
    validation: ValidationPolicy | None = None
    timing: RuleTiming | None = None
    stop: bool = False

    def matches(self, sender: Sender, attributes: Mapping[TagOrPath, str]) -> bool:
        """Whether an object is meant; *attributes* as for `Condition.holds`."""
        return all(condition.holds(sender, attributes) for condition in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done with one object.

    Attributes:
        rules: names of those that matched, in the order in which they were looked at.
        routes: one for each destination: that of the first rule that names it.
        area: of the first rule that names one.
        edits: of each attribute, those of the first rule that has any.
        compression: of the first rule that has one.
        signed_by: the first rule that has it signed; empty: none has.
        analyses: the AI services that any of them names.
        expires_by: the first rule that says when it is past its time; empty: none does, or nobody
            else would have it as it is.
        expires_under: the conditions of that rule (`RetentionRule.conditions`).
        quarantine, validation: the same.
        came_from: destinations that rules name, and that the object came from.
    """

    rules: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    came_from: tuple[str, ...] = ()
    area: str = ""
    edits: tuple[Edit, ...] = ()
    compression: CompressionOrder | None = None
    signed_by: str = ""
    analyses: tuple[str, ...] = ()
    expires_by: str = ""
    expires_under: str = ""
    quarantine: str = ""
    validation: ValidationPolicy | None = None

    @property
    def kept_form(self) -> CompressionOrder | None:
        """In which form it is to be kept; None: as it came.

        Both at once, where it is to be smaller and signed: other pixels would break a signature.
        """
        if not self.signed_by:
            return self.compression
        if self.compression is None:
            return CompressionOrder(rule=self.signed_by, when_complete=False, signs=True)
        return replace(self.compression, signs=True)


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Rules in the order in which they are looked at, with those that are switched off."""
    # Sorting is stable: of equal ones the first in the configuration comes first.
    return sorted(rules, key=lambda rule: -rule.priority)


def places_of(rules: Iterable[Rule]) -> frozenset[TagOrPath]:
    """The attributes that rules look at."""
    return frozenset(
        condition.place
        for rule in rules
        for condition in rule.conditions
        if condition.place is not None
    )


def as_named(destination: str) -> str:
    """A destination that has no other name."""
    return destination


class Rules:
    """Those that are enabled, in their order.

    Args:
        ae_title_of: the AE title of a destination that a rule calls by another name.
        now: seconds since 1970.

    Attributes:
        places: the attributes that they look at.
        head_tags: those of *places* that `edits` has to be given.
        ask_for_commitment: whether any of them wants storage commitment, or deletes what others
            have: somebody may have these asked whether they keep it.
    """

    __slots__ = (
        "_ae_title_of",
        "_is_timed",
        "_now",
        "_rules",
        "ask_for_commitment",
        "head_tags",
        "places",
    )

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        ae_title_of: Callable[[str], str] = as_named,
        now: Callable[[], float] = time,
    ) -> None:
        self._now = now
        self._ae_title_of = ae_title_of
        self._rules = [rule for rule in in_order(rules) if rule.enabled]
        self._is_timed = any(rule.timing is not None for rule in self._rules)
        self.places: frozenset[TagOrPath] = places_of(self._rules)
        self.head_tags = frozenset(
            place for place in self.places if isinstance(place, int) and place <= LAST_OF_HEAD
        )
        self.ask_for_commitment = any(
            rule.retention is not None and rule.retention.forwarded_days > 0 for rule in self._rules
        ) or any(r.commit for rule in self._rules for r in rule.routes)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._rules)

    @property
    def retention(self) -> tuple[RetentionRule, ...]:
        """When what rules have matched is past its time."""
        return tuple(rule.retention for rule in self._rules if rule.retention is not None)

    @property
    def has_edits(self) -> bool:
        """Whether there is any that changes objects."""
        return any(rule.edits for rule in self._rules)

    def evaluate(self, sender: Sender, attributes: Mapping[TagOrPath, str]) -> Decision:
        """What is done with an object of these attributes.

        An object is never sent to the AE title that it came from.
        """
        matched = list(self._matching(sender, attributes))
        routes: dict[str, Route] = {}
        came_from: list[str] = []
        for rule in matched:
            for route in rule.routes:
                if self._ae_title_of(route.destination) == sender.calling_ae_title:
                    came_from.append(route.destination)
                else:
                    routes.setdefault(route.destination, self._in_time(rule, route))
        expiry = _expiry(matched, routes.values())
        return Decision(
            rules=tuple(rule.name for rule in matched),
            routes=tuple(routes.values()),
            came_from=tuple(dict.fromkeys(came_from)),
            area=next((rule.area for rule in matched if rule.area), ""),
            edits=_edits_of(matched),
            compression=next((rule.compression for rule in matched if rule.compression), None),
            signed_by=next((rule.name for rule in matched if rule.signs), ""),
            analyses=tuple(dict.fromkeys(one for rule in matched for one in rule.analyses)),
            expires_by="" if expiry is None else expiry.name,
            expires_under="" if expiry is None else expiry.conditions,
            quarantine=next((rule.quarantine for rule in matched if rule.quarantine), ""),
            validation=next((rule.validation for rule in matched if rule.validation), None),
        )

    def _matching(self, sender: Sender, attributes: Mapping[TagOrPath, str]) -> Iterator[Rule]:
        now = self._now() if self._is_timed else 0.0
        for rule in self._rules:
            if rule.timing is not None and rule.timing.why_not(now):
                continue
            if rule.matches(sender, attributes):
                yield rule
                if rule.stop:
                    return

    def _in_time(self, rule: Rule, route: Route) -> Route:
        """*route*, at the next moment of the rule's schedule."""
        if rule.timing is None or not rule.timing.schedule:
            return route
        now = self._now()
        return replace(route, delay=rule.timing.send_at(now + route.delay) - now)

    def edits(self, sender: Sender, head: Mapping[TagOrPath, str]) -> tuple[Edit, ...]:
        """What is changed of an object; *head* has the attributes of `head_tags`.

        The same as `Decision.edits`: rules with edits, and those that stop, look at no others.
        """
        return _edits_of(list(self._matching(sender, head)))

    def may_coerce(self, sender: Sender, sop_class_uid: str) -> bool:
        """Whether an object could be changed, by what is known before its first byte."""
        return any(rule.edits and _may_match(rule, sender, sop_class_uid) for rule in self._rules)

    def may_validate(self, sender: Sender, sop_class_uid: str, default: ValidationPolicy) -> bool:
        """Whether an object could have to be validated, by the same; *default* counts where no
        rule says anything."""
        if default is not ValidationPolicy.OFF:
            return True
        return any(
            rule.validation not in (None, ValidationPolicy.OFF)
            and _may_match(rule, sender, sop_class_uid)
            for rule in self._rules
        )


def _may_match(rule: Rule, sender: Sender, sop_class_uid: str) -> bool:
    known: Mapping[TagOrPath, str] = {_SOP_CLASS_UID: sop_class_uid}
    return all(
        condition.holds(sender, known)
        for condition in rule.conditions
        if condition.place is None or condition.place == _SOP_CLASS_UID
    )


def _edits_of(matched: Sequence[Rule]) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    settled: set[int] = set()
    for rule in matched:
        edits += [edit for edit in rule.edits if edit.tag not in settled]
        settled.update(edit.tag for edit in rule.edits)
    return tuple(edits)


def _expiry(matched: Sequence[Rule], routes: Collection[Route]) -> RetentionRule | None:
    """The first rule that says when an object is past its time; None: none does, or it would go
    when others have it, and nobody is given it as it is: all are given something else, or it came
    from all of them, who need not have it any more."""
    for rule in matched:
        if rule.retention is not None:
            is_kept = any(not route.form.project and not route.form.edits for route in routes)
            if rule.retention.forwarded_days and not is_kept:
                return None
            return rule.retention
    return None


NO_RULES: Final = Rules()
NO_DECISION: Final = Decision()
