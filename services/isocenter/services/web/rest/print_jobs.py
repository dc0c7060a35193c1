"""Print jobs in the API: look at films, cancel, print again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final, Literal

from isocenter.services.dicom.film.display_format import DisplayFormat, DisplayFormatError
from isocenter.services.dicom.film.film import FILM_SIZES
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.service_classes.print.film_session import MAX_COPIES
from isocenter.services.service_classes.print.job import PrintJob, PrintJobState
from isocenter.services.service_classes.print.study_films import StudyFilmOptions
from isocenter.services.web.print_desk import PrintDesk
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint

_SERVICE: Final = "Print jobs"
_ONE: Final = "/print-jobs/{job}"
_MOST_JOBS: Final = 100
_STATE: Final = Answer(409, "It is in no state for that.")
_FILTERS: Final = (
    Parameter(
        name="state",
        text="Only in this state: " + ", ".join(state.value for state in PrintJobState) + ".",
    ),
)


class PrintJobShown(Body):
    """A print job; times are seconds since 1970."""

    job_uid: str
    state: str
    originator: str
    films: int
    copies: int
    priority: str
    medium: str
    destination: str
    study_instance_uid: str
    outputs: list[str]
    attempts: int
    created_at: float
    since: float
    due_at: float
    fault: str


class PrintJobList(Body):
    """Print jobs, the latest first."""

    jobs: list[PrintJobShown]


class NewStudyPrint(Body):
    """How the images of a study, or of one of its series, are to be printed.

    `layout` is an image display format, `size` a film size ID; empty: the printer's.
    """

    layout: str = "STANDARD\\3,4"
    series: str = ""
    size: str = ""
    orientation: Literal["PORTRAIT", "LANDSCAPE"] = "PORTRAIT"
    color: bool = False
    copies: int = 1
    priority: Literal["HIGH", "MED", "LOW"] = "MED"


class PrintJobApi:
    """Answers with print jobs and their films, takes new ones, and steers them."""

    def __init__(self, desk: PrintDesk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/print-jobs", self.list, "Print jobs, the latest first.",
            name="ListPrintJobs", service=_SERVICE, needs="read", gives=PrintJobList,
            parameters=_FILTERS,
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One print job.",
            name="GetPrintJob", service=_SERVICE, needs="read", gives=PrintJobShown,
        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/films/{{number}}", self.film, "A film as a picture.",
            name="GetFilm", service=_SERVICE, needs="read", produces="image/png",

        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/document", self.document, "All films as a PDF, a page each.",
            name="GetFilmDocument", service=_SERVICE, needs="export", produces="application/pdf",
            answers=(ok("The films.", Payload.REPRESENTATION),),
        )  # fmt: skip
        for verb, text in (
            ("cancel", "Print a job no further."),
            ("retry", "Print a job now, or once more."),
        ):
            yield endpoint(
                "POST", f"{_ONE}/{verb}", partial(self.steer, verb), text,
                name=f"{verb.title()}PrintJob", service=_SERVICE, needs="commit",
                answers=(_STATE,),
            )  # fmt: skip
        yield endpoint(
            "POST", "/studies/{study}/print", self.print, "Print the images of a study.",
            name="PrintStudy", service=_SERVICE, needs="export", takes=NewStudyPrint,
            gives=PrintJobShown,
            answers=(
                ok("It is queued.", status=202),
                Answer(409, "It cannot be printed, or no further job is taken."),
            ),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        said = request.parameter("state")
        try:
            states = [] if said is None else [PrintJobState(said)]
        except ValueError:
            known = ", ".join(state.value for state in PrintJobState)
            raise HttpError(400, "INVALID_REQUEST", f"state is one of {known}") from None
        jobs = await self._desk.jobs(states, _MOST_JOBS)
        return answer(PrintJobList(jobs=[_shown(job) for job in jobs]))

    async def show(self, request: Request) -> Response:
        """The handler."""
        return answer(_shown(await self._desk.named(request)))

    async def film(self, request: Request) -> Response:
        """The handler."""
        return await self._desk.film(request)

    async def document(self, request: Request) -> Response:
        """The handler."""
        return await self._desk.document(request)

    async def steer(self, verb: str, request: Request) -> Response:
        """The handler."""
        await self._desk.steer(request, verb)
        return Response(status=204)

    async def print(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewStudyPrint)
        try:
            layout = DisplayFormat.parse(body.layout)
        except DisplayFormatError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        if body.size and body.size not in FILM_SIZES:
            known = ", ".join(FILM_SIZES)
            raise HttpError(400, "INVALID_REQUEST", f"size is one of {known}")
        if not 1 <= body.copies <= MAX_COPIES:
            raise HttpError(400, "INVALID_REQUEST", f"copies are 1 to {MAX_COPIES}")
        job = await self._desk.print(
            request,
            StudyFilmOptions(
                study_instance_uid=request.arguments["study"],
                series_instance_uid=body.series,
                display_format=layout,
                size=body.size,
                is_landscape=body.orientation == "LANDSCAPE",
                is_colour=body.color,
                copies=body.copies,
                priority=body.priority,
            ),
        )
        return answer(_shown(job), 202)


def _shown(job: PrintJob) -> PrintJobShown:
    return PrintJobShown(
        job_uid=job.job_uid,
        state=job.state.value,
        originator=job.originator,
        films=job.films,
        copies=job.copies,
        priority=job.priority,
        medium=job.medium,
        destination=job.destination,
        study_instance_uid=job.study_instance_uid,
        outputs=list(job.outputs),
        attempts=job.attempts,
        created_at=job.created_at,
        since=job.since,
        due_at=job.due_at,
        fault=job.fault,
    )
