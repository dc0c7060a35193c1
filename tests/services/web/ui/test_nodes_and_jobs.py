"""Pages of remote nodes and jobs."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import pytest
import trio

from isocenter.services import composition
from isocenter.services.archive.orders import Route
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.forwarding.ports import Failed
from isocenter.services.workflow.jobs.job import ItemState, JobItem, JobState
from isocenter.services.workflow.jobs.ports import ItemOutcome
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.storage.database.database import Connection
from services.archive_support import STUDY, data_set, store, uid
from services.web.rest.asking import ask, refused
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


async def test_a_node_is_limited_held_and_released(site: Site, cookie: dict[str, str]) -> None:
    await post(site, cookie, "/nodes", address="FAR@192.0.2.1:104", name="far")
    fields = {"associations": "1", "bandwidth": "2.5M", "hours": "mon-fri 20:00-06:00"}
    assert (await post(site, cookie, "/nodes/far/limits", **fields)).status_code == 303
    page = await text_of(site, cookie, "/nodes")
    assert "1 associations" in page
    assert "mon-fri 20:00-06:00" in page
    assert 'value="2500000"' in await text_of(site, cookie, "/nodes/far")
    for wrong in ({"associations": "x"}, {"bandwidth": "fast"}, {"hours": "at night"}):
        answer = await post(site, cookie, "/nodes/far/limits", **wrong)
        assert answer.status_code == 400
    for said in ("Release far", "Hold far"):
        assert (await post(site, cookie, "/nodes/far/hold")).status_code == 303
        assert said in await text_of(site, cookie, "/nodes")


async def test_what_rules_forward_stands_with_the_jobs(site: Site, cookie: dict[str, str]) -> None:
    assert "What rules forward" not in await text_of(site, cookie, "/jobs")
    index = site.parts.archive.index
    records = list((await index.records([uid(1), uid(2)])).values())
    routes = (Route(destination="FAR", rule="all"),)
    await index.add([replace(one, routes=routes) for one in records], replace=True)
    queue = site.parts.stores.forwards
    (first, _) = await queue.take("FAR", 9)
    await queue.settle([Failed(first, "refused", None)])
    await site.parts.stores.limits.hold("FAR", is_held=True)
    page = await text_of(site, cookie, "/jobs")
    row = page.partition('href="/queue?destination=FAR">')[2].partition("</tr>")[0]
    assert row.count('<td class="number">1</td>') == 2
    assert "it is held until somebody releases it" in row


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


async def test_jobs_that_ask_no_node_are_asked_for_and_shown(
    site: Site, cookie: dict[str, str]
) -> None:
    for kind, words in (("verify", "Verify what is here"), ("export", "Export to a folder")):
        answer = await ask(site, "POST", f"/jobs/{kind}", {"studies": [STUDY]})
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["job_id"]
        assert words in await text_of(site, cookie, f"/jobs/{job_id}")
        assert (await refused(site, "POST", f"/jobs/{kind}", {"studies": []}))[0] == 400
    assert "verify" in await text_of(site, cookie, "/jobs")


async def test_whoever_may_not_search_does_not_see_what_a_job_is_about(site: Site) -> None:
    body = {"node": "far", "keys": {"PatientID": "4711"}}
    job_id = (await ask(site, "POST", "/jobs/retrieve", body)).json()["job_id"]
    cookie = await site.cookie("a-only-state")
    for path in f"/jobs/{job_id}", "/jobs":
        assert "4711" not in await text_of(site, cookie, path)
        for headers, keys in (cookie, {}), ({}, {"PatientID": "4711"}):
            found = (await ask(site, "GET", path, **headers)).json()
            (one,) = found.get("jobs", [found])
            assert (one["job_id"], one["keys"]) == (job_id, keys)


async def test_a_job_of_a_newer_version_has_a_page(site: Site, cookie: dict[str, str]) -> None:
    """While nodes are upgraded one after the other, an earlier one shows it."""
    body = {"node": "far", "keys": {"PatientID": "4711"}}
    job_id = (await ask(site, "POST", "/jobs/retrieve", body)).json()["job_id"]

    def renew(connection: Connection) -> None:
        connection.execute("UPDATE job SET kind = 'miracle' WHERE job_id = ?", (job_id,))

    await site.parts.stores.jobs._database.write(renew)
    assert "a newer version of Isocenter" in await text_of(site, cookie, f"/jobs/{job_id}")
    assert job_id[:8] in await text_of(site, cookie, "/jobs")


async def test_jobs_are_asked_for_on_the_page_of_jobs(site: Site, cookie: dict[str, str]) -> None:
    await post(site, cookie, "/nodes", address="FAR@192.0.2.1:104", name="far")
    page = await text_of(site, cookie, "/jobs")
    assert "Take in files of the server" in page
    assert "<option>jpeg-ls</option>" in page
    asked = (
        ("/jobs/import", {"place": "/srv/incoming"}, "Take in files"),
        ("/jobs/compress", {"studies": STUDY, "to": "jpeg-ls"}, "Compress"),
    )
    for path, fields, said in asked:
        answer = await post(site, cookie, path, **fields)
        assert answer.status_code == 303
        assert said in await text_of(site, cookie, answer.headers["location"])
    for path, fields in (
        ("/jobs/import", {"place": "incoming"}),
        ("/jobs/compress", {"studies": STUDY, "to": "jpeg-baseline"}),
        ("/jobs/compress", {"studies": "x/y", "to": "jpeg-ls"}),
    ):
        assert (await post(site, cookie, path, **fields)).status_code == 400


async def test_what_a_query_has_found_is_for_who_may_search(site: Site) -> None:
    system, reader = await site.cookie("a-system"), await site.cookie("a-viewer")
    await post(site, system, "/nodes", address="FAR@192.0.2.1:104", name="far")
    assert (await post(site, reader, "/jobs/query", node="far")).status_code == 400
    assert (await post(site, reader, "/jobs/query", node="x", PatientID="P")).status_code == 400
    answer = await post(site, reader, "/jobs/query", node="far", PatientID="P*")
    assert answer.status_code == 303
    queue = site.parts.stores.jobs
    job = await queue.claim("w", 60.0, not_for=())
    assert job is not None
    study = RemoteStudy(study_instance_uid="1.2.3", patient_name="Bäcker^Anna")
    await queue.keep_results(job, [asdict(study)])
    assert "Bäcker^Anna" in await text_of(site, system, f"/jobs/{job.job_id}")
    watcher = await site.cookie("a-only-state")
    assert "Bäcker^Anna" not in await text_of(site, watcher, f"/jobs/{job.job_id}")
