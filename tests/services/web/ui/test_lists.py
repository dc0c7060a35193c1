"""Patients, arrivals and performed steps on the pages; several studies deleted at once."""

from __future__ import annotations

import re

import pytest

from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.performed_step import step_of_create
from isocenter.services.service_classes.ups.rules import workitem_of_create
from services.archive_support import STUDY, data_set, store
from services.service_classes.mpps.samples import UID, begun
from services.service_classes.ups.samples import scheduled
from services.web.signed_in import Site
from services.web.ui.people import post, text_of

OTHER = "1.2.88"


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    data = data_set(9, study=OTHER, series=f"{OTHER}.1", patient_id="<9>", patient_name="Roe^R")
    await store(site.parts.archive, 9, data)
    return await site.cookie("a-radiologist")


# -- Patients -----------------------------------------------------------------------------


async def test_patients_are_found_and_lead_to_their_studies(
    site: Site, cookie: dict[str, str]
) -> None:
    page = await text_of(site, cookie, "/patients")
    assert "&lt;9&gt;" in page
    assert 'href="/?patient=%3C9%3E"' in page
    assert page.count("<tr>") == 3
    assert "Roe, R" in page
    for query in ("name=roe", "patient=%3C9%3E"):
        found = await text_of(site, cookie, f"/patients?{query}")
        assert found.count("<tr>") == 2, query
    assert "No patient is like that" in await text_of(site, cookie, "/patients?name=nobody")
    assert OTHER in await text_of(site, cookie, "/?patient=%3C9%3E")


async def test_patients_are_taken_away_as_a_table(site: Site, cookie: dict[str, str]) -> None:
    whole = await site.client.get("/patients.csv", headers=cookie)
    assert '"Roe, R",<9>' in whole.text
    answer = await site.client.get("/patients.csv?name=roe", headers=cookie)
    assert answer.headers["content-disposition"] == 'attachment; filename="patients.csv"'
    lines = answer.content.decode("utf-8-sig").splitlines()
    assert lines[0].startswith("PatientName,PatientID")
    assert lines[1].startswith('"Roe, R",<9>')
    assert len(lines) == 2


async def test_a_search_of_patients_that_cannot_be_is_told(
    site: Site, cookie: dict[str, str]
) -> None:
    answer = await site.client.get("/patients?born=soon", headers=cookie)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


# -- Arrivals -----------------------------------------------------------------------------


async def test_what_came_last_is_first(site: Site, cookie: dict[str, str]) -> None:
    page = await text_of(site, cookie, "/arrivals")
    places = [page.index(f'href="/studies/{one}"') for one in (OTHER, STUDY)]
    assert places == sorted(places)
    assert "&lt;9&gt;" in page
    assert "receiving" in page
    assert "Nothing has come" in await text_of(site, cookie, "/arrivals?state=complete")
    assert (await post(site, cookie, f"/studies/{OTHER}/delete", reason="x")).status_code == 303
    assert f'href="/studies/{OTHER}"' not in await text_of(site, cookie, "/arrivals")


async def test_the_state_has_what_came_last_for_those_who_may_search(site: Site) -> None:
    link = f'href="/studies/{STUDY}"'
    assert link in await text_of(site, await site.cookie("a-system"), "/status")
    assert link not in await text_of(site, await site.cookie("a-only-state"), "/status")


# -- Performed steps ----------------------------------------------------------------------


async def test_performed_steps_are_shown_with_what_arrived(
    site: Site, cookie: dict[str, str]
) -> None:
    assert "No step is like that" in await text_of(site, cookie, "/steps")
    attributes = AttributeList.from_dataset(begun())
    step = step_of_create(f"{UID}.1", attributes, source_ae_title="CT<1>", now=1_000.0)
    assert await site.parts.stores.steps.create(step, notify=(), as_ae_title="US")
    page = await text_of(site, cookie, "/steps")
    assert "CT&lt;1&gt;" in page
    assert "in progress" in page
    assert "CT&lt;1&gt;" in await text_of(site, cookie, "/steps?state=IN+PROGRESS")
    assert "CT&lt;1&gt;" not in await text_of(site, cookie, "/steps?state=COMPLETED")
    assert "CT&lt;1&gt;" not in await text_of(site, cookie, "/steps?study=1.2.99")


async def test_workitems_are_shown_as_they_stand(site: Site, cookie: dict[str, str]) -> None:
    assert "No workitem is like that" in await text_of(site, cookie, "/workitems")
    dataset = AttributeList.from_dataset(scheduled("Read <it>", PatientID="P1"))
    workitem, _ = workitem_of_create(f"{UID}.9", dataset, now=1_000.0)
    assert await site.parts.stores.workitems.create(workitem)
    page = await text_of(site, cookie, "/workitems")
    assert "Read &lt;it&gt;" in page
    assert "scheduled" in page
    assert "P1" not in page
    assert "Read &lt;it&gt;" in await text_of(site, cookie, "/workitems?state=SCHEDULED")
    assert "Read &lt;it&gt;" not in await text_of(site, cookie, "/workitems?state=COMPLETED")


# -- Several studies ----------------------------------------------------------------------


async def test_several_studies_are_deleted_with_one_reason(
    site: Site, cookie: dict[str, str]
) -> None:
    page = await text_of(site, cookie, "/")
    assert 'formaction="/delete"' in page
    assert f'name="study" value="{STUDY}"' in page
    page = await text_of(site, cookie, f"/delete?study={STUDY}&study={OTHER}")
    assert "Delete 2 studies?" in page
    assert "4 instances" in page
    assert "&lt;9&gt;" in page
    chosen = re.findall(r'name="study" value="([^"]+)"', page)
    assert sorted(chosen) == sorted([STUDY, OTHER])
    body = "&".join(f"study={one}" for one in chosen)
    headers = {
        **cookie, "origin": site.root, "content-type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    answer = await site.client.post("/delete", content=body, headers=headers)
    assert answer.status_code == 400
    assert "say why" in answer.text
    answer = await site.client.post("/delete", content=f"{body}&reason=twice", headers=headers)
    assert answer.headers["location"] == "/trash"
    assert (await site.parts.archive.index.statistics()).instances == 0
    assert "twice" in await text_of(site, cookie, "/trash")
    answer = await site.client.post("/delete", content=f"{body}&reason=twice", headers=headers)
    assert answer.status_code == 404


@pytest.mark.parametrize("query", ["", "study=", "study=..%2F1", "&".join(["study=1.2"] * 101)])
async def test_what_cannot_be_chosen_is_told(
    site: Site, cookie: dict[str, str], query: str
) -> None:
    answer = await site.client.get(f"/delete?{query}", headers=cookie)
    assert answer.status_code == 400
    assert "choose studies" in answer.text


async def test_who_deletes_but_downloads_nothing_chooses_as_well(site: Site) -> None:
    page = await text_of(site, await site.cookie("a-viewer"), "/")
    assert 'formaction="/delete"' not in page
    assert 'type="checkbox"' not in page
