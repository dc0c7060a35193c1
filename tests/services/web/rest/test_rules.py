"""Rules in the API: made, changed, put in order, switched and tried."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.notices import RulesChanged
from services.archive_support import STUDY, store
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

RULES = "/rules"
CT = {"name": "CT to far/there", "when": {"modality": ["CT", "!MR"]}, "forward": ["far"]}
PLACE = f"{RULES}/CT%20to%20far%2Fthere"


@pytest.fixture
async def node(site: Site) -> str:
    body = {"name": "far", "address": "PACS@192.0.2.1:104"}
    assert (await ask(site, "POST", "/remote-nodes", body)).status_code == 201
    return "far"


async def shown(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await ask(site, "GET", RULES)).json()["rules"]
    return found


async def test_a_rule_is_made_changed_and_removed(site: Site, node: str) -> None:
    answer = await ask(site, "POST", RULES, CT)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["source"], made["forward"], made["looks_at"]) == ("database", "far", "modality")
    assert made["rule"]["when"] == CT["when"]
    assert (made["changed_by"], made["fault"], made["matched"]) == ("program", "", 0)
    assert await refused(site, "POST", RULES, CT) == (409, "CONFLICT")
    seen = (await ask(site, "GET", PLACE)).headers["etag"]
    change = {"forward": ["PACS"], "delay_minutes": 5, "enabled": False, "priority": 3}
    answer = await ask(site, "PUT", PLACE, change, if_match=seen)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rule"]["forward"] == ["far"], "whatever the caller calls the node"
    assert (answer.json()["enabled"], answer.json()["priority"]) == (False, 3)
    assert await refused(site, "PUT", PLACE, change, if_match=seen) == (412, "CHANGED")
    assert (await ask(site, "DELETE", PLACE)).status_code == 204
    assert (await refused(site, "DELETE", PLACE))[0] == 404
    assert (await refused(site, "GET", PLACE))[0] == 404
    told = [one for one in site.told if isinstance(one, RulesChanged)]
    assert [one.what.rpartition(" ")[2] for one in told] == ["added", "changed", "removed"]


async def test_a_rule_says_in_which_form_it_sends_and_when_it_deletes(
    site: Site, node: str
) -> None:
    body = {
        **CT,
        "forward_coerce": [{"set": "0008,0080", "value": "Nord"}],
        "forward_syntax": "jpeg-ls",
        "delete_after_days": 30,
    }
    status, _ = await refused(site, "POST", RULES, body)
    assert status == 400, "nobody would have it as it is"
    body["delete_since"] = "arrived"
    answer = await ask(site, "POST", RULES, body)
    assert answer.status_code == 201, answer.text
    rule = answer.json()["rule"]
    assert rule["forward_coerce"] == body["forward_coerce"]
    assert (rule["forward_syntax"], rule["delete_after_days"]) == ("jpeg-ls", 30)
    assert answer.json()["deleted"] == 0
    values = {"values": {"Modality": "CT"}}
    (trial,) = (await ask(site, "POST", f"{RULES}/test", values)).json()["trials"]
    done = {one["what"]: one["text"] for one in trial["done"]}
    assert "set (0008,0080) there, in jpeg-ls where that is taken" in done["forward"]
    assert done["expire"] == f"with all of its study, by rule {CT['name']}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "a", "forward_syntax": "jpeg-ls"}, "forward_syntax is about sending"),
        ({"name": "a", "delete_since": "arrived"}, "delete_since is about deleting"),
        ({"forward": ["far"]}, "name"),
        ({"name": "a", "forward": ["nowhere"]}, "nowhere is neither a node nor one of the peers"),
        ({"name": "a", "when": {"Nothing": ["x"]}}, "when.Nothing"),
        ({"name": "a", "delay_minutes": 5}, "delay_minutes is about sending"),
        ({"name": "a", "forward": ["far"], "delete_after": True}, "delete_after needs commit"),
        ({"name": "a", "compress": "zip"}, "compress must be"),
        ({"name": "a", "coerce": [{"set": "0008,0080"}]}, "coerce 1"),
        ({"name": "a", "colour": "red"}, "colour"),
        ({"name": "a", "priority": "high"}, "priority"),
    ],
)
async def test_what_is_no_rule_is_refused_by_name_of_the_fault(
    site: Site, node: str, body: dict[str, Any], said: str
) -> None:
    answer = await ask(site, "POST", RULES, body)
    assert answer.status_code == 400
    assert said in answer.text
    assert await shown(site) == []


async def test_rules_are_put_in_order_and_switched_off_together(site: Site) -> None:
    for number in (1, 2, 3):
        await ask(site, "POST", RULES, {"name": f"r{number}", "area": f"a{number}"})
    answer = await ask(site, "POST", f"{RULES}/reorder", {"names": ["r3", "r1", "r2"]})
    assert [one["name"] for one in answer.json()["rules"]] == ["r3", "r1", "r2"]
    wrong = await refused(site, "POST", f"{RULES}/reorder", {"names": ["r3", "r1"]})
    assert wrong == (400, "REORDER_FAILED")
    assert (await ask(site, "POST", f"{RULES}/disable")).status_code == 204
    assert (await ask(site, "GET", RULES)).json()["is_on"] is False
    assert (await ask(site, "POST", f"{RULES}/enable")).status_code == 204
    assert (await ask(site, "GET", RULES)).json()["is_on"] is True


async def test_a_trial_says_of_each_rule_why_it_does_not_match(site: Site) -> None:
    await store(site.parts.archive)
    off = {"name": "off", "area": "z", "enabled": False}
    for body in (
        {"name": "mr", "when": {"modality": ["MR"]}, "area": "x", "priority": 9},
        {"name": "ct", "when": {"modality": ["CT"]}, "area": "heads", "stop": True, "priority": 5},
        {"name": "later", "area": "y"},
        off,
    ):
        assert (await ask(site, "POST", RULES, body)).status_code == 201
    (trial,) = (await ask(site, "POST", f"{RULES}/test", {"study": STUDY})).json()["trials"]
    assert {"what": "area", "text": "heads"} in trial["done"]
    assert [(one["rule"], one["matches"]) for one in trial["reasons"]] == [
        ("mr", False), ("ct", True), ("later", False), ("off", False),
    ]  # fmt: skip
    mr, _, later, off_ = (one["why"] for one in trial["reasons"])
    assert mr == "modality is not 'MR'"
    assert "'ct'" in later
    assert off_ == "it is switched off"
    values = {"values": {"Modality": "MR", "0008,0060": "MR"}, "calling": "MR1"}
    (trial,) = (await ask(site, "POST", f"{RULES}/test", values)).json()["trials"]
    assert [one["matches"] for one in trial["reasons"]] == [True, False, True, False]
    wrong = {"values": {"Nothing": "MR"}}
    assert await refused(site, "POST", f"{RULES}/test", wrong) == (400, "INVALID_REQUEST")
    assert (await refused(site, "POST", f"{RULES}/test", {}))[0] == 400
    assert (await refused(site, "POST", f"{RULES}/test", {"study": "1.2.99"}))[0] == 404


async def test_what_rules_did_is_listed(site: Site) -> None:
    assert (await ask(site, "GET", "/rule-firings?study=1.2")).json() == {"firings": []}
    assert (await refused(site, "GET", "/rule-firings?limit=0"))[0] == 400


async def test_a_dicomweb_node_is_asked_for_no_commitment(site: Site) -> None:
    node = {"name": "cloud", "address": "https://a.example/dicom-web"}
    await ask(site, "POST", "/remote-nodes", node)
    body = {"name": "web", "forward": ["cloud"], "commit": True}
    answer = await ask(site, "POST", RULES, body)
    assert answer.status_code == 400
    assert "cloud speaks DICOMweb" in answer.text
    assert (await ask(site, "POST", RULES, body | {"commit": False})).status_code == 201


async def test_this_archive_by_another_name_is_no_destination_that_has_it(site: Site) -> None:
    node = {"name": "mirror", "address": "ISOCENTER@127.0.0.1:104"}
    await ask(site, "POST", "/remote-nodes", node)
    body = {"name": "away", "forward": ["mirror"], "delete_after_days": 30}
    answer = await ask(site, "POST", RULES, body)
    assert answer.status_code == 400
    assert "mirror is this archive itself" in answer.text
    body |= {"delete_since": "arrived"}
    assert (await ask(site, "POST", RULES, body)).status_code == 201
