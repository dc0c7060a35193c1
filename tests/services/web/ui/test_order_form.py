"""Scheduled steps by hand."""

from __future__ import annotations

import pytest

from isocenter.services.notices import OrderChanged
from services.web.signed_in import Site
from services.web.ui.people import post, text_of

STEP = {
    "family": "Doe", "given": "J&ne", "patient_id": "P9", "birth_date": "1980-02-29", "sex": "F",
    "day": "2026-12-01", "time": "08:30", "modality": "ct", "station_ae": "CT1",
    "procedure_desc": "Thorax",
}  # fmt: skip


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    return await site.cookie("a-technologist")


async def test_a_step_is_scheduled(site: Site, cookie: dict[str, str]) -> None:
    assert 'href="/worklist/new"' in await text_of(site, cookie, "/worklist")
    answer = await post(site, cookie, "/worklist/new", **STEP)
    assert answer.headers["location"] == "/worklist?day=2026-12-01"
    page = await text_of(site, cookie, "/worklist?day=2026-12-01")
    assert "Doe, J&amp;ne" in page
    assert "08:30" in page
    assert "<td>CT</td>" in page
    (told,) = [one for one in site.told if isinstance(one, OrderChanged)]
    assert (told.caller.user, told.patient_id) == ("a-technologist", "P9")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "", "patient_id": ""}, "a step needs a name, a Patient ID"),
        ({"modality": " "}, "a modality"),
        ({"day": "soon"}, "scheduled_datetime"),
        ({"birth_date": "long ago"}, "birth_date"),
        ({"station_ae": "A" * 17}, "station_ae"),
    ],
)
async def test_what_cannot_be_scheduled_is_told_with_what_was_written(
    site: Site, cookie: dict[str, str], changes: dict[str, str], said: str
) -> None:
    answer = await post(site, cookie, "/worklist/new", **{**STEP, **changes})
    assert answer.status_code == 400
    assert said in answer.text
    assert 'value="Thorax"' in answer.text
    assert "Doe" not in await text_of(site, cookie, "/worklist")
