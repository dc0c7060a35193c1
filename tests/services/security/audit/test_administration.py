"""Audit messages of what people change on pages and by the API: valid, and with who did it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from isocenter.services.notices import (
    Caller,
    FunctionUsed,
    OrderAction,
    OrderChanged,
    SettingsChanged,
)
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.audit import alert_messages as alerts
from isocenter.services.security.audit.messages import AuditMessage, AuditSource, to_xml
from isocenter.services.security.audit.order_messages import order_changed
from isocenter.services.security.audit.participants import ActiveProcess
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
