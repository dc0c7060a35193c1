"""Print desk of the web: what pages and API do with print jobs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from isocenter.services.dicom.film.pdf import Page, write_pdf
from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.service_classes.print.job import PrintJob, PrintJobState
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.study_films import (
    StudyFilmOptions,
    StudyFilms,
    StudyPrintError,
)
from isocenter.services.web.principal import caller_name, caller_of

log = logging.getLogger("isocenter.http")

#: Films of one PDF that is downloaded.
_MOST_FILMS: Final = 200
#: What shows films stays with who asked for it.
_PRIVATE: Final = (("cache-control", "private, no-store"), ("x-content-type-options", "nosniff"))


class PrintDesk:
    """Finds, makes and steers print jobs for callers of the web; faults are `HttpError`."""

    def __init__(self, manager: PrintJobManager, films: StudyFilms) -> None:
        self._manager = manager
        self._films = films

    async def jobs(self, states: Sequence[PrintJobState], limit: int) -> Sequence[PrintJob]:
        """Jobs, the latest first."""
        try:
            return await self._manager.jobs.jobs(states=states, limit=limit)
        except StorageError as error:
            raise _unavailable(error) from error

    async def named(self, request: Request) -> PrintJob:
        """The job that the path names (``job``)."""
        try:
            job = await self._manager.jobs.get(request.arguments["job"])
        except StorageError as error:
            raise _unavailable(error) from error
        if job is None:
            raise HttpError(404, "NOT_FOUND", "there is no such print job, or not any more")
        return job

    async def film(self, request: Request) -> Response:
        """The film that the path names (``job``, ``number``), as a picture."""
        number = request.arguments["number"]
        job, found = await self.named(request), None
        if number.isascii() and number.isdigit() and len(number) <= 4:
            try:
                found = await self._manager.jobs.film(job.job_uid, int(number))
            except StorageError as error:
                raise _unavailable(error) from error
        if found is None:
            raise HttpError(404, "NOT_FOUND", "there is no such film, or not any more")
        if request.method != "HEAD":
            self._manager.seen(job, caller_of(request), "shown", 1)
        return Response(headers=[*_PRIVATE, ("content-type", "image/png")], body=found.png)

    async def document(self, request: Request) -> Response:
        """All films of the job that the path names, as a PDF."""
        job = await self.named(request)
        if job.films > _MOST_FILMS:
            raise HttpError(
                409, "CONFLICT", f"a document has at most {_MOST_FILMS} films: look at each of them"
            )
        pages = []
        try:
            for number in range(1, job.films + 1):
                film = await self._manager.jobs.film(job.job_uid, number)
                if film is None:  # nobody shall take some of them for all
                    raise HttpError(404, "NOT_FOUND", f"film {number} is not there any more")
                pages.append(Page(film.png, film.dots_per_inch))
        except StorageError as error:
            raise _unavailable(error) from error
        content = await trio.to_thread.run_sync(partial(write_pdf, pages, "Films"))
        headers = [
            *_PRIVATE,
            ("content-type", "application/pdf"),
            ("content-disposition", 'attachment; filename="films.pdf"'),
        ]
        if request.method != "HEAD":
            self._manager.seen(job, caller_of(request), "downloaded", len(pages))
        return Response(headers=headers, body=content)

    async def steer(self, request: Request, verb: str) -> PrintJob:
        """Cancel or retry the job that the path names."""
        job = await self.named(request)
        act = self._manager.cancel if verb == "cancel" else self._manager.retry
        try:
            is_done = await act(job, caller_of(request))
        except StorageError as error:
            raise _unavailable(error) from error
        if not is_done:
            raise HttpError(409, "CONFLICT", f"the print job is {job.state.value} by now")
        return job

    async def print(self, request: Request, options: StudyFilmOptions) -> PrintJob:
        """Print a study; the job."""
        caller = caller_of(request)
        try:
            if await self._manager.is_full():
                raise HttpError(409, "QUEUE_FULL", "no further print job is taken now")
            try:
                made = await self._films.job(options, caller_name(caller))
            except StudyPrintError as error:
                raise HttpError(409, "NOT_PRINTABLE", str(error)) from error
            if not await self._manager.submit(made, caller):
                raise HttpError(409, "QUEUE_FULL", "no further print job is taken now")
            job = await self._manager.jobs.get(made.job_uid)
        except StorageError as error:
            raise _unavailable(error) from error
        assert job is not None, "it was submitted"
        return job


def _unavailable(error: StorageError) -> HttpError:
    log.error("print jobs cannot be read or changed: %s", error)
    return HttpError(503, "UNAVAILABLE", "print jobs cannot be read or changed now; see the log")
