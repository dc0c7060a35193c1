"""Pages of print jobs, of their films, and of printing a study."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from isocenter.services.dicom.film.display_format import DisplayFormat, DisplayFormatError
from isocenter.services.dicom.film.film import FILM_SIZES
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.service_classes.print.film_session import MAX_COPIES
from isocenter.services.service_classes.print.job import PRIORITIES, PrintJobState
from isocenter.services.service_classes.print.study_films import MOST_IMAGES, StudyFilmOptions
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import what_may
from isocenter.services.web.print_desk import PrintDesk
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

_ONE: Final = "/prints/{job}"
_MOST_JOBS: Final = 200
_STATES: Final = {state.value: state for state in PrintJobState}
_LAYOUTS: Final = ("1,1", "1,2", "2,2", "2,3", "3,4", "4,5", "5,6")


class PrintPages:
    """Answers with print jobs and their films, steers them, and prints studies."""

    def __init__(self, desk: PrintDesk, layout: Layout) -> None:
        self._desk = desk
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/prints", "read", self.list, "Print jobs, the latest first.")
        yield page(_ONE, "read", self.show, "One print job, with its films.")
        yield Route(
            method="GET", path=f"{_ONE}/films/{{number}}", handler=self._desk.film,
            text="A film.", needs="read", produces=("image/png",),
        )  # fmt: skip
        yield Route(
            method="GET", path=f"{_ONE}/films.pdf", handler=self._desk.document,
            text="The films of a job.", needs="export", produces=("application/pdf",),
        )  # fmt: skip
        for verb, text in (("cancel", "Cancel a print job."), ("retry", "Print a job again.")):
            yield action(f"{_ONE}/{verb}", "commit", partial(self.steer, verb), text)
        yield page("/studies/{study}/print", "export", self.ask_how, "How a study is printed.")
        yield action("/studies/{study}/print", "export", self.print, "Print a study.")

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        said = request.parameter("state") or ""
        state = _STATES.get(said)
        jobs = await self._desk.jobs(() if state is None else (state,), _MOST_JOBS)
        return self._layout.page(
            request,
            "print_jobs.html",
            section="prints",
            jobs=jobs,
            states=list(_STATES),
            state=said,
            is_cut=len(jobs) == _MOST_JOBS,
        )

    async def show(self, request: Request) -> Response:
        """The handler of the page of one job."""
        job = await self._desk.named(request)
        verbs = []
        if not job.state.is_final:
            verbs.append("cancel")
        if job.state is not PrintJobState.PRINTING:
            verbs.append("retry")
        return self._layout.page(request, "print_job.html", section="prints", job=job, verbs=verbs)

    async def steer(self, verb: str, request: Request) -> Response:
        """The handler of the buttons of a job."""
        job = await self._desk.steer(request, verb)
        return Response(status=303, headers=[("location", _place(request, job.job_uid))])

    async def ask_how(self, request: Request) -> Response:
        """The handler of the page that asks how a study is to be printed."""
        return self._layout.page(
            request,
            "print_study.html",
            section="studies",
            study=request.arguments["study"],
            series=request.parameter("series") or "",
            layouts=_LAYOUTS,
            sizes=list(FILM_SIZES),
            priorities=PRIORITIES,
            most_copies=MAX_COPIES,
            most_images=MOST_IMAGES,
        )

    async def print(self, request: Request) -> Response:
        """The handler of its form."""
        fields = await read_fields(request)
        try:
            layout = DisplayFormat.parse(f"STANDARD\\{fields.get('layout', '')}")
        except DisplayFormatError as error:
            raise HttpError(400, "BAD_FORM", str(error)) from error
        size, copies = fields.get("size", ""), fields.get("copies", "1")
        if size and size not in FILM_SIZES:
            raise HttpError(400, "BAD_FORM", "choose a film size that there is")
        if not (copies.isascii() and copies.isdigit() and 1 <= int(copies[:4]) <= MAX_COPIES):
            raise HttpError(400, "BAD_FORM", f"copies are 1 to {MAX_COPIES}")
        if fields.get("priority", "MED") not in PRIORITIES:
            raise HttpError(400, "BAD_FORM", "choose a priority that there is")
        job = await self._desk.print(
            request,
            StudyFilmOptions(
                study_instance_uid=request.arguments["study"],
                series_instance_uid=fields.get("series", ""),
                display_format=layout,
                size=size,
                is_landscape="landscape" in fields,
                is_colour="color" in fields,
                copies=int(copies),
                priority=fields.get("priority", "MED"),
            ),
        )
        return Response(status=303, headers=[("location", _place(request, job.job_uid))])


def _place(request: Request, job_uid: str) -> str:
    """The page of a job, for whoever may see it."""
    return f"/prints/{job_uid}" if "read" in what_may(request.caller) else "/"
