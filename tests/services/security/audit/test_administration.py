"""Audit messages of what people change on pages and by the API: valid, and with who did it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from isocenter.services.archive.object_signing import ObjectSigned
from isocenter.services.notices import (
    Caller,
    FunctionUsed,
    OrderAction,
    OrderChanged,
    PerformedStepChanged,
    PrintJobChanged,
    ProcedureRecordRead,
    SettingsChanged,
    WorkitemChanged,
)
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.audit import alert_messages as alerts
from isocenter.services.security.audit.messages import AuditMessage, AuditSource, to_xml
from isocenter.services.security.audit.order_messages import order_changed
from isocenter.services.security.audit.participants import ActiveProcess
from isocenter.services.security.audit.print_messages import print_job_changed
from isocenter.services.security.audit.step_messages import (
    step_changed,
    step_read,
    workitem_changed,
)
from services.security.audit.trails import parsed

HERE = ActiveProcess(ae_titles=("US",), machine="vm", user="root", process_id=7)
ALICE = Caller(association="http-1", address="10.0.0.1:104", user="alice")


def xml(message: AuditMessage) -> Any:
    """The message, after it was held against the schema; that Alice did it."""
    root = parsed(to_xml(message, AuditSource(source_id="US")))
    requestors = {
        each.get("UserID"): each.get("NetworkAccessPointID")
        for each in root.findall("ActiveParticipant")
        if each.get("UserIsRequestor") == "true"
    }
    assert requestors == {"alice": "10.0.0.1"}
    assert root.find("EventIdentification").get("EventOutcomeIndicator") == "0"
    return root


def said(root: Any) -> str:
    """What an alert says."""
    (detail,) = root.iter("ParticipantObjectDetail")
    return base64.b64decode(detail.get("value")).decode()


@pytest.mark.parametrize(
    ("action", "code"),
    [(OrderAction.ADDED, "C"), (OrderAction.CHANGED, "U"), (OrderAction.REMOVED, "D")],
)
def test_who_changes_an_order_is_told_with_whose_it_is(action: OrderAction, code: str) -> None:
    changed = OrderChanged(
        caller=ALICE, action=action, study_instance_uid="1.2.3", accession_number="A7",
        patient_id="4711", patient_name="N",
    )  # fmt: skip
    root = xml(order_changed(HERE, changed))
    event = root.find("EventIdentification")
    assert event.get("EventActionCode") == code
    assert event.find("EventID").get("csd-code") == "110109"
    objects = {
        each.get("ParticipantObjectTypeCodeRole"): each.get("ParticipantObjectID")
        for each in root.findall("ParticipantObjectIdentification")
    }
    assert objects == {"3": "1.2.3", "1": "4711"}
    assert said(root) == "A7"
    assert "4711" not in repr(changed)


@pytest.mark.parametrize(("is_new", "code"), [(True, "C"), (False, "U")])
def test_a_performed_step_is_told_with_its_studies_and_its_patient(is_new: bool, code: str) -> None:
    changed = PerformedStepChanged(
        caller=ALICE, sop_instance_uid="1.2.9", state="IN PROGRESS", is_new=is_new,
        study_instance_uids=("1.2.3", "1.2.4"), series_instance_uids=(),
        patient_id="4711", patient_name="N",
    )  # fmt: skip
    root = xml(step_changed(HERE, changed))
    event = root.find("EventIdentification")
    assert event.get("EventActionCode") == code
    assert event.find("EventID").get("csd-code") == "110111"
    objects = [
        each.get("ParticipantObjectID") for each in root.findall("ParticipantObjectIdentification")
    ]
    assert objects == ["1.2.3", "1.2.4", "4711"]
    details = {
        base64.b64decode(each.get("value")).decode()
        for each in root.iter("ParticipantObjectDetail")
    }
    assert details == {"1.2.9", "IN PROGRESS"}
    assert "4711" not in repr(changed)


def test_who_changes_settings_is_told_with_which() -> None:
    notice = SettingsChanged(caller=ALICE, keys=("log.level", "peers"))
    root = xml(alerts.settings_changed(HERE, notice))
    assert root.find("EventIdentification/EventTypeCode").get("csd-code") == "110131"
    assert said(root) == "settings changed: log.level, peers"


def test_who_changes_the_policy_is_told_with_what() -> None:
    root = xml(alerts.policy_changed(HERE, PolicyChanged(caller=ALICE, what="user bob removed")))
    assert root.find("EventIdentification/EventTypeCode").get("csd-code") == "110129"
    assert said(root) == "user bob removed"


def test_who_uses_what_is_not_for_everybody_is_told() -> None:
    notice = FunctionUsed(caller=ALICE, what="what failed is sent again")
    root = xml(alerts.function_used(HERE, notice))
    assert root.find("EventIdentification/EventTypeCode").get("csd-code") == "110132"
    assert said(root) == "what failed is sent again"


@pytest.mark.parametrize("study", ["1.2.3", ""])
def test_a_workitem_is_told_with_its_patient_and_its_study_if_there_is_one(study: str) -> None:
    changed = WorkitemChanged(
        caller=ALICE, sop_instance_uid="1.2.9", what="state changed", state="COMPLETED",
        study_instance_uid=study, patient_id="4711", patient_name="N",
    )  # fmt: skip
    root = xml(workitem_changed(HERE, changed))
    assert root.find("EventIdentification").get("EventActionCode") == "U"
    objects = [
        each.get("ParticipantObjectID") for each in root.findall("ParticipantObjectIdentification")
    ]
    assert objects == ["1.2.3", "4711"][not study :]
    details = {
        base64.b64decode(each.get("value")).decode()
        for each in root.iter("ParticipantObjectDetail")
    }
    assert details == {"1.2.9", "COMPLETED", "state changed"}
    assert "4711" not in repr(changed)


@pytest.mark.parametrize("studies", [("1.2.3", "1.2.4"), ()])
def test_who_reads_a_step_is_told_with_the_patient(studies: tuple[str, ...]) -> None:
    read = ProcedureRecordRead(
        caller=ALICE, kind="Performed Procedure Step", sop_instance_uid="1.2.9",
        study_instance_uids=studies, patient_id="4711", patient_name="N",
    )  # fmt: skip
    root = xml(step_read(HERE, read))
    event = root.find("EventIdentification")
    assert event.get("EventActionCode") == "R"
    assert event.find("EventID").get("csd-code") == "110111"
    objects = [
        each.get("ParticipantObjectID") for each in root.findall("ParticipantObjectIdentification")
    ]
    assert objects == [*studies, "4711"]
    details = [
        base64.b64decode(each.get("value")).decode()
        for each in root.iter("ParticipantObjectDetail")
    ]
    assert details == ["1.2.9"]
    assert "4711" not in repr(read)


@pytest.mark.parametrize(
    ("caller", "what", "study", "outcome"),
    [(ALICE, "submitted", "1.2.3", "0"), (None, "failed", "", "8"), (None, "done", "1.2.3", "0")],
)
def test_a_print_job_is_an_export_with_its_study_if_it_is_known(
    caller: Caller | None, what: str, study: str, outcome: str
) -> None:
    changed = PrintJobChanged(
        caller=caller, job_uid="1.2.9", what=what, films=3, study_instance_uid=study
    )
    message = to_xml(print_job_changed(HERE, changed), AuditSource(source_id="US"))
    root = parsed(message)
    event = root.find("EventIdentification")
    assert event.find("EventID").get("csd-code") == "110106"
    assert event.get("EventOutcomeIndicator") == outcome
    objects = [
        each.get("ParticipantObjectID") for each in root.findall("ParticipantObjectIdentification")
    ]
    assert objects == ["1.2.3", "urn:isocenter:print-job:1.2.9"][not study :]
    requestors = [
        each.get("UserID")
        for each in root.findall("ActiveParticipant")
        if each.get("UserIsRequestor") == "true"
    ]
    assert len(requestors) == 1
    details = {
        base64.b64decode(each.get("value")).decode()
        for each in root.iter("ParticipantObjectDetail")
    }
    assert details == {what, "3"}


def test_an_object_that_is_kept_signed_is_told_with_its_study_and_rule() -> None:
    signed = ObjectSigned(
        study_instance_uid="1.2.3", sop_instance_uid="1.2.3.4", signature_uid="1.2.9", rule="SR"
    )
    source = AuditSource(source_id="US")
    root = parsed(to_xml(alerts.object_signed(HERE, signed), source))
    told = {
        base64.b64decode(each.get("value")).decode()
        for each in root.iter("ParticipantObjectDetail")
    }
    assert told == {"instance 1.2.3.4 was signed by rule SR: signature 1.2.9"}
    assert "1.2.3" in {each.get("ParticipantObjectID") for each in root.iter()}
    signed = ObjectSigned(sop_instance_uid="1.2.3.4", signature_uid="1.2.9", destination="PACS")
    assert "was signed for PACS" in said(parsed(to_xml(alerts.object_signed(HERE, signed), source)))
