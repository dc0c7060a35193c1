"""Pages of the jobs: what is retrieved and sent, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import Final

from isocenter.engine.uid import is_safe_uid
from isocenter.services.dicom.pixels.transfer_syntaxes import LOSSLESS_TARGETS
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields, read_lists
from isocenter.services.web.principal import asker_of, caller_name, caller_of, what_may
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.workflow.forwarding.ports import ForwardQueue, ForwardState
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.services.workflow.nodes.changes import NodeChanges

_ONE: Final = "/jobs/{job}"
_MOST_JOBS: Final = 200
_MOST_FAILURES: Final = 500
#: Studies that are sent by one job.
_MOST_STUDIES: Final = 200
_MOST_PATH: Final = 4_096
_QUERY_KEYS: Final = ("PatientID", "PatientName", "StudyDate", "AccessionNumber")
_STATES: Final = {state.value: state for state in JobState}
#: What can be wished of a job in a state.
WISHES: Final = {
    JobState.WAITING: (Wish.PAUSE, Wish.RETRY, Wish.CANCEL),
    JobState.RUNNING: (Wish.PAUSE, Wish.CANCEL),
    JobState.PAUSED: (Wish.RESUME, Wish.CANCEL),
    JobState.FAILED: (Wish.RETRY, Wish.DELETE),
    JobState.CANCELLED: (Wish.RETRY, Wish.DELETE),
    JobState.COMPLETED: (Wish.DELETE,),
}


class JobPages:
    """Answers with jobs, steers them, and has studies sent."""

    def __init__(
        self, jobs: JobDesk, nodes: NodeChanges, queue: ForwardQueue, layout: Layout
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        self._nodes = nodes
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/jobs", "state", self.list, "Jobs, the latest first.")
        yield page(_ONE, "state", self.show, "One job.")
        for wish in Wish:
            yield action(
                f"{_ONE}/{wish.value}", "configure", partial(self.steer, wish),
                f"{wish.value.capitalize()} a job.",
            )  # fmt: skip
        yield action("/jobs/import", "configure", self.take_in, "Take in files of the server.")
        yield action("/jobs/compress", "configure", self.compress, "Compress studies.")
        yield action("/jobs/query", "search", self.query, "Ask a node which studies it has.")
        yield page("/send", "export", self.ask_where, "Where studies are to be sent.")
        yield action("/send", "export", self.send, "Send studies.")

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        said = request.parameter("state") or ""
        state = _STATES.get(said)
        try:
            jobs = await self._jobs.jobs(
                states=() if state is None else (state,),
                node=request.parameter("node") or "",
                limit=_MOST_JOBS,
            )
            forwards = await self._forwards()
            nodes = [node.name for node in await self._nodes.all() if node.is_enabled]
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "jobs.html",
            section="jobs",
            jobs=jobs,
            forwards=forwards,
            nodes=nodes,
            syntaxes=list(LOSSLESS_TARGETS),
            states=list(_STATES),
            state=said,
            which=_which,
            is_cut=len(jobs) == _MOST_JOBS,
        )

    async def _forwards(self) -> Sequence[tuple[str, int, int, str]]:
        """What rules have queued for each destination: objects that are on their way, those that
        were given up, and why it waits."""
        counts = await self._queue.counts()
        alone = await self._queue.left_alone()
        limits = await self._nodes.limits()
        now = time()
        found = []
        for name in sorted({destination for destination, _ in counts}):
            failed = counts.get((name, ForwardState.FAILED), 0)
            total = sum(number for (one, _), number in counts.items() if one == name)
            why = limits[name].why_closed(now) if name in limits else ""
            if not why and name in alone:
                why = "it could not be sent to, and is tried again later"
            found.append((name, total - failed, failed, why))
        return found

    async def show(self, request: Request) -> Response:
        """The handler of the page of one job."""
        job = await self._named(request)
        try:
            failures = await self._jobs.failures(job, _MOST_FAILURES)
            results: Sequence[Mapping[str, str]] = ()
            if job.request.kind is JobKind.QUERY and "search" in what_may(request.caller):
                results = await self._jobs.results(job, _MOST_FAILURES)
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "job.html",
            section="jobs",
            job=job,
            which=_which(job),
            wishes=[wish.value for wish in _wishes(job)],
            failures=failures,
            results=results,
            is_open=not job.state.is_final and not job.request.kind.is_standing,
            is_cut=len(failures) == _MOST_FAILURES,
        )

    async def steer(self, wish: Wish, request: Request) -> Response:
        """The handler of the buttons of a job."""
        job = await self._named(request)
        try:
            is_done = await self._jobs.steer(job, wish)
        except StorageError as error:
            raise _unavailable() from error
        if not is_done:
            raise HttpError(409, "CONFLICT", f"the job is {job.state.value} by now")
        place = "/jobs" if wish is Wish.DELETE else f"/jobs/{job.job_id}"
        return Response(status=303, headers=[("location", place)])

    async def take_in(self, request: Request) -> Response:
        """The handler of the form that has files taken in."""
        path = (await read_fields(request)).get("place", "").strip()
        if not path.startswith("/") or "\0" in path or len(path) > _MOST_PATH:
            raise HttpError(400, "BAD_FORM", "a path begins with /, and is one of the server")
        return await self._asked(request, JobRequest(kind=JobKind.IMPORT, node="", detail=path))

    async def compress(self, request: Request) -> Response:
        """The handler of the form that has studies compressed."""
        fields = await read_fields(request)
        studies = _studies(fields.get("studies", "").split())
        if fields.get("to") not in LOSSLESS_TARGETS:
            raise HttpError(400, "BAD_FORM", "choose a transfer syntax that there is")
        keys = (("StudyInstanceUID", "\\".join(studies)),)
        return await self._asked(
            request,
            JobRequest(kind=JobKind.COMPRESS, node="", keys=keys, detail=fields["to"]),
        )

    async def query(self, request: Request) -> Response:
        """The handler of the form that has a node asked."""
        fields = await read_fields(request)
        keys = tuple(
            (name, fields[name].strip()) for name in _QUERY_KEYS if fields.get(name, "").strip()
        )
        if not keys:
            raise HttpError(400, "BAD_FORM", "say which studies: patient, date, accession number")
        wanted = JobRequest(kind=JobKind.QUERY, node=fields.get("node", ""), keys=keys)
        return await self._asked(request, wanted)

    async def _asked(self, request: Request, wanted: JobRequest) -> Response:
        """To the page of the new job, for whoever may see it."""
        by = caller_name(caller_of(request))
        wanted = replace(wanted, requested_by=by, asker=asker_of(request))
        try:
            if wanted.node and await self._nodes.find(wanted.node) is None:
                raise HttpError(400, "BAD_FORM", "choose a node that there is")
            job_id, _ = await self._jobs.submit(wanted)
        except StorageError as error:
            raise _unavailable() from error
        may_look = "state" in what_may(request.caller)
        return Response(status=303, headers=[("location", f"/jobs/{job_id}" if may_look else "/")])

    async def ask_where(self, request: Request) -> Response:
        """The handler of the page that asks where studies are to go."""
        studies = _studies([value for name, value in request.query if name == "study"])
        try:
            nodes = [node.name for node in await self._nodes.all() if node.is_enabled]
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request, "send.html", section="studies", studies=studies, nodes=nodes
        )

    async def send(self, request: Request) -> Response:
        """The handler of its form."""
        fields = await read_lists(request)
        studies = _studies(fields.get("study", ()))
        try:
            node = await self._nodes.find(fields.get("node", [""])[-1])
            if node is None:
                raise HttpError(400, "BAD_FORM", "choose a node that there is")
        except StorageError as error:
            raise _unavailable() from error
        keys = (("StudyInstanceUID", "\\".join(studies)),)
        return await self._asked(request, JobRequest(kind=JobKind.SEND, node=node.name, keys=keys))

    async def _named(self, request: Request) -> Job:
        try:
            job = await self._jobs.get(request.arguments["job"])
        except StorageError as error:
            raise _unavailable() from error
        if job is None:
            raise HttpError(404, "NOT_FOUND", "there is no such job, or not any more")
        return job


def _studies(said: Sequence[str]) -> Sequence[str]:
    """Studies that somebody has chosen, each once.

    Raises:
        HttpError: none, too many, or something else (400).
    """
    studies = list(dict.fromkeys(said))
    if not 1 <= len(studies) <= _MOST_STUDIES:
        raise HttpError(400, "BAD_FORM", f"choose 1 to {_MOST_STUDIES} studies that are to be sent")
    if not all(map(is_safe_uid, studies)):
        raise HttpError(400, "BAD_FORM", "studies are named by their UIDs")
    return studies


def _which(job: Job) -> str:
    """What of the node, or of the archive."""
    return job.request.what


def _wishes(job: Job) -> Sequence[Wish]:
    """What can be wished of a job as it stands."""
    wishes = WISHES[job.state]
    return [wish for wish in wishes if wish is Wish.DELETE or not job.request.kind.is_standing]


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "jobs cannot be read or changed now; see the log")
