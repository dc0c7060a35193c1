"""What doctor says of remote nodes, of rules that send to them, and of what waits."""

from __future__ import annotations

from dataclasses import replace

from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.destinations import assess_destinations
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.workflow.forwarding.ports import DestinationStatus, ForwardState
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.services.workflow.nodes.node import NodeState, new_node

FAR = replace(new_node("FAR@192.0.2.1:104"), state=NodeState.ONLINE)
WEB = new_node("https://a.example/dicom-web", "cloud")


def assess(**changes: object) -> CheckResult:
    values = {
        "nodes": [FAR, WEB],
        "limits": [],
        "statuses": [],
        "forwards": {"all": ["FAR"]},
        "rule_faults": [],
        "known": {"FAR", "cloud"},
        "are_rules_on": True,
        "now": 5.0,
    }
    return assess_destinations(**values | changes)  # type: ignore[arg-type]


def test_where_all_is_well_it_says_what_there_is() -> None:
    found = assess()
    assert found.findings == ()
    assert found.seen == "2 remote nodes, 1 forwarding rule"


def test_a_node_that_failed_is_named_with_its_fault_and_what_says_more() -> None:
    nodes = [
        replace(FAR, state=NodeState.OFFLINE, fault="connection refused"),
        replace(WEB, state=NodeState.ERROR, fault="401"),
        replace(FAR, name="off", state=NodeState.OFFLINE, is_enabled=False),
    ]
    far, web = assess(nodes=nodes).findings
    assert far.text == "node FAR is offline: connection refused"
    assert far.cure == "isocenter doctor 'FAR@192.0.2.1:104' says more"
    assert web.cure == "isocenter node test 'cloud' says more"


def test_rules_that_cannot_send_are_told() -> None:
    (unknown,) = assess(forwards={"all": ["FAR", "GONE"]}).findings
    assert "'all' forwards to GONE" in unknown.text
    assert unknown.severity is Severity.ERROR
    (fault,) = assess(rule_faults=["rule 'x': no"]).findings
    assert fault.meaning == "the rule is not in use"
    (off,) = assess(are_rules_on=False).findings
    assert off.cure == "isocenter rules on"


def test_what_waits_and_what_was_given_up_is_told() -> None:
    counts = {ForwardState.DUE: 3, ForwardState.FAILED: 1}
    status = DestinationStatus(destination="FAR", counts=counts, failures=2, last_fault="away")
    waits, given_up = assess(statuses=[status]).findings
    assert waits.text == "FAR could not be sent to, 2 times in a row: away"
    assert given_up.text.startswith("1 object for FAR")
    held = DestinationLimit(destination="FAR", is_held=True)
    note, _ = assess(statuses=[status], limits=[held]).findings
    assert note.severity is Severity.NOTE
    assert "it is held" in note.text
