"""Pages of studies that others have shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from isocenter.services.archive.index.query import FoundPage, Page, Query
from isocenter.services.integration.sharing.key_object_manifest import manifest_bytes
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.notices import FunctionUsed, Notices
from isocenter.services.workflow.jobs.job import JobKind
from isocenter.services.workflow.nodes.node import new_node
from services.archive_support import STUDY
from services.integration.sharing.samples import ROOT, identity, manifest
from services.web.signed_in import ONE_DOCUMENT, Site, elsewhere_of
from services.web.ui.people import post, text_of

PATH = "/elsewhere"
PATIENT = {"repository": "regional", "patient_id": "P1"}


@pytest.fixture(autouse=True)
def one_document() -> Iterator[None]:
    ONE_DOCUMENT.content = manifest_bytes(manifest(), replace(identity(), document_uid="1.2.9"))
    yield
    ONE_DOCUMENT.content, ONE_DOCUMENT.fault = b"", None


async def test_a_study_is_found_shown_and_fetched(site: Site) -> None:
    cookie = await site.cookie("a-system")
    assert "regional" in await text_of(site, cookie, PATH)
    found = await post(site, cookie, PATH, **PATIENT)
    assert found.status_code == 200
    assert "Thorax" in found.text
    shown = await post(site, cookie, f"{PATH}/manifest", **PATIENT, document="1.2.9")
    assert ROOT in shown.text
    assert "It cannot be fetched: no node of this archive" in shown.text
    refused = await post(site, cookie, f"{PATH}/fetch", **PATIENT, document="1.2.9")
    assert (refused.status_code, "isocenter node add" in refused.text) == (200, True)
    await site.parts.stores.nodes.add(new_node("https://archive.example/dicomweb", "other"))
    shown = await post(site, cookie, f"{PATH}/manifest", **PATIENT, document="1.2.9")
    assert "fetched from other" in shown.text
    answer = await post(site, cookie, f"{PATH}/fetch", **PATIENT, document="1.2.9")
    assert answer.status_code == 303
    job = await site.parts.stores.jobs.get(answer.headers["location"].rpartition("/")[2])
    assert job is not None
    assert (job.request.kind, job.request.node) == (JobKind.RETRIEVE, "other")
    told = [one.what for one in site.told if isinstance(one, FunctionUsed)]
    assert told[-1] == f"study {ROOT} fetched by repository regional"
    assert "documents of a patient listed at repository regional" in told
    assert not any("P1" in one for one in told)


async def test_faults_stand_on_the_page(site: Site) -> None:
    cookie = await site.cookie("a-system")
    nobody = await post(site, cookie, PATH, repository="regional", patient_id="  ")
    assert "the Patient ID is empty" in nobody.text
    nowhere = await post(site, cookie, PATH, repository="x", patient_id="P1")
    assert "no such repository in the settings; there are regional" in nowhere.text
    unknown = await post(site, cookie, f"{PATH}/manifest", **PATIENT, document="9.9")
    assert "no such manifest" in unknown.text
    nothing = await post(site, cookie, PATH, repository="regional", patient_id="P2")
    assert "no manifest of this patient" in nothing.text
    ONE_DOCUMENT.fault = HttpStatusError(500, "Doe^Jane")
    site.told.clear()
    failed = await post(site, cookie, PATH, **PATIENT)
    told = [one.what for one in site.told if isinstance(one, FunctionUsed)]
    assert told == ["documents of a patient listed at repository regional"], "they heard of whom"
    assert "the repository answered 500" in failed.text
    assert "Doe" not in failed.text


async def test_what_a_repository_calls_things_is_no_markup(site: Site) -> None:
    cookie = await site.cookie("a-system")
    odd = {"repository": "regional", "patient_id": '"><script>', "issuer": "<b>"}
    answer = await post(site, cookie, PATH, **odd)
    assert "<script>" not in answer.text.split("</head>")[1]
    assert "<b>" not in answer.text


async def test_a_form_of_another_site_asks_nobody(site: Site) -> None:
    cookie = await site.cookie("a-system")
    headers = {**cookie, "origin": "https://evil.example",
               "content-type": "application/x-www-form-urlencoded"}  # fmt: skip
    answer = await site.client.post(PATH, data=PATIENT, headers=headers)
    assert answer.status_code == 403


async def test_what_is_here_of_many_studies_is_one_question(site: Site) -> None:
    elsewhere = elsewhere_of(site.parts, Notices())
    asked: list[Query] = []
    find_page = site.parts.archive.index.find_page

    async def counted(query: Query, page: Page) -> FoundPage:
        asked.append(query)
        return await find_page(query, page)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(site.parts.archive.index, "find_page", counted)
        counts = await elsewhere.instances_here(["", STUDY, *(f"1.2.3.{n}" for n in range(400))])
    assert counts == await elsewhere.instances_here([STUDY])
    assert counts[STUDY]
    assert len(asked) == 1
