"""Spooler of print jobs: brings each to its outputs, one job at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Final, Protocol

import trio

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.cluster.worker_names import new_worker_name
from isocenter.services.concurrency import Backoff, Latch
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print.job import ComposedFilm, PrintJob, PrintJobState
from isocenter.services.service_classes.print.ports import PrintJobs

log = logging.getLogger("isocenter.operation")

#: How often the database is asked for what became due.
LOOK_SECONDS: Final = 2.0
#: How long a claim holds; it is renewed long before.
CLAIM_SECONDS: Final = 60.0
_RENEW_SECONDS: Final = 15.0
#: An output takes no longer with one job.
_OUTPUT_SECONDS: Final = 600.0
_PURGE_SECONDS: Final = 3_600.0
_GOODBYE_SECONDS: Final = 2.0


class OutputError(IsocenterError):
    """An output does not take a job; the message says why."""

    error_code = ErrorCode.PRINT_FAILED


class Output(Protocol):
    """What films are brought to: files, the archive, a printer.

    A job that was interrupted is brought to it once more: where that can be, it makes one of two.
    """

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        """Take a job.

        Raises:
            OutputError: it cannot now; there will be another attempt.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolerOptions:
    """How jobs are printed.

    Attributes:
        keep_seconds: for how long a job is kept after its end; 0: for ever.
    """

    backoff: Backoff
    keep_seconds: float = 30 * 86_400.0


class Spooler:
    """Prints what is due; `run` does it as long as the server does.

    Args:
        outputs: by name; a job has to reach each of them.
        on_change: told of each job whose state changed.
        now: seconds since 1970.
    """

    def __init__(
        self,
        jobs: PrintJobs,
        outputs: Mapping[str, Output],
        options: SpoolerOptions,
        *,
        on_change: Callable[[PrintJob], None] = lambda job: None,
        now: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._outputs = dict(outputs)
        self._options = options
        self._on_change = on_change
        self._now = now
        self._name = new_worker_name()
        self._latch = Latch()
        #: Jobs that we have claimed and do not work on: somebody is to go on with them.
        self._left: list[PrintJob] = []

    def wake(self) -> None:
        """A job may be due."""
        self._latch.set()

    async def run(self) -> None:
        """Print until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            purge_at = -inf
            while True:
                self._latch.clear()
                try:
                    await self._release_left()
                    if trio.current_time() >= purge_at:
                        purge_at = trio.current_time() + _PURGE_SECONDS
                        await self._purge()
                    while job := await self._jobs.claim(self._name, CLAIM_SECONDS):
                        try:
                            await self._print(job)
                        except Exception:
                            # Else its claim would be renewed, and nobody would print it.
                            self._left.append(job)
                            raise
                except StorageError as error:
                    log.error("print jobs have to wait: %s", error)
                except Exception as error:
                    # A fault of ours, and no reason for the server to end.
                    log.error("print jobs have to wait: internal error (%s)", type(error).__name__)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._latch.wait()

    async def _release_left(self) -> None:
        while self._left:
            await self._jobs.release(self._left[-1])
            self._left.pop()

    async def _purge(self) -> None:
        if self._options.keep_seconds:
            await self._jobs.purge(self._now() - self._options.keep_seconds)
        if count := await self._jobs.sweep():
            log.info("films of %d print jobs that came to nothing were removed", count)

    async def _renew(self) -> None:
        while True:
            await trio.sleep(_RENEW_SECONDS)
            try:
                await self._jobs.renew(self._name, CLAIM_SECONDS)
            except StorageError as error:
                log.error("print jobs: claims cannot be renewed: %s", error)
            except Exception as error:
                # Without it another one would print what is being printed.
                log.error(
                    "print jobs: claims cannot be renewed: internal error (%s)",
                    type(error).__name__,
                )

    async def _print(self, job: PrintJob) -> None:
        """One attempt."""
        self._on_change(job)
        try:
            fault = await self._put(job)
        except trio.Cancelled:
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                try:
                    await self._jobs.release(job)
                except StorageError as error:
                    log.error("print job %s has to wait: %s", job.job_uid, error)
            raise
        if fault is None:
            log.info("print job %s was cancelled", job.job_uid)
        elif not fault:
            await self._end(job, PrintJobState.DONE, "")
            log.info("print job %s: printed", job.job_uid)
        else:
            seconds = self._options.backoff.next_interval(
                job.attempts, self._now() - job.created_at
            )
            if seconds is None:
                await self._end(job, PrintJobState.FAILED, fault)
                log.error("print job %s was given up: %s", job.job_uid, fault)
            else:
                log.warning("print job %s waits %.0f s: %s", job.job_uid, seconds, fault)
                if await self._jobs.again(job, fault, seconds):
                    self._on_change(replace(job, state=PrintJobState.PENDING, fault=fault))

    async def _end(self, job: PrintJob, state: PrintJobState, fault: str) -> None:
        if await self._jobs.settle(job, state, fault):
            self._on_change(replace(job, state=state, fault=fault))

    async def _put(self, job: PrintJob) -> str | None:
        """Bring a job to what does not have it yet: the fault of that, or none; None: somebody
        has cancelled it."""
        films = []
        for number in range(1, job.films + 1):
            try:
                film = await self._jobs.film(job.job_uid, number)
            except StorageError as error:
                # Where films are may be away while all else goes on: the next job is not kept up.
                return f"film {number} cannot be read now: {error}"
            if film is None:
                return f"film {number} is not there any more"
            films.append(film)
        for name, output in self._outputs.items():
            if name in job.outputs:
                continue
            try:
                with trio.fail_after(_OUTPUT_SECONDS):
                    await output.put(job, films)
            except (OutputError, StorageError) as error:
                return f"{name}: {error}"
            except trio.TooSlowError:
                return f"{name}: it took longer than {_OUTPUT_SECONDS:g} s"
            except Exception as error:
                # Its text may tell of a patient.
                log.error("print job %s, %s: %s", job.job_uid, name, type(error).__name__)
                return f"{name}: internal error ({type(error).__name__})"
            if not await self._jobs.note_output(job, name):
                return None
            job = replace(job, outputs=(*job.outputs, name))
        return ""
