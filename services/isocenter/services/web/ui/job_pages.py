"""Pages of the jobs: what is retrieved and sent, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from isocenter.engine.uid import is_safe_uid
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_lists
from isocenter.services.web.principal import caller_name, caller_of, what_may
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.services.workflow.nodes.changes import NodeChanges

_ONE: Final = "/jobs/{job}"
_MOST_JOBS: Final = 200
_MOST_FAILURES: Final = 500
#: Studies that are sent by one job.
_MOST_STUDIES: Final = 200
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

    def __init__(self, jobs: JobDesk, nodes: NodeChanges, layout: Layout) -> None:
        self._jobs = jobs
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
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "jobs.html",
            section="jobs",
            jobs=jobs,
            states=list(_STATES),
            state=said,
            which=_which,
            is_cut=len(jobs) == _MOST_JOBS,
        )

    async def show(self, request: Request) -> Response:
        """The handler of the page of one job."""
        job = await self._named(request)
        try:
            failures = await self._jobs.failures(job, _MOST_FAILURES)
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "job.html",
            section="jobs",
            job=job,
            which=_which(job),
            wishes=[wish.value for wish in WISHES[job.state]],
            failures=failures,
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
            wanted = JobRequest(
                kind=JobKind.SEND,
                node=node.name,
                keys=(("StudyInstanceUID", "\\".join(studies)),),
                requested_by=caller_name(caller_of(request)),
            )
            job_id, _ = await self._jobs.submit(wanted)
        except StorageError as error:
            raise _unavailable() from error
        may_look = "state" in what_may(request.caller)
        return Response(status=303, headers=[("location", f"/jobs/{job_id}" if may_look else "/")])

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
    keys = " ".join(f"{name}={value}" for name, value in job.request.keys)
    return keys or "everything"


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "jobs cannot be read or changed now; see the log")
