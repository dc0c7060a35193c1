"""Pages of remote nodes and jobs."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from isocenter.services import composition
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.jobs.job import ItemState, JobItem, JobState
from isocenter.services.workflow.jobs.ports import ItemOutcome
from services.archive_support import STUDY, data_set, store
from services.web.signed_in import Site
from services.web.ui.people import post, text_of
from support.ports import free_port
from support.serving import port_of


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    return await site.cookie("a-system")


async def test_a_node_is_added_verified_disabled_and_removed(
    site: Site, cookie: dict[str, str]
) -> None:
    assert "There is none yet" in await text_of(site, cookie, "/nodes")
    address = f"FAR@127.0.0.1:{free_port()}"
    answer = await post(site, cookie, "/nodes", address=address, name="far away")
    assert (answer.status_code, answer.headers["location"]) == (303, "/nodes")
    again = await post(site, cookie, "/nodes", address=address, name="far away")
    assert again.status_code == 400
    assert "already" in again.text
    wrong = await post(site, cookie, "/nodes", address="<b>nowhere")
    assert wrong.status_code == 400
    assert "&lt;b&gt;nowhere" in wrong.text
    answer = await post(site, cookie, "/nodes/far%20away/verify")
    assert answer.status_code == 303
    assert "offline" in await text_of(site, cookie, "/nodes")
    for said in ("disabled", "unknown"):
        await post(site, cookie, "/nodes/far%20away/switch")
        assert said in await text_of(site, cookie, "/nodes")
    page = await text_of(site, cookie, "/nodes/far%20away?ask=yes")
    assert "The node did not answer" in page
    assert (await post(site, cookie, "/nodes/far%20away/remove")).status_code == 303
    assert (await post(site, cookie, "/nodes/far%20away/remove")).status_code == 404


async def test_studies_of_a_node_are_found_and_asked_for(
    site: Site, cookie: dict[str, str]
) -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry = composition.build_services(settings, parts.archive, parts.stores, None)
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        server = await nursery.start(partial(serve, registry, binds))
        await store(parts.archive, 1, data_set(1, study="1.2.77", patient_name="<script>^A"))
        address = f"ISOCENTER@127.0.0.1:{port_of(server)}"
        await post(site, cookie, "/nodes", address=address, name="far")
        page = await text_of(site, cookie, "/nodes/far?ask=yes&patient_id=P1")
        assert "1.2.77" in page
        assert "<script>^" not in page
        assert "no such study" in await text_of(site, cookie, "/nodes/far?ask=yes&patient_id=Q")
        answer = await post(site, cookie, "/nodes/far/retrieve", study="1.2.77")
        assert answer.status_code == 303
        (job,) = await site.parts.stores.jobs.jobs(limit=9)
        assert answer.headers["location"] == f"/jobs/{job.job_id}"
        assert job.request.keys == (("StudyInstanceUID", "1.2.77"),)
        assert (await post(site, cookie, "/nodes/far/retrieve")).status_code == 400
        nursery.cancel_scope.cancel()


async def test_a_study_is_sent_and_its_job_steered(site: Site, cookie: dict[str, str]) -> None:
    ask = f"/send?study={STUDY}"
    assert "There is no node" in await text_of(site, cookie, ask)
    await post(site, cookie, "/nodes", address="FAR@192.0.2.1:104")
    assert ask in await text_of(site, cookie, f"/studies/{STUDY}")
    assert 'formaction="/send"' in await text_of(site, cookie, "/")
    assert "<option>FAR" in await text_of(site, cookie, ask)
    assert "these 2 studies" in await text_of(site, cookie, f"{ask}&study=1.2.99&study={STUDY}")
    for wrong in (
        "/send",
        "/send?study=..%2f1",
        "/send?" + "&".join(f"study=1.{n}" for n in range(201)),
    ):
        assert (await site.client.get(wrong, headers=cookie)).status_code == 400
    assert (await post(site, cookie, "/send", study=STUDY, node="NO")).status_code == 400
    answer = await post(site, cookie, "/send", study=STUDY, node="FAR")
    place = answer.headers["location"]
    page = await text_of(site, cookie, place)
    assert "has not told yet" in page
    assert f"{place}/pause" in page
    assert (await post(site, cookie, f"{place}/pause")).status_code == 303
    assert (await post(site, cookie, f"{place}/pause")).status_code == 409
    assert f"{place}/resume" in await text_of(site, cookie, place)
    await post(site, cookie, f"{place}/resume")
    queue = site.parts.stores.jobs
    job = await queue.claim("w", 60.0, not_for=())
    assert job is not None
    item = JobItem(
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.1",
        sop_instance_uid="1.2.3.1.1",
        sop_class_uid="1.9",
    )
    await queue.plan(job, [item], is_last=True)
    outcome = ItemOutcome(sop_instance_uid="1.2.3.1.1", state=ItemState.FAILED, fault="<i>refused")
    await queue.settle(job, [outcome])
    await queue.end(job, JobState.FAILED, "1 of 1 objects failed")
    page = await text_of(site, cookie, place)
    assert "&lt;i&gt;refused" in page
    assert "1 failed" in page
    assert "1 of 1 objects failed" in await text_of(site, cookie, "/jobs?state=failed")
    assert "that is waiting" in await text_of(site, cookie, "/jobs?state=waiting")
    assert (await post(site, cookie, f"{place}/delete")).headers["location"] == "/jobs"
    assert (await site.client.get(place, headers=cookie)).status_code == 404
