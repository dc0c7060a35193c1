"""Ports that keep print jobs, and their films."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from isocenter.services.service_classes.print.job import (
    ComposedFilm,
    NewPrintJob,
    PrintJob,
    PrintJobState,
)

#: The folder of films in a data directory.
FILMS: Final = "films"


class FilmFiles(Protocol):
    """Keeps the pictures of films, by their jobs.  Failures are `StorageError`."""

    async def put(self, job_uid: str, number: int, png: bytes) -> None:
        """Keep the picture of a film, durably, in the place of any that is there."""
        ...

    async def get(self, job_uid: str, number: int) -> bytes | None:
        """The picture of a film; None: there is none."""
        ...

    async def remove(self, job_uid: str) -> None:
        """Forget all films of a job; that there are none is no error."""
        ...

    async def jobs(self) -> Sequence[str]:
        """UIDs of the jobs of which there are films, in no order that means anything."""
        ...


class PrintJobs(Protocol):
    """Keeps print jobs with their films, durably.  Failures are `StorageError`."""

    async def submit(self, job: NewPrintJob, *, most: int) -> bool:
        """Keep a job, to be printed; False: *most* jobs wait already, and this one is not kept."""
        ...

    async def is_full(self, most: int) -> bool:
        """Whether *most* jobs wait, or are printed."""
        ...

    async def claim(self, worker: str, seconds: float) -> PrintJob | None:
        """The most urgent job that is due and that nobody has claimed, for *worker* alone.

        The claim ends with `settle` or `again`, or after *seconds*.
        """
        ...

    async def renew(self, worker: str, seconds: float) -> None:
        """What *worker* has claimed stays so for *seconds* more."""
        ...

    async def note_output(self, job: PrintJob, output: str) -> bool:
        """*output* has the whole job.  False: it is not ours any more, or was cancelled."""
        ...

    async def settle(self, job: PrintJob, state: PrintJobState, fault: str = "") -> bool:
        """It is over; False: it is not ours any more, or was cancelled."""
        ...

    async def again(self, job: PrintJob, fault: str, seconds: float) -> bool:
        """It is due again in *seconds*; False: it is not ours any more, or was cancelled."""
        ...

    async def release(self, job: PrintJob) -> None:
        """It is due for whoever claims it next; this was no attempt."""
        ...

    async def cancel(self, job_uid: str) -> bool:
        """It is not printed, or not further; False: there is none that is not over."""
        ...

    async def retry(self, job_uid: str) -> bool:
        """It is due now, whether it failed, was cancelled, or waits for its next attempt; False:
        there is no such job."""
        ...

    async def get(self, job_uid: str) -> PrintJob | None:
        """A job; None: there is none."""
        ...

    async def jobs(
        self, *, states: Collection[PrintJobState] = (), limit: int
    ) -> Sequence[PrintJob]:
        """Jobs, the newest first; without *states* of all."""
        ...

    async def states(self, job_uids: Sequence[str]) -> dict[str, PrintJobState]:
        """How some jobs stand."""
        ...

    async def keeps_films(self, job_uid: str) -> bool:
        """Whether there is a job, or one is about to be submitted whose films are being written:
        nobody else may remove them."""
        ...

    async def film(self, job_uid: str, number: int) -> ComposedFilm | None:
        """A film of a job, from 1 on; None: there is none."""
        ...

    async def last_fault(self) -> str:
        """Of the latest attempt to print anything; empty: it went well."""
        ...

    async def purge(self, before: float) -> int:
        """Forget jobs that were over before that time, with their films; how many."""
        ...

    async def sweep(self) -> int:
        """Remove films of jobs that came to nothing: whoever made them died over it, or after the
        job was forgotten, or the database is one of before; how many jobs that were.  Films that
        the database keeps are brought to where films are kept."""
        ...
