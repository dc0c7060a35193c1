"""Whatever comes for a workitem, it is one, or it is refused with a status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import DataSetError, Element
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.ups.events import events_of
from isocenter.services.service_classes.ups.ports import WaitingEvent
from isocenter.services.service_classes.ups.query import parse_workitem_keys
from isocenter.services.service_classes.ups.rules import (
    cancelled_before_begun,
    workitem_after_action,
    workitem_after_set,
    workitem_of_create,
)
from isocenter.services.service_classes.ups.workitem import (
    PROGRESS_INFORMATION,
    UpsError,
    sequence,
)
from isocenter.services.web.dicomweb.ups.subscriptions import (
    MOST_SOCKETS,
    event_text,
    look_seconds,
)
from services.service_classes.ups.samples import (
    LOCK,
    UID,
    attributes,
    cancelled,
    performed,
    progress,
    scheduled,
)

SAMPLES = [
    attributes(one).encode(EXPLICIT_VR_LITTLE_ENDIAN)
    for one in (scheduled(), progress("5"), performed(), cancelled())
]
damage = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 255)), max_size=6)


def damaged(raw: bytes, changes: list[tuple[int, int]]) -> AttributeList | None:
    data = bytearray(raw)
    for at, value in changes:
        data[at % len(data)] = value
    try:
        return AttributeList.read(data, EXPLICIT_VR_LITTLE_ENDIAN)
    except DataSetError:
        return None


def test_many_sockets_ask_no_oftener_than_some() -> None:
    assert look_seconds(1) == 1
    assert MOST_SOCKETS / look_seconds(MOST_SOCKETS) == 100


def test_an_event_of_more_elements_than_a_request_may_have_is_told() -> None:
    item = {tag: Element(tag, "LO", b"") for tag in range(0x00091000, 0x00091000 + 50_000)}
    many = AttributeList({PROGRESS_INFORMATION: sequence(PROGRESS_INFORMATION, item)})
    event = WaitingEvent(
        number=1, kind=3, sop_instance_uid=UID, data_set=many.encode(EXPLICIT_VR_LITTLE_ENDIAN)
    )
    assert event_text(event).startswith("{")


@given(damage, damage, st.sampled_from(SAMPLES[1:]))
def test_damaged_workitems(
    first: list[tuple[int, int]], second: list[tuple[int, int]], sample: bytes
) -> None:
    new, changes = damaged(SAMPLES[0], first), damaged(sample, second)
    if new is None or changes is None:
        return
    try:
        workitem, _ = workitem_of_create(UID, new, now=1.0)
        for _, after in (
            (0, workitem_after_set(workitem, changes, now=2.0)),
            (1, cancelled_before_begun(workitem, changes, now=2.0)[1]),
        ):
            for event in events_of(workitem, after):
                data = event.information.encode(EXPLICIT_VR_LITTLE_ENDIAN)
                waiting = WaitingEvent(
                    number=1, kind=event.kind, sop_instance_uid=UID, data_set=data
                )
                assert event_text(waiting)
        begun, _ = workitem_after_action(workitem, "IN PROGRESS", LOCK, now=3.0)
        workitem_after_action(begun, "COMPLETED", LOCK, now=4.0)
    except UpsError:
        pass  # refused


@given(damage, st.text(alphabet="0123456789-+.", max_size=40))
def test_damaged_keys(changes: list[tuple[int, int]], text: str) -> None:
    keys = scheduled()
    del keys.ScheduledProcedureStepStartDateTime
    whole = attributes(keys).encode(EXPLICIT_VR_LITTLE_ENDIAN)
    for raw in (damaged(whole, changes), damaged(start_key(text), [])):
        if raw is None:
            continue
        encoded = raw.encode(EXPLICIT_VR_LITTLE_ENDIAN)
        try:
            found = parse_workitem_keys(encoded, EXPLICIT_VR_LITTLE_ENDIAN)
        except IdentifierError:
            continue
        known = attributes(scheduled())
        found.matches(known)
        found.response(known).encode(EXPLICIT_VR_LITTLE_ENDIAN)


def start_key(text: str) -> bytes:
    value = text.encode() + b" " * (len(text) & 1)
    return b"\x40\x00\x05\x40DT" + len(value).to_bytes(2, "little") + value


@pytest.mark.parametrize("text", ["20261301-0500", "2026-20261399", "-", "x-y"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(IdentifierError) as caught:
        parse_workitem_keys(start_key(text), EXPLICIT_VR_LITTLE_ENDIAN)
    assert caught.value.status == 0xA900


def test_a_range_without_an_end() -> None:
    keys = parse_workitem_keys(start_key("99991231-"), EXPLICIT_VR_LITTLE_ENDIAN)
    assert not keys.matches(attributes(scheduled()))
