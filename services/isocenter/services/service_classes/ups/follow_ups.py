"""Follow-ups: the workitem that a completed one makes, by a rule."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import (
    SPECIFIC_CHARACTER_SET,
    AttributeList,
    items_of,
)
from isocenter.services.service_classes.ups.workitem import (
    INPUT_INFORMATION,
    INPUT_READINESS,
    LABEL,
    OUTPUT_INFORMATION,
    PERFORMED_PROCEDURE,
    PRIORITY,
    SCHEDULED_START,
    STATE,
    STUDY_INSTANCE_UID,
    WORKLIST_LABEL,
    Workitem,
    WorkitemState,
    date_time,
    element,
    sequence,
)

#: Of the patient and of the order: of the follow-up as they are of what was completed.
_TAKEN_OVER: Final = (
    SPECIFIC_CHARACTER_SET, STUDY_INSTANCE_UID, 0x00100010, 0x00100020, 0x00100021, 0x00100024,
    0x00100030, 0x00100040, 0x00101002, 0x00380010, 0x0040A370,
)  # fmt: skip
#: Type 2 of a workitem, and nothing that a rule says.
_EMPTY_SEQUENCES: Final = (0x00404018, 0x00404025, 0x00404026, 0x00404027, 0x00741210)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """What follows a completed workitem.

    Attributes:
        name: of the rule.
        after: the Worklist Label of what is completed.
        label: what is to be done, the Procedure Step Label.
        worklist_label: in which list it comes.
        priority: HIGH, MEDIUM or LOW; empty: that of what is completed.
    """

    name: str
    after: str
    label: str
    worklist_label: str
    priority: str = ""


def follow_up_uid(rule: FollowUp, sop_instance_uid: str) -> str:
    """The UID of what follows a workitem by a rule; always the same."""
    name = f"{sop_instance_uid}\0{rule.name}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def follow_ups_of(
    rules: Iterable[FollowUp], before: Workitem, after: Workitem, *, now: float
) -> list[tuple[str, AttributeList]]:
    """UID and attributes, as an N-CREATE has them, of what a change makes follow."""
    if before.state is WorkitemState.COMPLETED or after.state is not WorkitemState.COMPLETED:
        return []
    label = after.attributes.text(WORKLIST_LABEL)
    return [
        (follow_up_uid(rule, after.sop_instance_uid), _attributes(rule, after, now))
        for rule in rules
        if rule.after == label
    ]


def _attributes(rule: FollowUp, completed: Workitem, now: float) -> AttributeList:
    known = completed.attributes.elements
    found: dict[int, Element] = {tag: known[tag] for tag in _TAKEN_OVER if tag in known}
    made = [
        element(STATE, "CS", WorkitemState.SCHEDULED.value),
        element(PRIORITY, "CS", rule.priority or completed.attributes.text(PRIORITY) or "MEDIUM"),
        element(INPUT_READINESS, "CS", "READY"),
        element(SCHEDULED_START, "DT", date_time(now)),
        element(WORKLIST_LABEL, "LO", rule.worklist_label),
        element(LABEL, "LO", rule.label),
        sequence(INPUT_INFORMATION, *_results(completed.attributes)),
        *(sequence(tag) for tag in _EMPTY_SEQUENCES),
    ]
    found |= {one.tag: one for one in made}
    return AttributeList(dict(sorted(found.items())))


def _results(attributes: AttributeList) -> Sequence[Mapping[int, Element]]:
    """What was made; where nothing was, what it was to be made of."""
    made = [
        item
        for performed in attributes.items(PERFORMED_PROCEDURE)
        for item in items_of(performed, OUTPUT_INFORMATION)
    ]
    return made or list(attributes.items(INPUT_INFORMATION))
