"""Rules on the pages: in their order, and tried on a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.composition import rule_book
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.rule_book import ShownRule
from services.archive_support import STUDY
from services.web.signed_in import Site
from services.web.ui.people import post, text_of

RULES = """
peers = ["PACS2@127.0.0.1:104"]
[[rules]]
name = "later"
priority = 1
when = { calling_ae = "CT*" }
forward = ["PACS2"]
[[rules]]
name = "<b>first</b>"
priority = 9
area = "heads"
coerce = [{ remove = "PatientComments" }]
[[rules]]
name = "never"
enabled = false
forward = ["PACS2"]
"""


@pytest.fixture
async def cookie(site: Site, tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "settings.toml"
    path.write_text(RULES)
    found = load_settings(path)
    site.settings = replace(site.settings, rules=found.rules, peers=found.peers)
    return await site.cookie("a-only-state")


async def test_rules_stand_in_the_order_in_which_they_are_looked_at(
    site: Site, cookie: dict[str, str]
) -> None:
    page = await text_of(site, cookie, "/rules")
    assert "<b>first" not in page
    first, later, never = (page.index(one) for one in ("&lt;b&gt;first", "later", "never"))
    assert first < later < never
    assert "calling_ae" in page
    site.settings = replace(site.settings, rules=())
    assert "There are none" in await text_of(site, cookie, "/rules")


async def test_rules_are_tried_on_a_study_without_doing_anything(
    site: Site, cookie: dict[str, str]
) -> None:
    page = await text_of(site, cookie, f"/rules?study={STUDY}")
    assert "3 instances" in page
    assert "heads" in page
    assert "to PACS2" not in page
    page = await text_of(site, cookie, f"/rules?study={STUDY}&calling=CT9")
    assert "to PACS2, priority normal, by rule later" in page
    assert not await site.parts.stores.forwards.destinations()


async def test_only_so_many_instances_are_looked_at(
    site: Site, cookie: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_book, "MOST_TRIED", 2)
    page = await text_of(site, cookie, f"/rules?study={STUDY}")
    assert "2 instances" in page
    assert "more instances than were looked at" in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("study=1.2.99", "no such study"),
        ("study=<b>", "no such study"),
        (f"study={STUDY}&calling={'A' * 17}", "an AE title has"),
    ],
)
async def test_what_cannot_be_tried_is_told(
    site: Site, cookie: dict[str, str], query: str, said: str
) -> None:
    answer = await site.client.get(f"/rules?{query}", headers=cookie)
    assert answer.status_code == 400
    assert said in answer.text


async def test_a_rule_is_made_moved_changed_switched_and_removed(site: Site) -> None:
    cookie = await site.cookie("a-only-configure")
    seen = await site.cookie("a-only-state")
    for name in ("first", "second"):
        fields = {"name": name, "definition": f'area = "{name}"\n', "enabled": "yes"}
        assert (await post(site, cookie, "/rules", **fields)).status_code == 303
    names = [one.name for one in await rules_of(site)]
    assert names == ["first", "second"]
    assert (await post(site, cookie, "/rules/second/move", where="sooner")).status_code == 303
    assert [one.name for one in await rules_of(site)] == ["second", "first"]
    page = await text_of(site, seen, "/rules/second")
    assert "area = &#34;second&#34;" in page
    change = {"definition": 'area = "other"', "priority": "7", "version": "1"}
    answer = await post(site, cookie, "/rules/second", **change)
    assert answer.status_code == 400, "it was moved since"
    assert "changed meanwhile" in answer.text
    change.pop("version")
    assert (await post(site, cookie, "/rules/second", **change)).status_code == 303
    (second, _) = await rules_of(site)
    assert (second.area, second.priority, second.enabled) == ("other", 7, False)
    assert (await post(site, cookie, "/rules/second/switch")).status_code == 303
    assert (await rules_of(site))[0].enabled
    assert (await post(site, cookie, "/routing/switch", rules="off")).status_code == 303
    assert "Rules are switched off" in await text_of(site, seen, "/rules")
    assert (await post(site, cookie, "/rules/second/remove")).status_code == 303
    assert [one.name for one in await rules_of(site)] == ["first"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "a", "definition": "area ="}, "is not TOML"),
        ({"name": "a", "definition": "priority = 1"}, "priority has a field of its own"),
        ({"name": "a", "priority": "x"}, "must be a whole number"),
        ({"name": "a", "definition": 'forward = ["NOBODY"]'}, "NOBODY is neither a node"),
        ({"definition": 'area = "x"'}, "needs a name"),
    ],
)
async def test_what_cannot_be_a_rule_stays_in_the_form_with_its_fault(
    site: Site, fields: dict[str, str], said: str
) -> None:
    answer = await post(site, await site.cookie("a-only-configure"), "/rules", **fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert await rules_of(site) == []


async def rules_of(site: Site) -> list[ShownRule]:
    return list(await site.rules.rules())
