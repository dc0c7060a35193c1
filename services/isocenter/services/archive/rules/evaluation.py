"""Rules, and what they decide about one object.

Evaluation is pure and bounded: no rule is looked at twice, and matching a pattern takes time in
proportion to its length and that of the value, which `record.MAX_TEXT_LENGTH` bounds.

Conditions are about the object as it came, also where coercion changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import CompressionOrder, Route
from isocenter.services.archive.rules.conditions import FIELDS, Condition, Sender
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
        quarantine: why an object is withheld until somebody releases it; empty: it is not.
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
    quarantine: str = ""
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
        quarantine: the same.
    """

    rules: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    area: str = ""
    edits: tuple[Edit, ...] = ()
    compression: CompressionOrder | None = None
    quarantine: str = ""


class Rules:
    """Those that are enabled, in their order.

    Attributes:
        places: the attributes that they look at.
        head_tags: those of *places* that `edits` has to be given.
        ask_for_commitment: whether any of them wants storage commitment.
    """

    __slots__ = ("_rules", "ask_for_commitment", "head_tags", "places")

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        # Sorting is stable: of equal ones the first in the configuration comes first.
        self._rules = sorted((r for r in rules if r.enabled), key=lambda rule: -rule.priority)
        self.places: frozenset[TagOrPath] = frozenset(
            condition.place
            for rule in self._rules
            for condition in rule.conditions
            if condition.place is not None
        )
        self.head_tags = frozenset(
            place for place in self.places if isinstance(place, int) and place <= LAST_OF_HEAD
        )
        self.ask_for_commitment = any(r.commit for rule in self._rules for r in rule.routes)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._rules)

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
        for rule in matched:
            for route in rule.routes:
                if route.destination != sender.calling_ae_title:
                    routes.setdefault(route.destination, route)
        return Decision(
            rules=tuple(rule.name for rule in matched),
            routes=tuple(routes.values()),
            area=next((rule.area for rule in matched if rule.area), ""),
            edits=_edits_of(matched),
            compression=next((rule.compression for rule in matched if rule.compression), None),
            quarantine=next((rule.quarantine for rule in matched if rule.quarantine), ""),
        )

    def _matching(self, sender: Sender, attributes: Mapping[TagOrPath, str]) -> Iterator[Rule]:
        for rule in self._rules:
            if rule.matches(sender, attributes):
                yield rule
                if rule.stop:
                    return

    def edits(self, sender: Sender, head: Mapping[TagOrPath, str]) -> tuple[Edit, ...]:
        """What is changed of an object; *head* has the attributes of `head_tags`.

        The same as `Decision.edits`: rules with edits, and those that stop, look at no others.
        """
        return _edits_of(list(self._matching(sender, head)))

    def may_coerce(self, sender: Sender, sop_class_uid: str) -> bool:
        """Whether an object could be changed, by what is known before its first byte."""
        known: Mapping[TagOrPath, str] = {_SOP_CLASS_UID: sop_class_uid}
        return any(
            rule.edits
            and all(
                condition.holds(sender, known)
                for condition in rule.conditions
                if condition.place is None or condition.place == _SOP_CLASS_UID
            )
            for rule in self._rules
        )


def _edits_of(matched: Sequence[Rule]) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    settled: set[int] = set()
    for rule in matched:
        edits += [edit for edit in rule.edits if edit.tag not in settled]
        settled.update(edit.tag for edit in rule.edits)
    return tuple(edits)


NO_RULES: Final = Rules()
NO_DECISION: Final = Decision()
