"""Rules of creation, change and states of workitems (PS3.4 CC.1.1, CC.2.1, CC.2.2, CC.2.5, CC.2.6).

Pure functions.  Where workitems are kept, the port says
(`isocenter.services.service_classes.ups.ports`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from isocenter.engine.dataset import Element, Item
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, is_safe_uid
from isocenter.services.dicom.attribute_list import (
    SPECIFIC_CHARACTER_SET,
    AttributeList,
    items_of,
    text_of,
)
from isocenter.services.service_classes.ups.workitem import (
    CANCELLATION_REASON,
    CANCELLED_AT,
    CONTACT_NAME,
    CONTACT_URI,
    DISCONTINUATION_REASON,
    INPUT_READINESS,
    LABEL,
    MODIFIED,
    OUTPUT_INFORMATION,
    PERFORMED_PROCEDURE,
    PRIORITY,
    PROGRESS_INFORMATION,
    REQUESTING_AE,
    SCHEDULED_START,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STATE,
    TRANSACTION_UID,
    UPS_PUSH,
    WORKLIST_LABEL,
    UpsError,
    UpsStatus,
    Workitem,
    WorkitemState,
    date_time,
    element,
    sequence,
    with_elements,
    without,
)

#: Type 1 at creation (Table CC.2.5-3).
_REQUIRED: Final = (SCHEDULED_START, INPUT_READINESS, STATE, PRIORITY, LABEL)
#: Type 2 at creation; a server that is strict wants them to be there, if empty.
_REQUIRED_EMPTY: Final = (
    WORKLIST_LABEL,
    0x00404018,  # Scheduled Workitem Code Sequence
    0x00404021,  # Input Information Sequence
    0x00404025,  # Scheduled Station Name Code Sequence
    0x00741210,  # Scheduled Processing Parameters Sequence
    0x00100010,
    0x00100020,
    0x00100030,
    0x00100040,
)
_VALUES: Final = {
    PRIORITY: ("HIGH", "MEDIUM", "LOW"),
    INPUT_READINESS: ("INCOMPLETE", "UNAVAILABLE", "READY"),
}
#: What only performing can bring about.
_EMPTY_AT_CREATION: Final = (TRANSACTION_UID, PROGRESS_INFORMATION, PERFORMED_PROCEDURE)
#: What an N-SET may not change (Table CC.2.5-3): who and what the workitem is for.
_FIXED: Final = frozenset(
    (
        SOP_CLASS_UID, SOP_INSTANCE_UID, STATE, 0x00100010, 0x00100020, 0x00100021, 0x00100024,
        0x00100030, 0x00100040, 0x00101002, 0x0020000D, 0x00380010, 0x0040A370,
    )
)  # fmt: skip
#: Of the item of UPS Performed Procedure Sequence: required of what is completed.
_PERFORMED: Final = (
    0x00404050,  # Performed Procedure Step Start DateTime
    0x00404051,  # Performed Procedure Step End DateTime
)
_PERFORMED_SEQUENCES: Final = (
    0x00404019,  # Performed Workitem Code Sequence
    0x00404028,  # Performed Station Name Code Sequence
)
_DEFAULT_WORKLIST_LABEL: Final = "DEFAULT"


def workitem_of_create(
    sop_instance_uid: str,
    attributes: AttributeList,
    *,
    now: float,
    strict: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Workitem, int]:
    """The workitem that an N-CREATE makes, and the status: success, or that it was modified.

    Args:
        strict: refuse it also for type 2 attributes that are missing.

    Raises:
        UpsError: C309H: its state is not SCHEDULED; 0120H, 0121H: an attribute, or its value, is
            missing; 0106H: a value that it may not have; 0213H: it is too large.
    """
    wanted = (*_REQUIRED, *_REQUIRED_EMPTY) if strict else _REQUIRED
    missing = [tag for tag in wanted if tag not in attributes.elements]
    if missing:
        raise UpsError(Status.MISSING_ATTRIBUTE, _named("missing", missing), missing)
    empty = [tag for tag in _REQUIRED if not attributes.text(tag)]
    if empty:
        raise UpsError(Status.MISSING_ATTRIBUTE_VALUE, _named("empty", empty), empty)
    if attributes.text(STATE) != WorkitemState.SCHEDULED.value:
        raise UpsError(UpsStatus.NOT_CREATED_SCHEDULED, "the state of a new UPS is SCHEDULED")
    _check_values(attributes)
    wrong = [tag for tag in _EMPTY_AT_CREATION if _has_value(attributes.elements, tag)]
    said = attributes.text(SOP_INSTANCE_UID)
    if said and said != sop_instance_uid:
        wrong.append(SOP_INSTANCE_UID)
    if wrong:
        raise UpsError(Status.INVALID_ATTRIBUTE_VALUE, _named("not at creation", wrong), wrong)
    status: int = Status.SUCCESS
    elements = [
        element(SOP_CLASS_UID, "UI", UPS_PUSH),
        element(SOP_INSTANCE_UID, "UI", sop_instance_uid),
        element(MODIFIED, "DT", date_time(now)),
    ]
    if not attributes.text(WORKLIST_LABEL):
        # Type 1 for us: who asks for a list has to get one.
        elements.append(element(WORKLIST_LABEL, "LO", _DEFAULT_WORKLIST_LABEL))
        status = UpsStatus.CREATED_WITH_MODIFICATIONS
    kept = without(attributes, *_EMPTY_AT_CREATION)
    workitem = Workitem(
        sop_instance_uid=sop_instance_uid,
        state=WorkitemState.SCHEDULED,
        created_at=now,
        changed_at=now,
        attributes=with_elements(kept, elements),
    )
    _check_size(workitem, limits)
    return workitem, status


def workitem_after_set(
    workitem: Workitem, changes: AttributeList, *, now: float, limits: Limits = DEFAULT_LIMITS
) -> Workitem:
    """What an N-SET makes of a workitem.

    A value that may not be changed does no harm where it is the one that is there.

    Raises:
        UpsError: C300H: it is final; C301H: the Transaction UID is not that of its performer;
            C310H: it has one, and nobody performs it yet; 0105H: an attribute may not be set;
            0106H: a value that it may not have; 0213H: it becomes too large.
    """
    said = changes.text(TRANSACTION_UID)
    if workitem.state.is_final:
        raise UpsError(UpsStatus.NO_LONGER_UPDATED, f"it is {workitem.state.value}")
    if workitem.state is WorkitemState.SCHEDULED:
        if said:
            raise UpsError(UpsStatus.NOT_YET_IN_PROGRESS, "nobody performs it yet")
    elif said != workitem.transaction_uid:
        raise _wrong_transaction(said)
    changes = without(changes, TRANSACTION_UID)
    fixed = [
        tag
        for tag in changes.elements
        if tag in _FIXED and not workitem.attributes.has_same(tag, changes)
    ]
    if fixed:
        raise UpsError(Status.NO_SUCH_ATTRIBUTE, _named("not to be set", fixed), fixed)
    _check_values(changes)
    merged = workitem.attributes.updated(changes)
    merged = with_elements(merged, [element(MODIFIED, "DT", date_time(now))])
    after = replace(workitem, changed_at=now, attributes=merged)
    _check_size(after, limits)
    return after


def workitem_after_action(
    workitem: Workitem, wanted: str, transaction_uid: str, *, now: float
) -> tuple[Workitem, int]:
    """What "Change UPS State" makes of a workitem, and the status (Table CC.1.1-2).

    Args:
        wanted: the state that it is to have, as it was said.

    Raises:
        UpsError: 0115H: there is no such state; C300H to C304H, C310H: as the table says.
    """
    try:
        state = WorkitemState(wanted)
    except ValueError:
        raise UpsError(
            Status.INVALID_ARGUMENT_VALUE, f"no state is named so in {tag_text(STATE)}", [STATE]
        ) from None
    if state is WorkitemState.SCHEDULED:
        raise UpsError(UpsStatus.SCHEDULED_BY_CREATE_ONLY, "it is SCHEDULED by N-CREATE only")
    if not transaction_uid or not is_safe_uid(transaction_uid):
        raise _wrong_transaction("")
    is_begun = workitem.state is not WorkitemState.SCHEDULED
    # Nobody ever performed what was cancelled while it was scheduled; then any one is right.
    if is_begun and workitem.transaction_uid not in ("", transaction_uid):
        raise _wrong_transaction(transaction_uid)
    match workitem.state, state:
        case WorkitemState.SCHEDULED, WorkitemState.IN_PROGRESS:
            begun = replace(workitem, transaction_uid=transaction_uid)
            return _in_state(begun, state, now), Status.SUCCESS
        case WorkitemState.SCHEDULED, _:
            raise UpsError(UpsStatus.NOT_YET_IN_PROGRESS, "nobody performs it yet")
        case WorkitemState.IN_PROGRESS, WorkitemState.IN_PROGRESS:
            raise UpsError(UpsStatus.ALREADY_IN_PROGRESS, "it is IN PROGRESS already")
        case WorkitemState.IN_PROGRESS, _:
            missing = final_state_faults(workitem.attributes, state)
            if missing:
                raise UpsError(UpsStatus.FINAL_STATE_NOT_MET, _named("it lacks", missing), missing)
            return _in_state(workitem, state, now), Status.SUCCESS
        case WorkitemState.COMPLETED, WorkitemState.COMPLETED:
            return workitem, UpsStatus.ALREADY_COMPLETED
        case WorkitemState.CANCELED, WorkitemState.CANCELED:
            return workitem, UpsStatus.ALREADY_CANCELED
        case _:
            raise UpsError(UpsStatus.NO_LONGER_UPDATED, f"it is {workitem.state.value}")


def cancelled_before_begun(
    workitem: Workitem, information: AttributeList, *, now: float
) -> tuple[Workitem, Workitem]:
    """What a request to cancel makes of a workitem that nobody performs: first IN PROGRESS by us,
    then CANCELED, with the reasons that were given (CC.2.2.3)."""
    begun = _in_state(workitem, WorkitemState.IN_PROGRESS, now)
    reasons = {
        tag: information.elements[tag]
        for tag in (CANCELLATION_REASON, DISCONTINUATION_REASON)
        if tag in information.elements
    }
    at: dict[int, Element] = {CANCELLED_AT: element(CANCELLED_AT, "DT", date_time(now))}
    progress = AttributeList(
        {
            **{
                tag: one
                for tag, one in information.elements.items()
                if tag
                == SPECIFIC_CHARACTER_SET  # the reason is in the character set of the request
            },
            PROGRESS_INFORMATION: sequence(PROGRESS_INFORMATION, {**at, **reasons}),
        }
    )
    with_reasons = replace(begun, attributes=begun.attributes.updated(progress))
    return begun, _in_state(with_reasons, WorkitemState.CANCELED, now)


def final_state_faults(attributes: AttributeList, state: WorkitemState) -> list[int]:
    """What a final state requires and is not there (Table CC.2.5-3)."""
    if state is WorkitemState.CANCELED:
        items = attributes.items(PROGRESS_INFORMATION)
        if not items:
            return [PROGRESS_INFORMATION]
        return [] if any(text_of(item, CANCELLED_AT) for item in items) else [CANCELLED_AT]
    items = attributes.items(PERFORMED_PROCEDURE)
    if not items:
        return [PERFORMED_PROCEDURE]
    return list(dict.fromkeys(tag for item in items for tag in _performed_faults(item)))


def _performed_faults(item: Item) -> Iterable[int]:
    yield from (tag for tag in _PERFORMED if not text_of(item, tag))
    yield from (tag for tag in _PERFORMED_SEQUENCES if not items_of(item, tag))
    if OUTPUT_INFORMATION not in item:
        yield OUTPUT_INFORMATION


def cancel_information(information: AttributeList, requester: str) -> AttributeList:
    """What a performer is told of a request to cancel (Table CC.2.4-1)."""
    told = information.only(
        (CANCELLATION_REASON, DISCONTINUATION_REASON, CONTACT_URI, CONTACT_NAME)
    )
    return with_elements(told, [element(REQUESTING_AE, "AE", requester)])


def _in_state(workitem: Workitem, state: WorkitemState, now: float) -> Workitem:
    changed = with_elements(
        workitem.attributes,
        [element(STATE, "CS", state.value), element(MODIFIED, "DT", date_time(now))],
    )
    return replace(workitem, state=state, changed_at=now, attributes=changed)


def _wrong_transaction(said: str) -> UpsError:
    why = "of another performer" if said else "missing, or no UID"
    return UpsError(UpsStatus.WRONG_TRANSACTION, f"the Transaction UID is {why}")


def _check_values(attributes: AttributeList) -> None:
    wrong = [
        tag
        for tag, allowed in _VALUES.items()
        if tag in attributes.elements and attributes.text(tag) not in allowed
    ]
    if wrong:
        raise UpsError(Status.INVALID_ATTRIBUTE_VALUE, _named("wrong", wrong), wrong)


def _check_size(workitem: Workitem, limits: Limits) -> None:
    if len(workitem.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN)) > limits.identifier:
        raise UpsError(Status.RESOURCE_LIMITATION, "the workitem is too large")


def _has_value(elements: Mapping[int, Element], tag: int) -> bool:
    found = elements.get(tag)
    if found is None:
        return False
    value = found.value
    return bool(value.strip(b" \0")) if isinstance(value, bytes) else bool(value)


def _named(what: str, tags: Iterable[int]) -> str:
    return f"{what}: {', '.join(map(tag_text, tags))}"
