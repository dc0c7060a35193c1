"""Events of workitems, as subscribers are told of them (PS3.4 CC.2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.ups.workitem import (
    CANCELLATION_REASON,
    DISCONTINUATION_REASON,
    HUMAN_PERFORMER,
    HUMAN_PERFORMERS,
    INPUT_READINESS,
    PERFORMER_ORGANIZATION,
    PROGRESS_INFORMATION,
    STATE,
    STATION_NAME,
    Workitem,
    element,
    with_elements,
)

_SCP_STATUS: Final = 0x00741242
_SUBSCRIPTION_LIST_STATUS: Final = 0x00741244
_WORKITEM_LIST_STATUS: Final = 0x00741246
_CHARACTER_SET: Final = 0x00080005


class EventType(IntEnum):
    """Event Type ID (0000,1002), by Table CC.2.4-1."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


@dataclass(frozen=True, slots=True)
class WorkitemEvent:
    """One event.

    Attributes:
        sop_instance_uid: of the workitem, or of the global subscription.
    """

    kind: EventType
    sop_instance_uid: str
    information: AttributeList


def events_of(before: Workitem | None, after: Workitem) -> Iterator[WorkitemEvent]:
    """What is told of a change; *before* None: it was created."""
    uid = after.sop_instance_uid
    if before is None or _differ(before, after, STATE, INPUT_READINESS):
        yield state_report(after)
    if before is not None and _differ(before, after, PROGRESS_INFORMATION):
        information = after.attributes.only([PROGRESS_INFORMATION])
        yield WorkitemEvent(EventType.PROGRESS_REPORT, uid, information)
    is_assigned = any(_has(after, tag) for tag in (STATION_NAME, HUMAN_PERFORMERS))
    if is_assigned and (before is None or _differ(before, after, STATION_NAME, HUMAN_PERFORMERS)):
        yield WorkitemEvent(EventType.ASSIGNED, uid, _assignment(after))


def state_report(workitem: Workitem) -> WorkitemEvent:
    """How a workitem stands."""
    told = workitem.attributes.only([STATE, INPUT_READINESS])
    reasons = {
        tag: item[tag]
        for item in workitem.attributes.items(PROGRESS_INFORMATION)
        for tag in (CANCELLATION_REASON, DISCONTINUATION_REASON)
        if tag in item
    }
    return WorkitemEvent(
        EventType.STATE_REPORT, workitem.sop_instance_uid, with_elements(told, reasons.values())
    )


def restarted(sop_instance_uid: str) -> WorkitemEvent:
    """This server has started again, with all workitems and subscriptions that it had."""
    information = AttributeList(
        {
            _SCP_STATUS: element(_SCP_STATUS, "CS", "RESTARTED"),
            _SUBSCRIPTION_LIST_STATUS: element(_SUBSCRIPTION_LIST_STATUS, "CS", "WARM START"),
            _WORKITEM_LIST_STATUS: element(_WORKITEM_LIST_STATUS, "CS", "WARM START"),
        }
    )
    return WorkitemEvent(EventType.SCP_STATUS_CHANGE, sop_instance_uid, information)


def _assignment(workitem: Workitem) -> AttributeList:
    told = {
        tag: one
        for tag, one in workitem.attributes.elements.items()
        if tag in (_CHARACTER_SET, STATION_NAME)
    }
    for item in workitem.attributes.items(HUMAN_PERFORMERS)[:1]:
        told |= {
            tag: one
            for tag, one in item.items()
            if tag in (HUMAN_PERFORMER, PERFORMER_ORGANIZATION)
        }
    return AttributeList(dict(sorted(told.items())))


def _differ(before: Workitem, after: Workitem, *tags: int) -> bool:
    return any(
        before.attributes.elements.get(tag) != after.attributes.elements.get(tag) for tag in tags
    )


def _has(workitem: Workitem, tag: int) -> bool:
    return bool(workitem.attributes.items(tag))
