"""Jobs in the API: asked for, shown, steered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.pixels.transfer_syntaxes import LOSSLESS_TARGETS
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.principal import asker_of, caller_name, caller_of, what_may
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.job_progress import Progress, progress_of
from isocenter.services.web.rest.remote_nodes import FoundStudy
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
_MOST_RESULTS: Final = 5_000
_MOST_PATH: Final = 4_096
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


class StudiesNamed(Body):
    """Studies of this archive."""

    studies: list[str]
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


class NewQuery(Body):
    """A node is to be asked which studies it has that match `keys`, values by keyword or tag."""

    node: str
    keys: dict[str, str]
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


class NewImport(Body):
    """A folder, DICOMDIR or ZIP of the server's machine, in one of its `jobs.import_folders`."""

    path: str
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


class NewCompression(Body):
    """Studies of this archive that are to be kept in a lossless transfer syntax, by its keyword."""

    studies: list[str]
    to: str
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


class QueryResults(Body):
    """Studies that a node has told of, as it tells of them."""

    studies: list[FoundStudy]


class Submitted(Body):
    """The job; `is_new` is false if one that is not over wants the same."""

    job_id: str
    is_new: bool


class JobShown(Body):
    """A job; times are seconds since 1970; `keys` name patients: empty for whoever may not
    search."""

    job_id: str
    kind: str
    node: str
    keys: dict[str, str]
    detail: str
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
            "POST", "/jobs/verify", partial(self._here, JobKind.VERIFY),
            "Have the objects of studies compared with their digests.",
            name="VerifyStudies", service=_SERVICE, needs="configure", takes=StudiesNamed,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/jobs/export", partial(self._here, JobKind.EXPORT),
            "Have studies written to a folder of the server (`jobs.export_folder`).",
            name="ExportStudies", service=_SERVICE, needs="export", takes=StudiesNamed,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/jobs/query", self.query, "Have a node asked which studies it has.",
            name="QueryByJob", service=_SERVICE, needs="search", takes=NewQuery,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/jobs/import", self.take_in,
            "Have files of a folder of the server taken in (`jobs.import_folders`).",
            name="ImportFiles", service=_SERVICE, needs="configure", takes=NewImport,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/jobs/compress", self.compress,
            "Have objects of studies kept in a smaller lossless transfer syntax.",
            name="CompressStudies", service=_SERVICE, needs="configure", takes=NewCompression,
            gives=Submitted, answers=(ok("It is queued.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/results", self.results, "What a query has found.",
            name="GetJobResults", service=_SERVICE, needs="search", gives=QueryResults,
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
        return answer(JobList(jobs=[_shown(job, request) for job in found]))

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

    async def query(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewQuery)
        return await self._submit(
            request,
            JobRequest(
                kind=JobKind.QUERY,
                node=body.node,
                keys=tuple(body.keys.items()),
                priority=JobPriority[body.priority.upper()],
            ),
        )

    async def take_in(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewImport)
        if not body.path.startswith("/") or "\0" in body.path or len(body.path) > _MOST_PATH:
            raise HttpError(400, "INVALID_REQUEST", "path is an absolute one of the server")
        return await self._submit(
            request,
            JobRequest(
                kind=JobKind.IMPORT,
                node="",
                detail=body.path,
                priority=JobPriority[body.priority.upper()],
            ),
        )

    async def compress(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewCompression)
        if not body.studies:
            raise HttpError(400, "INVALID_REQUEST", "name the studies by their UIDs")
        if body.to not in LOSSLESS_TARGETS:
            known = ", ".join(LOSSLESS_TARGETS)
            raise HttpError(400, "INVALID_REQUEST", f"to is one of {known}")
        return await self._submit(
            request,
            JobRequest(
                kind=JobKind.COMPRESS,
                node="",
                keys=(("StudyInstanceUID", "\\".join(body.studies)),),
                detail=body.to,
                priority=JobPriority[body.priority.upper()],
            ),
        )

    async def results(self, request: Request) -> Response:
        """The handler."""
        job = await self._named(request)
        found = await self._desk.results(job, _MOST_RESULTS)
        return answer(QueryResults(studies=[FoundStudy(**study) for study in found]))

    async def _here(self, kind: JobKind, request: Request) -> Response:
        body = await read_body(request, StudiesNamed)
        if not body.studies:
            raise HttpError(400, "INVALID_REQUEST", "name the studies by their UIDs")
        return await self._submit(
            request,
            JobRequest(
                kind=kind,
                node="",
                keys=(("StudyInstanceUID", "\\".join(body.studies)),),
                priority=JobPriority[body.priority.upper()],
            ),
        )

    async def _submit(self, request: Request, wanted: JobRequest) -> Response:
        try:
            by = caller_name(caller_of(request))
            wanted = replace(wanted, requested_by=by, asker=asker_of(request))
            job_id, is_new = await self._desk.submit(wanted)
        except KeySyntaxError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        return answer(Submitted(job_id=job_id, is_new=is_new), 202)

    async def show(self, request: Request) -> Response:
        """The handler."""
        return answer(_shown(await self._named(request), request))

    async def progress(self, request: Request) -> Response:
        """The handler."""
        return answer(progress_of(await self._named(request)))

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
            raise HttpError(409, "INVALID_STATE_TRANSITION", job.why_not(wish.value))
        return Response(status=204)

    async def _named(self, request: Request) -> Job:
        job = await self._desk.get(request.arguments["job"])
        if job is None:
            raise HttpError(404, "NOT_FOUND", "there is no such job; see /api/v1/jobs")
        return job


def _shown(job: Job, request: Request) -> JobShown:
    may_see_patients = "search" in what_may(request.caller)
    return JobShown(
        job_id=job.job_id,
        kind=job.request.kind.value,
        node=job.request.node,
        keys=dict(job.request.keys) if may_see_patients else {},
        detail=job.request.detail if may_see_patients else "",
        state=job.state.value,
        priority=job.request.priority.name.lower(),
        requested_by=job.request.requested_by,
        attempts=job.attempts,
        progress=progress_of(job),
        created_at=job.created_at,
        due_at=job.due_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        fault=job.last_fault,
    )
