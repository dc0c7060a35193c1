"""Jobs in the API: asked for, shown, steered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import (
    Job,
    JobKind,
    JobPriority,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import Wish

_SERVICE: Final = "Jobs"
_ONE: Final = "/jobs/{job}"
_MOST_JOBS: Final = 100
_MOST_ITEMS: Final = 1_000
_STATE: Final = Answer(409, "It is in no state for that.")
_FILTERS: Final = (
    Parameter(
        name="state",
        text="Only in this state: " + ", ".join(state.value for state in JobState) + ".",
    ),
    Parameter(name="node", text="Only of this node."),
    Parameter(
        name="limit", text=f"How many at most, 1 to {_MOST_JOBS}.", pattern="[1-9][0-9]?|100"
    ),
)


class NewRetrieve(Body):
    """Studies of a node that are to come here: all that match `keys`, values by keyword or tag.

    `again`: also objects that are here already.
    """

    node: str
    keys: dict[str, str]
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    again: bool = False


class NewSend(Body):
    """Studies from here that are to go to a node."""

    node: str
    studies: list[str]
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


class Submitted(Body):
    """The job; `is_new` is false if one that is not over wants the same."""

    job_id: str
    is_new: bool


class Progress(Body):
    """Objects of a job; `total` is null until the node has told."""

    total: int | None
    done: int
    skipped: int
    failed: int
    bytes: int
    percent: float | None


class JobShown(Body):
    """A job; times are seconds since 1970."""

    job_id: str
    kind: str
    node: str
    keys: dict[str, str]
    state: str
    priority: str
    requested_by: str
    attempts: int
    progress: Progress
    created_at: float
    due_at: float
    started_at: float | None
    ended_at: float | None
    fault: str


class JobList(Body):
    """Jobs, the latest first."""

    jobs: list[JobShown]


class FailedItem(Body):
    """An object that did not arrive."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    fault: str


class FailedItems(Body):
    """Objects that did not arrive; no more than a thousand are named."""

    items: list[FailedItem]


class JobApi:
    """Answers with jobs, takes new ones, and steers them."""

    def __init__(self, desk: JobDesk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/jobs", self.list, "Jobs, the latest first.",
            name="ListJobs", service=_SERVICE, needs="state", gives=JobList, parameters=_FILTERS,
        )  # fmt: skip
        yield endpoint(
            "POST", "/jobs/retrieve", self.retrieve, "Have studies of a node here.",
            name="RetrieveStudies", service=_SERVICE, needs="write", takes=NewRetrieve,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/jobs/send", self.send, "Have studies from here at a node.",
            name="SendStudies", service=_SERVICE, needs="export", takes=NewSend,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One job.",
            name="GetJob", service=_SERVICE, needs="state", gives=JobShown,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, partial(self._steer, Wish.DELETE), "Forget a job that is over.",
            name="DeleteJob", service=_SERVICE, needs="configure", answers=(_STATE,),
        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/progress", self.progress, "How far a job is.",
            name="GetJobProgress", service=_SERVICE, needs="state", gives=Progress,
        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/failures", self.failures, "The objects of a job that did not arrive.",
            name="GetJobFailures", service=_SERVICE, needs="search", gives=FailedItems,
        )  # fmt: skip
        for wish, text in (
            (Wish.PAUSE, "Stop a job until it is resumed."),
            (Wish.RESUME, "Let a paused job go on."),
            (Wish.CANCEL, "End a job."),
            (Wish.RETRY, "Try a job again at once."),
        ):
            yield endpoint(
                "POST", f"{_ONE}/{wish.value}", partial(self._steer, wish), text,
                name=f"{wish.value.title()}Job", service=_SERVICE, needs="configure",
                answers=(_STATE,),
            )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        said = request.parameter("state")
        try:
            states = [] if said is None else [JobState(said)]
        except ValueError:
            known = ", ".join(state.value for state in JobState)
            raise HttpError(400, "INVALID_REQUEST", f"state is one of {known}") from None
        limit = request.parameter("limit") or str(_MOST_JOBS)
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:4]) <= _MOST_JOBS):
            raise HttpError(400, "INVALID_REQUEST", f"limit is a number from 1 to {_MOST_JOBS}")
        found = await self._desk.jobs(
            states=states, node=request.parameter("node") or "", limit=int(limit)
        )
        return answer(JobList(jobs=[_shown(job) for job in found]))

    async def retrieve(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewRetrieve)
        return await self._submit(
            request,
            JobRequest(
                kind=JobKind.RETRIEVE,
                node=body.node,
                keys=tuple(body.keys.items()),
                priority=JobPriority[body.priority.upper()],
                again=body.again,
            ),
        )

    async def send(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewSend)
        if not body.studies:
            raise HttpError(400, "INVALID_REQUEST", "name the studies by their UIDs")
        return await self._submit(
            request,
            JobRequest(
                kind=JobKind.SEND,
                node=body.node,
                keys=(("StudyInstanceUID", "\\".join(body.studies)),),
                priority=JobPriority[body.priority.upper()],
            ),
        )

    async def _submit(self, request: Request, wanted: JobRequest) -> Response:
        try:
            by = caller_name(caller_of(request))
            job_id, is_new = await self._desk.submit(replace(wanted, requested_by=by))
        except KeySyntaxError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        return answer(Submitted(job_id=job_id, is_new=is_new), 202)

    async def show(self, request: Request) -> Response:
        """The handler."""
        return answer(_shown(await self._named(request)))

    async def progress(self, request: Request) -> Response:
        """The handler."""
        return answer(_progress(await self._named(request)))

    async def failures(self, request: Request) -> Response:
        """The handler."""
        job = await self._named(request)
        items = await self._desk.failures(job, _MOST_ITEMS)
        return answer(
            FailedItems(
                items=[
                    FailedItem(
                        study_instance_uid=item.study_instance_uid,
                        series_instance_uid=item.series_instance_uid,
                        sop_instance_uid=item.sop_instance_uid,
                        fault=item.fault,
                    )
                    for item in items
                ]
            )
        )

    async def _steer(self, wish: Wish, request: Request) -> Response:
        job = await self._named(request)
        if not await self._desk.steer(job, wish):
            what = f"the job is {job.state.value}: it cannot {wish.value}"
            raise HttpError(409, "INVALID_STATE_TRANSITION", what)
        return Response(status=204)

    async def _named(self, request: Request) -> Job:
        job = await self._desk.get(request.arguments["job"])
        if job is None:
            raise HttpError(404, "NOT_FOUND", "there is no such job; see /api/v1/jobs")
        return job


def _shown(job: Job) -> JobShown:
    return JobShown(
        job_id=job.job_id,
        kind=job.request.kind.value,
        node=job.request.node,
        keys=dict(job.request.keys),
        state=job.state.value,
        priority=job.request.priority.name.lower(),
        requested_by=job.request.requested_by,
        attempts=job.attempts,
        progress=_progress(job),
        created_at=job.created_at,
        due_at=job.due_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        fault=job.last_fault,
    )


def _progress(job: Job) -> Progress:
    progress = job.progress
    percent = None
    if progress.total is not None:
        percent = round(100 * progress.ended / progress.total, 1) if progress.total else 100.0
    return Progress(
        total=progress.total,
        done=progress.done,
        skipped=progress.skipped,
        failed=progress.failed,
        bytes=progress.size,
        percent=percent,
    )
