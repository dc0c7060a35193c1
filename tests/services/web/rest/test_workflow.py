"""Remote nodes and jobs in the API."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import pytest
import trio

from isocenter.services import composition
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.notices import NodesChanged
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.jobs.job import ItemState, JobItem, JobKind, JobState
from isocenter.services.workflow.jobs.ports import ItemOutcome
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from services.archive_support import STUDY, store
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site
from support.ports import free_port
from support.serving import port_of

NODES, JOBS = "/remote-nodes", "/jobs"


async def test_a_node_is_added_changed_and_removed(site: Site) -> None:
    body = {"name": "far", "address": "PACS@192.0.2.1:104", "tls": True, "server_name": "a.example"}
    answer = await ask(site, "POST", NODES, body)
    assert answer.status_code == 201
    shown = answer.json()
    assert shown["server_name"] == "a.example"
    assert (shown["name"], shown["kind"], shown["state"]) == ("far", "dimse", "unknown")
    assert await refused(site, "POST", NODES, body) == (409, "CONFLICT")
    seen = (await ask(site, "GET", f"{NODES}/far")).headers["etag"]
    change = {"address": "http://192.0.2.1/dicom-web", "enabled": False}
    answer = await ask(site, "PUT", f"{NODES}/far", change, if_match=seen)
    assert (answer.json()["kind"], answer.json()["enabled"]) == ("dicomweb", False)
    assert await refused(site, "PUT", f"{NODES}/far", change, if_match=seen) == (412, "CHANGED")
    page = (await ask(site, "GET", NODES)).json()
    assert [one["name"] for one in page["data"]] == ["far"]
    assert (await ask(site, "DELETE", f"{NODES}/far")).status_code == 204
    assert (await refused(site, "DELETE", f"{NODES}/far"))[0] == 404
    assert (await refused(site, "GET", f"{NODES}/far"))[0] == 404
    told = [one for one in site.told if isinstance(one, NodesChanged)]
    assert [one.what.split(":")[0] for one in told] == [
        "node far was added", "node far was changed", "node far was removed",
    ]  # fmt: skip
    assert {one.caller.certificate for one in told} == {"program"}


async def test_a_token_goes_nowhere_else_when_its_node_is_pointed_elsewhere(site: Site) -> None:
    body = {"address": "https://cloud.example/dicom-web", "token_file": "/etc/cloud.token"}
    assert (await ask(site, "POST", NODES, {**body, "name": "cloud"})).status_code == 201
    change = {**body, "address": "https://elsewhere.example/dicom-web"}
    assert await refused(site, "PUT", f"{NODES}/cloud", change) == (409, "CONFLICT")
    assert (await ask(site, "DELETE", f"{NODES}/cloud")).status_code == 204
    assert await refused(site, "POST", NODES, {**change, "name": "b"}) == (409, "CONFLICT")


@pytest.mark.parametrize(
    "body",
    [
        {"address": "nowhere"},
        {"address": "https://user:secret@host/"},
        {"address": "PACS@host:104", "name": "../x"},
        {"address": "PACS@host:104", "colour": "red"},
        {},
    ],
)
async def test_what_is_no_node_is_refused(site: Site, body: dict[str, str]) -> None:
    answer = await ask(site, "POST", NODES, body)
    assert answer.status_code == 400
    assert "secret" not in answer.text


async def test_a_node_is_verified_and_searched(site: Site) -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry = composition.build_services(settings, parts.archive, parts.stores, None)
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        server = await nursery.start(partial(serve, registry, binds))
        await store(parts.archive)
        address = f"ISOCENTER@127.0.0.1:{port_of(server)}"
        await ask(site, "POST", NODES, {"name": "far", "address": address})
        verified = (await ask(site, "POST", f"{NODES}/far/verify")).json()
        assert (verified["success"], verified["state"]) == (True, "online")
        assert (await ask(site, "GET", f"{NODES}/far")).json()["state"] == "online"
        found = await ask(site, "POST", f"{NODES}/far/query", {"keys": {"PatientID": "P*"}})
        (study,) = found.json()["studies"]
        assert study["study_instance_uid"] == STUDY
        assert study["patient_name"] == "Bäcker^Anna"
        assert (study["modalities"], study["instances"]) == ("CT", "1")
        none = await ask(site, "POST", f"{NODES}/far/query", {"keys": {"PatientID": "Q"}})
        assert none.json() == {"studies": [], "is_cut": False}
        wrong = await refused(site, "POST", f"{NODES}/far/query", {"keys": {"Patient": "Q"}})
        assert wrong == (400, "INVALID_REQUEST")
        limit = {"keys": {}, "limit": 0}
        assert (await refused(site, "POST", f"{NODES}/far/query", limit))[0] == 400
        nursery.cancel_scope.cancel()


async def test_a_node_that_is_away_is_said_to_be(site: Site) -> None:
    address = f"AWAY@127.0.0.1:{free_port()}"
    await ask(site, "POST", NODES, {"name": "away", "address": address})
    verified = (await ask(site, "POST", f"{NODES}/away/verify")).json()
    assert (verified["success"], verified["state"]) == (False, "offline")
    assert verified["error"]
    query = await refused(site, "POST", f"{NODES}/away/query", {"keys": {}})
    assert query == (502, "NODE_FAILED")


async def test_jobs_are_asked_for_once_and_steered(site: Site) -> None:
    body = {"node": "far", "keys": {"StudyInstanceUID": "1.2.3"}, "priority": "high"}
    answer = await ask(site, "POST", f"{JOBS}/retrieve", body)
    assert answer.status_code == 202
    job_id = answer.json()["job_id"]
    again = (await ask(site, "POST", f"{JOBS}/retrieve", body)).json()
    assert again == {"job_id": job_id, "is_new": False}
    shown = (await ask(site, "GET", f"{JOBS}/{job_id}")).json()
    assert (shown["kind"], shown["state"], shown["priority"]) == ("retrieve", "waiting", "high")
    assert shown["requested_by"] == "program"
    assert shown["progress"]["percent"] is None
    wrong = {"node": "far", "keys": {"Nothing": ""}}
    assert (await refused(site, "POST", f"{JOBS}/retrieve", wrong))[0] == 400
    for action in ("pause", "resume", "pause", "cancel"):
        assert (await ask(site, "POST", f"{JOBS}/{job_id}/{action}")).status_code == 204
    assert await refused(site, "POST", f"{JOBS}/{job_id}/pause") == (
        409, "INVALID_STATE_TRANSITION",
    )  # fmt: skip
    assert (await ask(site, "POST", f"{JOBS}/{job_id}/retry")).status_code == 204
    assert (await refused(site, "DELETE", f"{JOBS}/{job_id}"))[0] == 409
    await ask(site, "POST", f"{JOBS}/{job_id}/cancel")
    assert (await ask(site, "DELETE", f"{JOBS}/{job_id}")).status_code == 204
    assert (await refused(site, "GET", f"{JOBS}/{job_id}"))[0] == 404


async def test_progress_and_failures_are_shown(site: Site) -> None:
    body = {"node": "far", "studies": ["1.2.3"]}
    job_id = (await ask(site, "POST", f"{JOBS}/send", body)).json()["job_id"]
    assert (await refused(site, "POST", f"{JOBS}/send", {"node": "far", "studies": []}))[0] == 400
    queue = site.parts.stores.jobs
    job = await queue.claim("w", 60.0, not_for=())
    assert job is not None
    assert job.request.kind is JobKind.SEND
    item = JobItem(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        sop_instance_uid="1.2.3.1.1",
        sop_class_uid="1.9",
    )
    await queue.plan(job, [item, replace(item, sop_instance_uid="1.2.3.1.2")], is_last=True)
    outcome = ItemOutcome(
        sop_instance_uid="1.2.3.1.1", state=ItemState.FAILED, fault="refused by the node"
    )
    await queue.settle(job, [outcome])
    progress = (await ask(site, "GET", f"{JOBS}/{job_id}/progress")).json()
    elapsed = progress.pop("elapsed_ms")
    assert elapsed >= 0
    assert progress == {
        "total": 2, "done": 0, "skipped": 0, "failed": 1, "bytes": 0, "percent": 50.0,
        "estimated_remaining_ms": elapsed,
    }  # fmt: skip
    (failed,) = (await ask(site, "GET", f"{JOBS}/{job_id}/failures")).json()["items"]
    assert (failed["sop_instance_uid"], failed["fault"]) == ("1.2.3.1.1", "refused by the node")
    running = (await ask(site, "GET", f"{JOBS}?state=running&node=far")).json()["jobs"]
    assert [one["job_id"] for one in running] == [job_id]
    assert (await ask(site, "GET", f"{JOBS}?state=failed")).json() == {"jobs": []}
    assert (await refused(site, "GET", f"{JOBS}?state=asleep"))[0] == 400
    assert (await refused(site, "GET", f"{JOBS}?limit=0"))[0] == 400
    await queue.end(job, JobState.FAILED, "one failed")
    assert (await ask(site, "GET", f"{JOBS}/{job_id}")).json()["fault"] == "one failed"


async def test_limits_of_a_node_are_said_and_it_is_held(site: Site) -> None:
    await ask(site, "POST", NODES, {"name": "far", "address": "PACS@192.0.2.1:104"})
    answer = await ask(site, "GET", f"{NODES}/far/limits")
    nothing = {"associations": 0, "bandwidth": 0, "hours": "", "held": False}
    assert answer.json() == nothing
    seen = answer.headers["etag"]
    wanted = {"associations": 1, "bandwidth": 2_000_000, "hours": "20:00-06:00", "held": True}
    answer = await ask(site, "PUT", f"{NODES}/far/limits", wanted, if_match=seen)
    assert answer.json() == wanted
    assert await refused(site, "PUT", f"{NODES}/far/limits", wanted, if_match=seen) == (
        412, "CHANGED",
    )  # fmt: skip
    for wrong in ({"associations": -1}, {"bandwidth": 1}, {"hours": "at night"}):
        assert (await refused(site, "PUT", f"{NODES}/far/limits", wrong))[0] == 400
    assert (await refused(site, "GET", f"{NODES}/near/limits"))[0] == 404
    assert (await ask(site, "PUT", f"{NODES}/far/limits", {})).json() == nothing
    told = [one.what for one in site.told if isinstance(one, NodesChanged)]
    assert told[1:] == [
        "limits of far were changed: associations 1, bandwidth 2000000, hours 20:00-06:00",
        "far was held",
        (
            "limits of far were changed: "
            "associations as the settings say, bandwidth not limited, hours always"
        ),
        "far was released",
    ]


async def test_other_kinds_of_jobs_are_asked_for(site: Site) -> None:
    for path, body, kind in (
        ("query", {"node": "far", "keys": {"PatientID": "P1"}}, "query"),
        ("import", {"path": "/srv/incoming"}, "import"),
        ("compress", {"studies": ["1.2.3"], "to": "jpeg-ls"}, "compress"),
    ):
        answer = await ask(site, "POST", f"{JOBS}/{path}", body)
        assert answer.status_code == 202
        shown = (await ask(site, "GET", f"{JOBS}/{answer.json()['job_id']}")).json()
        assert shown["kind"] == kind
        assert shown["detail"] == body.get("path", body.get("to", ""))
    for path, body in (
        ("query", {"node": "far", "keys": {"Nothing": ""}}),
        ("import", {"path": "incoming"}),
        ("compress", {"studies": ["1.2.3"], "to": "jpeg-baseline"}),
        ("compress", {"studies": [], "to": "jpeg-ls"}),
    ):
        assert (await refused(site, "POST", f"{JOBS}/{path}", body))[0] == 400


async def test_what_a_query_has_found_is_shown(site: Site) -> None:
    body = {"node": "far", "keys": {"PatientID": "P1"}}
    job_id = (await ask(site, "POST", f"{JOBS}/query", body)).json()["job_id"]
    queue = site.parts.stores.jobs
    job = await queue.claim("w", 60.0, not_for=())
    assert job is not None
    study = RemoteStudy(study_instance_uid="1.2.3", patient_name="Bäcker^Anna")
    await queue.keep_results(job, [asdict(study)])
    (found,) = (await ask(site, "GET", f"{JOBS}/{job_id}/results")).json()["studies"]
    assert (found["study_instance_uid"], found["patient_name"]) == ("1.2.3", "Bäcker^Anna")
