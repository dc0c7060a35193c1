"""Print job manager: jobs submitted, cancelled and printed again, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable

from isocenter.services.notices import Caller, Notices, PrintJobChanged
from isocenter.services.service_classes.print.job import NewPrintJob, PrintJob
from isocenter.services.service_classes.print.ports import PrintJobs


class PrintJobManager:
    """Keeps jobs, and tells of what becomes of them.

    Args:
        most: jobs that may wait.
        check_room: raises `StorageError` where there is no room for so many bytes: films may be on
            the disk that archive and audit trail need.

    Attributes:
        jobs: where they are.
    """

    def __init__(
        self,
        jobs: PrintJobs,
        *,
        most: int,
        notices: Notices,
        wake: Callable[[], None] = lambda: None,
        check_room: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.jobs = jobs
        self._most = most
        self._notices = notices
        self._wake = wake
        self._check_room = check_room

    async def is_full(self) -> bool:
        """Whether no further job would be kept."""
        return await self.jobs.is_full(self._most)

    async def submit(self, job: NewPrintJob, caller: Caller) -> bool:
        """Keep a job, to be printed; False: as many wait as may.

        Raises:
            StorageError: there is no room for it, or it cannot be kept.
        """
        self._check_room(sum(len(film.png) for film in job.films))
        if not await self.jobs.submit(job, most=self._most):
            return False
        self._tell(caller, "submitted", job.job_uid, len(job.films), job.study_instance_uid)
        return True

    async def cancel(self, job: PrintJob, caller: Caller) -> bool:
        """It is not printed, or not further; False: it is over."""
        if not await self.jobs.cancel(job.job_uid):
            return False
        self._tell(caller, "cancelled", job.job_uid, job.films, job.study_instance_uid)
        return True

    async def retry(self, job: PrintJob, caller: Caller) -> bool:
        """It is printed now, or once more; False: it is being printed."""
        if not await self.jobs.retry(job.job_uid):
            return False
        self._tell(caller, "retried", job.job_uid, job.films, job.study_instance_uid)
        return True

    def seen(self, job: PrintJob, caller: Caller, what: str, films: int) -> None:
        """Somebody was given films of it: ``shown`` or ``downloaded``."""
        self._publish(caller, what, job.job_uid, films, job.study_instance_uid)

    def ended(self, job: PrintJob) -> None:
        """The spooler has brought it to its end."""
        self._tell(None, job.state.value, job.job_uid, job.films, job.study_instance_uid)

    def _tell(self, caller: Caller | None, what: str, job_uid: str, films: int, study: str) -> None:
        self._wake()
        self._publish(caller, what, job_uid, films, study)

    def _publish(
        self, caller: Caller | None, what: str, job_uid: str, films: int, study: str
    ) -> None:
        self._notices.publish(
            PrintJobChanged(
                caller=caller, job_uid=job_uid, what=what, films=films, study_instance_uid=study
            )
        )
