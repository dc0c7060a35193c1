"""Pages of tasks."""

from __future__ import annotations

import pytest

from isocenter.services.workflow.tasks.task import RunOutcome, new_task
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site
from services.web.ui.people import post, text_of


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    return await site.cookie("a-system")


async def test_a_task_is_added_run_paused_and_removed(site: Site, cookie: dict[str, str]) -> None:
    assert "There is none yet" in await text_of(site, cookie, "/tasks")
    fields = {
        "name": "old", "kind": "cleanup", "schedule": "daily 02:00", "zone": "Europe/Berlin",
        "parameters": "study_days=3650\r\nmodalities=US", "description": "<b>old",
    }  # fmt: skip
    wrong = await post(site, cookie, "/tasks", **{**fields, "schedule": "<i>never"})
    assert wrong.status_code == 400
    assert "daily 02:00" in wrong.text
    assert "&lt;i&gt;never" in wrong.text, "what was typed is still there"
    wrong = await post(site, cookie, "/tasks", **{**fields, "parameters": "study_days"})
    assert "NAME=VALUE" in wrong.text
    answer = await post(site, cookie, "/tasks", **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks")
    again = await post(site, cookie, "/tasks", **fields)
    assert "already" in again.text
    page = await text_of(site, cookie, "/tasks/old")
    assert "&lt;b&gt;old" in page
    assert "3650" in page
    book = site.parts.stores.tasks
    assert (await post(site, cookie, "/tasks/old/try")).status_code == 303
    assert (await post(site, cookie, "/tasks/old/run")).status_code == 409, "once after the other"
    assert (await post(site, cookie, "/tasks/old/cancel")).status_code == 409
    claimed = await book.claim("w", 60.0)
    assert claimed is not None
    assert "Cancel" in await text_of(site, cookie, "/tasks/old")
    assert (await post(site, cookie, "/tasks/old/cancel")).status_code == 303
    assert await book.renew("w", 60.0) == set()
    await book.end(claimed.run, RunOutcome.COMPLETED, "would delete nothing")
    assert "would delete nothing" in await text_of(site, cookie, "/tasks/old")
    for word, state in (("pause", "paused"), ("resume", "waiting")):
        assert (await post(site, cookie, f"/tasks/old/{word}")).status_code == 303
        assert state in await text_of(site, cookie, "/tasks")
    assert (await post(site, cookie, "/tasks/old/remove")).status_code == 303
    assert (await post(site, cookie, "/tasks/old/remove")).status_code == 404


async def test_the_api_does_the_same(site: Site) -> None:
    body = {"name": "v", "kind": "verification", "schedule": "every 6h"}
    answer = await ask(site, "POST", "/tasks", body)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["zone"], shown["enabled"], shown["is_running"]) == ("UTC", True, False)
    assert await refused(site, "POST", "/tasks", body) == (409, "CONFLICT")
    for wrong in ({"schedule": "x"}, {"kind": "x"}, {"retries": -1}, {"parameters": {"a": "b"}}):
        assert await refused(site, "PUT", "/tasks/v", {**body, **wrong}) == (400, "INVALID_REQUEST")
    said = {"kind": "verification", "schedule": "daily 04:00", "zone": "Asia/Tokyo"}
    assert (await ask(site, "PUT", "/tasks/v", said)).json()["zone"] == "Asia/Tokyo"
    (listed,) = (await ask(site, "GET", "/tasks")).json()["tasks"]
    assert listed == (await ask(site, "GET", "/tasks/v")).json()
    assert (await ask(site, "POST", "/tasks/v/pause")).status_code == 204
    assert (await ask(site, "GET", "/tasks/v")).json()["next"] is None
    assert (await ask(site, "POST", "/tasks/v/resume")).status_code == 204
    assert (await ask(site, "POST", "/tasks/v/run", {"dry_run": True})).status_code == 202
    assert await refused(site, "POST", "/tasks/v/run", {}) == (409, "CONFLICT")
    assert await refused(site, "POST", "/tasks/v/cancel") == (409, "CONFLICT")
    book = site.parts.stores.tasks
    claimed = await book.claim("w", 60.0)
    assert claimed is not None
    await book.end(claimed.run, RunOutcome.COMPLETED, "would read 0 instances")
    (run,) = (await ask(site, "GET", "/tasks/v/runs")).json()["runs"]
    assert (run["cause"], run["outcome"]) == ("dry run", "completed")
    assert (await ask(site, "DELETE", "/tasks/v")).status_code == 204
    assert await refused(site, "GET", "/tasks/v/runs") == (404, "NOT_FOUND")


async def test_a_task_does_no_more_than_who_sets_it_up_may(site: Site) -> None:
    cookie = await site.cookie("a-only-configure")
    told = {**cookie, "origin": site.root}
    sync = {"kind": "sync", "schedule": "daily 02:00"}
    for name, body in {
        "c": {"kind": "cleanup", "schedule": "daily 02:00", "parameters": {"study_days": "1"}},
        "pull": {**sync, "parameters": {"node": "n"}},
        "push": {**sync, "parameters": {"node": "n", "direction": "push"}},
        "gone": {**sync, "parameters": {"node": "n", "direction": "push", "deletes": "yes"}},
        "ours": {**sync, "parameters": {"node": "n", "direction": "push", "resolve": "local"}},
        "theirs": {**sync, "parameters": {"node": "n", "direction": "push", "resolve": "remote"}},
    }.items():
        said = {"name": name, **body}
        assert await refused(site, "POST", "/tasks", said, **told) == (403, "NOT_ALLOWED"), name
        assert (await ask(site, "POST", "/tasks", said)).status_code == 201
        for word in ("run", "resume"):
            path = f"/tasks/{name}/{word}"
            assert await refused(site, "POST", path, {}, **told) == (403, "NOT_ALLOWED")
            assert (await post(site, cookie, path)).status_code == 403
        assert await refused(site, "PUT", f"/tasks/{name}", body, **told) == (403, "NOT_ALLOWED")
        for word in ("try", "pause"):
            assert (await post(site, cookie, f"/tasks/{name}/{word}")).status_code == 303
    fields = {"kind": "cleanup", "schedule": "daily 02:00", "parameters": "study_days=1"}
    assert (await post(site, cookie, "/tasks", name="d", **fields)).status_code == 403
    fields = {"kind": "verification", "schedule": "daily 02:00"}
    assert (await post(site, cookie, "/tasks", name="v", **fields)).status_code == 303


async def test_what_a_program_said_is_shown_to_those_who_may_search(site: Site) -> None:
    await site.parts.stores.tasks.add(
        new_task("p", "program", "every 6h", zone="UTC", parameters={"program": "x"})
    )
    book = site.parts.stores.tasks
    await book.ask("p", is_dry=False)
    claimed = await book.claim("w", 60.0)
    assert claimed is not None
    await book.end(claimed.run, RunOutcome.FAILED, "x: exit code 3; it said 9 bytes", "Who is it")
    for name, is_shown in (("a-only-state", False), ("a-system", True)):
        cookie = await site.cookie(name)
        page = await text_of(site, cookie, "/tasks/p")
        assert "it said 9 bytes" in page
        assert ("Who is it" in page) is is_shown
        answer = await ask(site, "GET", "/tasks/p/runs", **cookie, origin=site.root)
        (run,) = answer.json()["runs"]
        assert (run["said"] == "Who is it") is is_shown
