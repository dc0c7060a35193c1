"""What is told together, by a clock that the test turns."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from isocenter.services.notices import (
    AssociationRejected,
    Caller,
    InstancesMarked,
    InstancesRead,
    InstanceStored,
    QueryAnswered,
)
from isocenter.services.security.audit import aggregation as gathering
from isocenter.services.security.audit.aggregation import (
    ALERT_SECONDS,
    LONGEST_SECONDS,
    MOST_ADDRESSES,
    MOST_INSTANCES,
    QUIET_SECONDS,
    ReadGroup,
    ReadInstances,
    ReceivedInstances,
    RepeatedAlerts,
)
from isocenter.services.security.audit.alert_messages import association_rejected
from isocenter.services.security.audit.message_builder import instances_marked, query
from isocenter.services.security.audit.messages import AuditMessage, AuditSource, to_xml
from isocenter.services.security.audit.participants import ActiveProcess, Patient
from services.security.audit.trails import audited_object, parsed

HERE = ActiveProcess(ae_titles=("US",), machine="vm", user="root", process_id=7)


def stored(
    number: int = 1, *, association: str = "a", study: str = "1", outcome: str = "stored"
) -> InstanceStored:
    return InstanceStored(
        caller=Caller(association=association, address="10.0.0.1:104", calling_ae_title="CT"),
        study_instance_uid=study,
        series_instance_uid="1.1",
        sop_class_uid="1.2.3",
        sop_instance_uid=f"1.1.{number}",
        size=1,
        outcome=outcome,
        patient_id="P",
        patient_name="N",
    )


def counts(told: list[AuditMessage]) -> list[tuple[str, int]]:
    return [
        (each.objects[0].id, count)
        for each in told
        for count in each.objects[0].sop_classes.values()
    ]


@pytest.fixture
def told() -> list[AuditMessage]:
    return []


def test_the_end_of_an_association_tells_of_its_instances_only(told: list[AuditMessage]) -> None:
    received = ReceivedInstances(HERE, told.append)
    for number in range(3):
        received.add(stored(number), 0)
        received.add(stored(number, association="b"), 0)
    received.end("a")
    assert counts(told) == [("1", 3)]
    received.end("a")
    received.end("b")
    assert counts(told) == [("1", 3), ("1", 3)]


def test_quiet_is_told(told: list[AuditMessage]) -> None:
    received = ReceivedInstances(HERE, told.append)
    received.add(stored(), 0)
    received.add(stored(), QUIET_SECONDS - 1)
    received.tick(QUIET_SECONDS)
    assert told == []
    received.tick(2 * QUIET_SECONDS - 1)
    assert counts(told) == [("1", 2)]


def test_what_never_is_quiet_is_told_now_and_then(told: list[AuditMessage]) -> None:
    received = ReceivedInstances(HERE, told.append)
    for second in range(int(LONGEST_SECONDS)):
        received.add(stored(second), second)
        received.tick(second)
    assert told == []
    received.tick(LONGEST_SECONDS)
    assert counts(told) == [("1", int(LONGEST_SECONDS))]


def test_many_instances_are_told_before_the_end(told: list[AuditMessage]) -> None:
    received = ReceivedInstances(HERE, told.append)
    for number in range(MOST_INSTANCES + 1):
        received.add(stored(number), 0)
    assert counts(told) == [("1", MOST_INSTANCES)]
    received.flush()
    assert counts(told) == [("1", MOST_INSTANCES), ("1", 1)]


def test_ever_new_studies_take_no_more_than_so_much_memory(
    told: list[AuditMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MOST_GROUPS", 3)
    received = ReceivedInstances(HERE, told.append)
    for number in range(10):
        received.add(stored(study=f"{number}"), 0)
    assert counts(told) == [(f"{number}", 1) for number in range(7)]


@pytest.mark.parametrize(
    ("outcome", "action"),
    [("stored", "C"), ("replaced", "U"), ("already stored", "R"), ("kept other", "R")],
)
def test_what_became_of_an_instance_is_the_action(
    told: list[AuditMessage], outcome: str, action: str
) -> None:
    received = ReceivedInstances(HERE, told.append)
    received.add(stored(outcome=outcome), 0)
    received.flush()
    assert told[0].action.value == action


def rejected(address: str) -> AuditMessage:
    caller = Caller(association="a", address=f"{address}:104", calling_ae_title="X")
    return association_rejected(
        HERE, AssociationRejected(caller=caller, result=1, source=1, reason=3, why="who?")
    )


def add(alerts: RepeatedAlerts) -> Callable[[str, float], None]:
    return lambda address, now: alerts.add(rejected(address), "rejected", address, now)


def test_an_alert_that_comes_again_is_counted(told: list[AuditMessage]) -> None:
    alerts = RepeatedAlerts(told.append)
    for second in range(50):
        add(alerts)("10.0.0.1", second)
    add(alerts)("10.0.0.2", 50)
    assert [each.objects[0].id for each in told] == ["10.0.0.1", "10.0.0.2"]
    alerts.tick(ALERT_SECONDS)
    alerts.tick(2 * ALERT_SECONDS)
    assert len(told) == 3
    root = parsed(to_xml(told[-1], AuditSource(source_id="x")))
    node = root.find("ParticipantObjectIdentification")
    assert node.get("ParticipantObjectID") == "10.0.0.1"
    values = [base64.b64decode(each.get("value")) for each in node.iter("ParticipantObjectDetail")]
    assert values == [b"49 more like the one before", b"49"]
    add(alerts)("10.0.0.1", 3 * ALERT_SECONDS)
    assert len(told) == 4


def test_any_number_of_strangers_is_a_bounded_number_of_records(told: list[AuditMessage]) -> None:
    alerts = RepeatedAlerts(told.append)
    for number in range(10_000):
        add(alerts)(f"2001:db8::{number:x}", 0)
    assert len(told) == MOST_ADDRESSES + 1
    alerts.tick(ALERT_SECONDS)
    assert len(told) == MOST_ADDRESSES + 2
    others = told[-1]
    assert others.objects[0].id == "others"
    assert others.objects[0].details["Occurrences"] == str(9_999 - MOST_ADDRESSES).encode()
    assert len(others.participants) == 1


# -- What is noted on images --------------------------------------------------------------


@pytest.mark.parametrize("action", ["C", "U", "D"])
def test_what_is_noted_on_an_image_is_told_without_the_note(action: str) -> None:
    noted = InstancesMarked(
        caller=Caller(association="http-1", address="10.0.0.1", user="carol"),
        study_instance_uid="1.2",
        sop_classes={"1.2.3": 1},
        action=action,
        what="annotation 4711 made",
    )
    message = instances_marked(HERE, noted, Patient("P", "N"))
    root = parsed(to_xml(message, AuditSource(source_id="US")))
    event = root.find("EventIdentification")
    assert event.get("EventActionCode") == action
    assert event.find("EventID").get("csd-code") == "110103"
    users = {
        each.get("UserID"): each.get("UserIsRequestor")
        for each in root.findall("ActiveParticipant")
    }
    assert users == {"7": "false", "carol": "true"}
    assert counts([message]) == [("1.2", 1)]


# -- What is read over HTTP ---------------------------------------------------------------


def read(
    *numbers: int, user: str = "carol", study: str = "1", is_whole: bool = True
) -> InstancesRead:
    return InstancesRead(
        caller=Caller(association="http-1", address="10.0.0.1", user=user),
        study_instance_uid=study,
        sop_instance_uids=frozenset(f"1.1.{number}" for number in numbers),
        sop_classes={"1.2.3": len(numbers)},
        is_whole=is_whole,
    )


def test_a_thousand_frames_of_some_instances_are_one_message() -> None:
    groups: list[ReadGroup] = []
    gathered = ReadInstances(groups.append)
    gathered.add(read(1, 2, 3), 0)
    for _ in range(300):
        for number in (1, 2, 3):
            gathered.add(read(number), 1)
    gathered.add(read(3, 4), 2)
    gathered.tick(QUIET_SECONDS + 1.9)
    assert groups == []
    gathered.tick(QUIET_SECONDS + 2)
    (group,) = groups
    message = group.message(HERE, Patient("P", "N"))
    assert counts([message]) == [("1", 4)]
    root = parsed(to_xml(message, AuditSource(source_id="US")))
    assert root.find("EventIdentification/EventID").get("csd-code") == "110104"
    users = [each.get("UserID") for each in root.findall("ActiveParticipant")]
    assert users == ["7", "carol"]


def test_a_study_is_told_of_also_without_its_instances() -> None:
    groups: list[ReadGroup] = []
    gathered = ReadInstances(groups.append)
    gathered.add(read(), 0)
    gathered.flush()
    (group,) = groups
    parsed(to_xml(group.message(HERE, Patient()), AuditSource(source_id="US")))


def test_callers_studies_and_what_was_cut_are_told_apart() -> None:
    groups: list[ReadGroup] = []
    gathered = ReadInstances(groups.append)
    for one in (read(1), read(1, user="dave"), read(1, study="2"), read(1, is_whole=False)):
        gathered.add(one, 0)
    gathered.flush()
    assert len(groups) == 4
    assert [one.is_whole for one in groups].count(False) == 1
    cut = next(one for one in groups if not one.is_whole).message(HERE, Patient())
    root = parsed(to_xml(cut, AuditSource(source_id="US")))
    assert root.find("EventIdentification").get("EventOutcomeIndicator") == "4"


def test_what_is_read_without_an_end_is_told_now_and_then() -> None:
    groups: list[ReadGroup] = []
    gathered = ReadInstances(groups.append)
    for second in range(int(LONGEST_SECONDS)):
        gathered.add(read(1), second)
        gathered.tick(second)
    assert groups == []
    gathered.tick(LONGEST_SECONDS)
    assert len(groups) == 1
    for number in range(MOST_INSTANCES):
        gathered.add(read(number), LONGEST_SECONDS)
    assert len(groups) == 2
    assert not gathered._groups


def test_a_search_over_http_is_a_query_without_a_transfer_syntax() -> None:
    told = query(
        HERE,
        QueryAnswered(
            caller=Caller(association="http-1", address="10.0.0.1", user="carol"),
            sop_class_uid="1.2.840.10008.5.1.4.1.2.2.1",
            transfer_syntax_uid="",
            identifier=b"/dicomweb/studies?PatientName=M*",
            matches=3,
            status=0,
        ),
    )
    root = parsed(to_xml(told, AuditSource(source_id="US")))
    asked = audited_object(root, "110181")
    sent = base64.b64decode(asked.findtext("ParticipantObjectQuery"))
    assert sent == b"/dicomweb/studies?PatientName=M*"
    kinds = [each.get("type") for each in asked.findall("ParticipantObjectDetail")]
    assert kinds == ["NumberOfMatches"]
