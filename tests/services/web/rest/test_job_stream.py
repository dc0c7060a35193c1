"""Jobs as they go on: by WebSocket, with a client of others, and as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson
import pytest
import trio
import trio_websocket

from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.security.access.permissions import ROLES
from isocenter.services.web.principal import Principal
from isocenter.services.web.rest import job_stream
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.web.rest.job_stream import JobStreams
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobKind,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import ItemOutcome, Wish
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.sqlite.database import open_sqlite_database
from support.web_archive import http_serving

#: trio-websocket leaves its socket to the garbage collector when the server closes first.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
RETRIEVE = JobRequest(kind=JobKind.RETRIEVE, node="PACS")


@dataclass
class Desk:
    """Jobs, where they are streamed, and how many streams there are."""

    queue: DatabaseJobs
    url: str
    streams: EventStreams

    async def begun(self, request: JobRequest = RETRIEVE) -> Job:
        await self.queue.submit(request)
        job = await self.queue.claim("w", 600.0, not_for=())
        assert job is not None
        return job

    def socket(self, path: str) -> Any:
        address = f"{self.url.replace('http', 'ws')}/api/v1/jobs{path}"
        return trio_websocket.open_websocket_url(address)


@asynccontextmanager
async def desk(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Desk]:
    monkeypatch.setattr(job_stream, "_LOOK_SECONDS", 0.02)

    async def allowed(request: Request) -> bool:
        return True

    async def authorize(request: Request, route: Route[Any]) -> None:
        request.caller = Principal(permissions=ROLES["System"], user="a")

    streams = EventStreams(None, **{"is_allowed_still": allowed, **options})
    async with open_sqlite_database(":memory:") as database:
        queue = DatabaseJobs(database)
        jobs = JobStreams(JobDesk(queue, lambda: None), streams)
        application = RoutedApplication(RouteTable(jobs.routes()), authorize=authorize)
        bind = ListenAddress(host="127.0.0.1", port=0)
        async with http_serving(application, bind) as url:
            yield Desk(queue, url, streams)


async def told(socket: Any) -> dict[str, Any]:
    with trio.fail_after(60):
        message: dict[str, Any] = orjson.loads(await socket.get_message())
    return message


def item(number: int) -> JobItem:
    return JobItem(
        study_instance_uid="1.2", series_instance_uid="1.2.3", sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.9",
    )  # fmt: skip


async def test_a_job_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(monkeypatch) as here:
        job = await here.begun()
        async with here.socket(f"/{job.job_id}/progress/stream") as socket:
            first = await told(socket)
            assert (first["type"], first["job_id"]) == ("connected", job.job_id)
            assert (first["new_status"], first["progress"]["total"]) == ("running", None)
            await here.queue.plan(job, [item(1), item(2)], is_last=True)
            planned = await told(socket)
            assert (planned["type"], planned["progress"]["total"]) == ("progress", 2)
            outcome = ItemOutcome(
                sop_instance_uid=item(1).sop_instance_uid, state=ItemState.DONE, size=7
            )
            await here.queue.settle(job, [outcome])
            half = (await told(socket))["progress"]
            assert (half["done"], half["bytes"], half["percent"]) == (1, 7, 50.0)
            assert half["elapsed_ms"] >= 0
            assert half["estimated_remaining_ms"] == half["elapsed_ms"]
            await here.queue.end(job, JobState.FAILED, "1 of 2 objects failed")
            last = await told(socket)
            assert (last["type"], last["old_status"], last["new_status"]) == (
                "status", "running", "failed",
            )  # fmt: skip
            assert last["error"] == "1 of 2 objects failed"
            with pytest.raises(trio_websocket.ConnectionClosed) as closed, trio.fail_after(60):
                await socket.get_message()
        assert closed.value.reason.code == 1000
        assert here.streams.open == 0


async def test_all_jobs_are_followed_as_they_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(monkeypatch) as here:
        one = await here.begun()
        async with here.socket("/stream") as socket:
            assert (await told(socket))["job_id"] == one.job_id
            other, _ = await here.queue.submit(JobRequest(kind=JobKind.VERIFY, node=""))
            message = await told(socket)
            assert (message["type"], message["job_id"], message["new_status"]) == (
                "connected", other, "waiting",
            )  # fmt: skip
            assert await here.queue.wish(other, Wish.PAUSE)
            message = await told(socket)
            assert (message["old_status"], message["new_status"]) == ("waiting", "paused")


async def test_the_same_goes_as_server_sent_events(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        desk(monkeypatch) as here,
        httpx.AsyncClient(base_url=here.url, timeout=60) as client,
    ):
        job = await here.begun()
        path = f"/api/v1/jobs/{job.job_id}/progress/stream"
        events: list[str] = []
        with trio.fail_after(60):
            async with client.stream("GET", path) as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                async for line in answer.aiter_lines():
                    if line.startswith("event: "):
                        events.append(line.removeprefix("event: "))
                        if len(events) == 1:
                            await here.queue.end(job, JobState.COMPLETED)
        assert events == ["connected", "status"]
        assert (await client.get("/api/v1/jobs/none/progress/stream")).status_code == 404
        assert here.streams.open == 0


async def test_a_stream_that_is_never_quiet_ends_with_what_its_caller_has_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_stream, "ASK_SECONDS", 0.0)

    async def is_allowed_still(request: Request) -> bool:
        return False

    async with (
        desk(monkeypatch, is_allowed_still=is_allowed_still) as here,
        httpx.AsyncClient(base_url=here.url, timeout=60) as client,
    ):
        await here.begun()
        with trio.fail_after(60):
            answer = await client.get("/api/v1/jobs/stream")
        assert answer.text == ""


async def test_a_socket_ends_in_time_and_its_caller_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with desk(monkeypatch, most_seconds=0.0) as here:
        await here.begun()
        async with here.socket("/stream") as socket:
            assert (await told(socket))["type"] == "connected"
            with pytest.raises(trio_websocket.ConnectionClosed) as closed, trio.fail_after(60):
                await socket.get_message()
        assert (closed.value.reason.code, closed.value.reason.reason) == (1013, "ask again")
    assert here.streams.open == 0


async def test_a_look_is_bounded_whatever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_stream, "_MOST_JOBS", 2)
    monkeypatch.setattr(job_stream, "_LOOK_SECONDS", 0.0)
    async with open_sqlite_database(":memory:") as database:
        queue = DatabaseJobs(database)
        streams = JobStreams(JobDesk(queue, lambda: None), cast(EventStreams, None))
        await queue.submit(RETRIEVE)
        running = await queue.claim("w", 600.0, not_for=())
        assert running is not None
        for number in range(9):
            await queue.submit(JobRequest(kind=JobKind.RETRIEVE, node=f"PACS{number}"))
            assert len(await streams._look("")) <= 3
        await queue.end(running, JobState.COMPLETED)
        assert (await streams._look(""))[running.job_id].state is JobState.COMPLETED
        assert len(await streams._look("")) == 2


async def test_there_are_only_so_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(monkeypatch, most_per_caller=1) as here:
        await here.begun()
        async with here.socket("/stream") as socket:
            await told(socket)
            async with httpx.AsyncClient(base_url=here.url, timeout=60) as client:
                assert (await client.get("/api/v1/jobs/stream")).status_code == 429
        with trio.fail_after(60):
            while here.streams.open:
                await trio.lowlevel.checkpoint()
