"""Shared studies in the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from isocenter.services.integration.sharing.key_object_manifest import manifest_bytes
from isocenter.services.integration.sharing.ports import PublishingError
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.workflow.jobs.job import JobKind
from isocenter.services.workflow.nodes.node import new_node
from services.integration.sharing.samples import ROOT, identity, manifest
from services.web.rest.asking import ask, refused
from services.web.signed_in import ONE_DOCUMENT, Site

PATH = "/shared/regional/patients/P1/documents"


@pytest.fixture(autouse=True)
def one_document() -> Iterator[None]:
    ONE_DOCUMENT.content = manifest_bytes(manifest(), replace(identity(), document_uid="1.2.9"))
    yield
    ONE_DOCUMENT.content, ONE_DOCUMENT.fault = b"", None


async def test_a_study_is_found_and_fetched(site: Site) -> None:
    (found,) = (await ask(site, "GET", PATH)).json()["documents"]
    assert (found["document_uid"], found["title"]) == ("1.2.9", "Thorax")
    refusal = await ask(site, "POST", f"{PATH}/1.2.9/fetch")
    assert (refusal.status_code, "isocenter node add" in refusal.text) == (409, True)
    await site.parts.stores.nodes.add(new_node("https://archive.example/dicomweb", "other"))
    answer = await ask(site, "POST", f"{PATH}/1.2.9/fetch")
    assert answer.status_code == 202
    job = await site.parts.stores.jobs.get(answer.json()["job_id"])
    assert job is not None
    assert (job.request.kind, job.request.node) == (JobKind.RETRIEVE, "other")
    assert job.request.keys == (("StudyInstanceUID", ROOT),)


async def test_a_manifest_is_shown_before_its_study_is_fetched(site: Site) -> None:
    shown = (await ask(site, "GET", f"{PATH}/1.2.9")).json()
    assert (shown["study_instance_uid"], shown["instances_here"]) == (ROOT, 0)
    assert shown["instances"] == sum(one["instances"] for one in shown["series"])
    assert shown["series"][0]["wado_rs"] == "https://archive.example/dicomweb"
    assert (shown["place"], "isocenter node add" in shown["obstacle"]) == ("", True)
    await site.parts.stores.nodes.add(new_node("https://archive.example/dicomweb", "other"))
    shown = (await ask(site, "GET", f"{PATH}/1.2.9")).json()
    assert (shown["place"], shown["obstacle"]) == ("other", "")
    assert await refused(site, "GET", f"{PATH}/9.9") == (404, "NOT_FOUND")


async def test_faults_of_repositories_are_told_as_such(site: Site) -> None:
    assert await refused(site, "GET", "/shared/x/patients/P1/documents") == (404, "NOT_FOUND")
    assert await refused(site, "POST", f"{PATH}/9.9/fetch") == (404, "NOT_FOUND")
    assert await refused(site, "GET", f"{PATH}?issuer=X") == (409, "NOT_SHARED")
    ONE_DOCUMENT.fault = HttpStatusError(500, "Doe^Jane")
    answer = await ask(site, "GET", PATH)
    assert (answer.status_code, "Doe" in answer.text) == (502, False)
    for fault, status in ((BrokenAnswerError("no JSON"), 502), (PublishingError("no"), 409)):
        ONE_DOCUMENT.fault = fault
        assert (await ask(site, "GET", PATH)).status_code == status
    ONE_DOCUMENT.fault, ONE_DOCUMENT.content = None, b"%PDF"
    assert await refused(site, "POST", f"{PATH}/1.2.9/fetch") == (409, "NOT_SHARED")
