"""Upkeep of requests to AI services: begun by rules, taken back where nobody waits."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.analysis_work import AnalysisWork, analysis_job
from isocenter.services.integration.ai.ports import AnalysisBook
from isocenter.services.integration.ai.requests import AnalysisRequest, RequestState
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobState

log = logging.getLogger("isocenter.ai")

#: How often it is looked whether anything is due.
LOOK_SECONDS: Final = 5.0
_AT_ONCE: Final = 100
#: Who wants what a rule wants, for lists of jobs.
_RULES: Final = "rules"


class AnalysisUpkeep:
    """Looks after requests; `run` does it as long as the server does, in one process for all.

    Args:
        services: names of those that there are.
    """

    def __init__(
        self, book: AnalysisBook, desk: JobDesk, work: AnalysisWork, services: Collection[str]
    ) -> None:
        self._book = book
        self._desk = desk
        self._work = work
        self._services = services

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                log.error("AI services have to wait: %s", error)
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("AI services have to wait: internal error (%s)", type(error).__name__)
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Do what is due.

        Raises:
            StorageError: it cannot be known.
        """
        for trigger in await self._book.due_triggers(_AT_ONCE):
            if trigger.service in self._services:
                job, is_new = await self._desk.submit(
                    analysis_job(
                        trigger.service,
                        trigger.study_instance_uid,
                        trigger.series_instance_uid,
                        requested_by=_RULES,
                    )
                )
                log.info(
                    "series %s is %s by %s: job %s",
                    trigger.series_instance_uid,
                    "to be analysed" if is_new else "being analysed already",
                    trigger.service,
                    job,
                )
            await self._book.triggered(trigger)
        for request in await self._book.requests(is_open=True, limit=_AT_ONCE):
            job_now = await self._desk.get(request.job_id)
            if job_now is None or job_now.state is JobState.CANCELLED:
                await self._take_back(request)
            elif job_now.state is JobState.FAILED:
                # It ended before the service could be asked, or told.
                await self._work.give_up(request, job_now.last_fault)

    async def _take_back(self, request: AnalysisRequest) -> None:
        try:
            await self._work.take_back(request)
        except StorageError:
            raise
        except (IsocenterError, OSError) as error:
            log.warning(
                "service %s was not told that job %s is over: %s",
                request.service, request.job_id, type(error).__name__,
            )  # fmt: skip
            await self._work.give_up(request, "", RequestState.CANCELLED)
