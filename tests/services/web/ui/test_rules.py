"""Rules on the pages: in their order, and tried on a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.composition import rule_trial
from isocenter.services.settings.loading import load_settings
from services.archive_support import STUDY
from services.web.signed_in import Site
from services.web.ui.people import text_of

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
    monkeypatch.setattr(rule_trial, "MOST_TRIED", 2)
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
