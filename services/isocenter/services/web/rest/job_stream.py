"""Streams of jobs: WebSocket (RFC 6455), or server-sent events (HTML 9.2).

Jobs are looked at in the database, where whichever process works on them writes; streams of one
process share a look.  What changed between two looks is told once, as it is then.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final, Literal

import trio

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response, Upgrade
from isocenter.services.net.http.routing import Answer, Payload, Route, ok
from isocenter.services.net.http.socket_session import WebSocket
from isocenter.services.net.http.websocket import CloseCode
from isocenter.services.web.rest.bodies import Body, encoded
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.event_stream import (
    ASK_SECONDS,
    EVENT_STREAM,
    STREAM_HEADERS,
    EventStreams,
)
from isocenter.services.web.rest.job_progress import Progress, progress_of
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobState

_SERVICE: Final = "Jobs"
_LOOK_SECONDS: Final = 0.5
#: A comment of a quiet stream finds out that whoever read it has gone.
_QUIET_SECONDS: Final = 15.0
#: Of those that changed last; and of those that are at it.
_MOST_JOBS: Final = 100
_ANSWERS: Final = (
    ok(
        "Server-sent events: `event` is the type, `data` its JSON object. Types: `connected`, "
        "`progress`, `status`."
    ),
    ok("The same objects by WebSocket, one a message.", Payload.NOTHING, 101),
    Answer(429, "The caller has as many streams as it may have."),
    Answer(503, "All have as many streams as there may be."),
)


class JobMessage(Body):
    """What a stream tells of a job.

    `type`: `connected` (as it is when the stream begins, or when the job comes in view),
    `progress`, or `status` (its state is another one; `error`: what was wrong last).
    """

    type: Literal["connected", "progress", "status"]
    job_id: str
    kind: str
    progress: Progress
    new_status: str
    old_status: str = ""
    error: str = ""


class JobStreams:
    """Serves streams; each has one of the places that streams of events have.

    Args:
        streams: knows how many there may be, and who may still listen.
    """

    def __init__(self, desk: JobDesk, streams: EventStreams) -> None:
        self._desk = desk
        self._streams = streams
        self._jobs: Mapping[str, Job] = {}
        self._looked_at = float("-inf")
        self._looking = trio.Lock()

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/jobs/stream", self.all, "The jobs as they go on.",
            name="StreamJobs", service=_SERVICE, needs="state", gives=JobMessage,
            answers=_ANSWERS, produces=EVENT_STREAM,
        )  # fmt: skip
        yield endpoint(
            "GET", "/jobs/{job}/progress/stream", self.one, "One job as it goes on.",
            name="StreamJobProgress", service=_SERVICE, needs="state", gives=JobMessage,
            answers=(*_ANSWERS, Answer(404, "There is no such job.")), produces=EVENT_STREAM,
        )  # fmt: skip

    async def all(self, request: Request) -> Response:
        """The handler of all jobs."""
        return self._answer(request, "")

    async def one(self, request: Request) -> Response:
        """The handler of one."""
        job = await self._desk.get(request.arguments["job"])
        if job is None:
            raise HttpError(404, "NOT_FOUND", "there is no such job; see /api/v1/jobs")
        return self._answer(request, job.job_id)

    def _answer(self, request: Request, job_id: str) -> Response:
        if request.method == "HEAD":
            return Response(headers=STREAM_HEADERS)
        leave = self._streams.enter(request)
        if not request.wants_websocket:
            return Response(headers=STREAM_HEADERS, body=self._events(request, job_id), close=leave)
        leave()  # the handshake may yet fail

        async def serve(socket: WebSocket) -> None:
            try:
                leave = self._streams.enter(request)
            except HttpError as error:
                await socket.close(CloseCode.TRY_AGAIN, error.message)
                return
            end = trio.current_time() + self._streams.most_seconds
            try:
                async with self._messages(job_id) as messages:
                    async for message in messages:
                        if message is not None:
                            await socket.send(encoded(message).decode())
                        if self._streams.is_ending:
                            return
                        if trio.current_time() >= end:
                            # What the caller may do of now is asked with the next one.
                            await socket.close(CloseCode.TRY_AGAIN, "ask again")
                            return
            finally:
                leave()

        return Upgrade(serve=serve)

    async def _events(self, request: Request, job_id: str) -> AsyncGenerator[bytes, None]:
        end = trio.current_time() + self._streams.most_seconds
        quiet_since = asked_at = trio.current_time()
        async with self._messages(job_id) as messages:
            async for message in messages:
                now = trio.current_time()
                if now >= end or self._streams.is_ending:
                    return
                if now - asked_at >= ASK_SECONDS:
                    if not await self._streams.is_allowed_still(request):
                        return
                    asked_at = now
                if message is not None:
                    quiet_since = now
                    yield b"event: %s\ndata: %s\n\n" % (message.type.encode(), encoded(message))
                elif now - quiet_since >= _QUIET_SECONDS:
                    quiet_since = now
                    yield b": quiet\n\n"

    @asynccontextmanager
    async def _messages(self, job_id: str) -> AsyncIterator[AsyncIterator[JobMessage | None]]:
        async with aclosing(self._changes(job_id)) as messages:
            yield messages

    async def _changes(self, job_id: str) -> AsyncGenerator[JobMessage | None, None]:
        """What changes; None: nothing did this time."""
        known: dict[str, Job] = {}
        while True:
            try:
                jobs = await self._look(job_id)
            except StorageError:
                jobs = dict(known)  # the next look tells
            for name, job in jobs.items():
                before = known.get(name)
                known[name] = job
                message = _message(before, job)
                if message is not None:
                    yield message
            gone = known.keys() - jobs.keys()
            for name in gone:
                del known[name]
            if job_id and (not jobs or jobs[job_id].state.is_final):
                return
            yield None
            await trio.sleep(_LOOK_SECONDS)

    async def _look(self, job_id: str) -> Mapping[str, Job]:
        if job_id:
            job = await self._desk.get(job_id)
            return {} if job is None else {job_id: job}
        async with self._looking:
            now = trio.current_time()
            if now - self._looked_at >= _LOOK_SECONDS / 2:
                latest = await self._desk.jobs(limit=_MOST_JOBS)
                running = await self._desk.jobs(states=(JobState.RUNNING,), limit=_MOST_JOBS)
                found = {job.job_id: job for job in (*latest, *running)}
                for name, job in self._jobs.items():
                    # How it ended is told; who still waits is in view again when it begins.
                    if name not in found and job.state is JobState.RUNNING:
                        ended = await self._desk.get(name)
                        if ended is not None:
                            found[name] = ended
                self._jobs, self._looked_at = found, now
            return self._jobs


def _message(before: Job | None, job: Job) -> JobMessage | None:
    """What there is to be told of it; None: nothing."""
    kind: Literal["connected", "progress", "status"]
    if before is None:
        kind = "connected"
    elif before.state is not job.state:
        kind = "status"
    elif before.progress != job.progress:
        kind = "progress"
    else:
        return None
    return JobMessage(
        type=kind,
        job_id=job.job_id,
        kind=job.request.kind.value,
        progress=progress_of(job),
        old_status="" if before is None else before.state.value,
        new_status=job.state.value,
        error=job.last_fault,
    )
