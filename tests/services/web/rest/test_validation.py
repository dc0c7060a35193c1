"""Marks of validation in the API, and on the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.services.archive.validation.mark import ValidationPolicy
from services.archive_support import STUDY, store
from services.web.rest.asking import ask
from services.web.signed_in import Site, opened
from services.web.ui.people import NOBODY, ONLY, WHO, text_of


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=(*WHO.values(), NOBODY), roles=ONLY) as found:
        intake = found.parts.archive.intake
        intake.validation = ValidationPolicy.LOG
        for number in (1, 2):
            await store(found.parts.archive, number, source_ae_title="CT<7>")
        intake.validation = ValidationPolicy.OFF
        await store(found.parts.archive, 3)
        yield found


async def test_rules_are_listed_by_sender_and_of_a_study(site: Site) -> None:
    found = (await ask(site, "GET", "/validation")).json()
    assert (found["objects"], found["not_valid"]) == (2, 2)
    first = found["rules"][0]
    assert (first["sender"], first["objects"]) == ("CT<7>", 2)
    assert first["last_at"].endswith("+00:00")
    assert "CT-TYPE1-MISSING" in {one["code"] for one in found["rules"]}
    assert (await ask(site, "GET", "/validation?sender=OTHER")).json()["rules"] == []
    one = (await ask(site, "GET", "/validation?code=CT-TYPE1-MISSING")).json()["rules"]
    assert [each["code"] for each in one] == ["CT-TYPE1-MISSING"]
    study = (await ask(site, "GET", f"/validation/studies/{STUDY}")).json()
    assert (study["objects"], study["not_valid"]) == (2, 2)
    other = (await ask(site, "GET", "/validation/studies/9.9.9")).json()
    assert other == {"objects": 0, "not_valid": 0, "rules": []}


async def test_pages_show_marks_and_escape_senders(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    page = await text_of(site, cookie, "/validation")
    assert "2 objects were validated" in page
    assert "CT&lt;7&gt;" in page
    assert "CT<7>" not in page
    assert "No rule is broken" in await text_of(site, cookie, "/validation?sender=OTHER")
    cookie = await site.cookie("a-radiologist")
    study = await text_of(site, cookie, f"/studies/{STUDY}")
    assert "2 of 2 validated objects are not valid" in study
    assert "CT-TYPE1-MISSING: 2 objects" in study
