"""Work of a job that has a series analysed by an AI service."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.integration.ai.ai_service import AiService, destination_of, service_of
from isocenter.services.integration.ai.ports import AnalysisBook, InferenceService, OpenService
from isocenter.services.integration.ai.protocol import RemoteState, RemoteStatus
from isocenter.services.integration.ai.requests import (
    AnalysisError,
    AnalysisRequest,
    RequestState,
    ResultState,
)
from isocenter.services.integration.ai.result_classes import RESULT_CLASSES
from isocenter.services.integration.ai.result_intake import ResultIntake
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.notices import AnalysisEnded, Notices
from isocenter.services.workflow.jobs.asker import Asker
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobKind,
    JobPriority,
    JobRequest,
)
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems
from isocenter.services.workflow.jobs.turns import AskLaterError

log = logging.getLogger("isocenter.ai")

_STUDY_KEY: Final = "StudyInstanceUID"
_SERIES_KEY: Final = "SeriesInstanceUID"
_MODALITY: Final = 0x00080060
#: Objects that are sent in one go, and settled together.
_AT_ONCE: Final = 200
_MOST_SENT: Final = 100_000


def analysis_job(
    service: str,
    study: str,
    series: str = "",
    *,
    requested_by: str = "",
    asker: Asker | None = None,
    priority: JobPriority = JobPriority.NORMAL,
) -> JobRequest:
    """The job that has a study, or a series of it, analysed."""
    keys = [(_STUDY_KEY, study)]
    keys += [(_SERIES_KEY, series)] if series else []
    return JobRequest(
        kind=JobKind.ANALYSE,
        node=destination_of(service),
        keys=tuple(keys),
        priority=priority,
        requested_by=requested_by,
        asker=asker,
    )


class AnalysisWork:
    """Sends, asks, waits, and takes in what came of it.

    Args:
        callback_url: where a service may say that it is done, with a token; empty: nowhere.
        now: seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        services: Mapping[str, AiService],
        book: AnalysisBook,
        open_service: OpenService,
        intake: ResultIntake,
        notices: Notices,
        *,
        callback_url: Callable[[str], str],
        now: Callable[[], float],
    ) -> None:
        self._archive = archive
        self._services = services
        self._book = book
        self._open_service = open_service
        self._intake = intake
        self._notices = notices
        self._callback_url = callback_url
        self._now = now

    async def work(self, job: Job, items: JobItems) -> None:
        """Get on with a request.

        Raises:
            AskLaterError: the service works on it.
            AnalysisError: it cannot be, or was not, answered.
            HttpClientError: the service cannot be reached, or refuses.
        """
        service = self._services.get(service_of(job.request.node))
        if service is None:
            raise AnalysisError("no AI service of that name is among the settings: [[ai_services]]")
        known = await self._book.get(job.job_id)
        if known is not None and known.state is RequestState.COMPLETED:
            return  # all was done but to say so
        token = secrets.token_urlsafe(32)
        request = await self._book.begin(_request_of(job, service, _hash(token), self._now()))
        try:
            async with self._open_service(service) as remote:
                if not request.remote_id:
                    await self._send(job, items, service, remote)
                    await self._submit(request, remote, self._callback_url(token))
                    raise AskLaterError(service.poll_seconds)
                await self._look(job, items, request, service, remote)
        except AnalysisError as error:
            await self._over(request, RequestState.FAILED, str(error))
            raise

    async def called_back(self, token: str) -> AnalysisRequest | None:
        """Somebody says with *token* that a request is done; None: nobody may."""
        return await self._book.called_back(_hash(token))

    async def take_back(self, request: AnalysisRequest) -> None:
        """A request is not wanted any more; the service is told if it can be.

        Raises:
            HttpClientError: the service cannot be reached.
        """
        service = self._services.get(request.service)
        if service is not None and request.remote_id:
            async with self._open_service(service) as remote:
                await _cancel(remote, request.remote_id)
        await self._over(request, RequestState.CANCELLED, "")

    async def give_up(
        self, request: AnalysisRequest, fault: str, state: RequestState = RequestState.FAILED
    ) -> None:
        """A request is over, whatever the service does."""
        await self._over(request, state, fault)

    # -- There ------------------------------------------------------------------------

    async def _send(
        self, job: Job, items: JobItems, service: AiService, remote: InferenceService
    ) -> None:
        if job.progress.total is None:
            await self._plan(job, items, service)
        while due := await items.items(job.job_id, (ItemState.DUE,), _AT_ONCE):
            known = await self._archive.index.get([item.sop_instance_uid for item in due])
            outcomes = _Outcomes()
            instances = []
            for item in due:
                stored = known.get(item.sop_instance_uid)
                # What a correction has moved since may be of another patient.
                if stored is None or stored.study_instance_uid != item.study_instance_uid:
                    outcomes.skipped(item)
                else:
                    instances.append(stored)
            studies = {one.study_instance_uid for one in instances}
            async with self._archive.locks.reading(studies, f"job {job.job_id[:8]}"):
                await remote.send(instances, outcomes.told)
            await items.settle(job, outcomes.all)
        failed = await items.items(job.job_id, (ItemState.FAILED,), 1)
        if failed:
            raise AnalysisError("the service did not take all objects")
        if not await items.items(job.job_id, (ItemState.DONE,), 1):
            raise AnalysisError("all that the service would take is gone since it was planned")

    async def _plan(self, job: Job, items: JobItems, service: AiService) -> None:
        """The images of the series that the service takes: nothing that is itself a result."""
        keys = dict(job.request.keys)
        criteria = [Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(keys[_STUDY_KEY]))]
        if _SERIES_KEY in keys:
            criteria.append(Criterion(UNIQUE_KEY[Level.SERIES], SingleValue(keys[_SERIES_KEY])))
        query = Query(
            level=Level.SERIES,
            criteria=tuple(criteria),
            return_tags=(UNIQUE_KEY[Level.SERIES], _MODALITY),
        )
        wanted: set[str] = set()
        async with self._archive.index.find(query) as blocks:
            async for block in blocks:
                wanted.update(
                    match[UNIQUE_KEY[Level.SERIES]]
                    for match in block
                    if not service.modalities or match.get(_MODALITY, "") in service.modalities
                )
        count = 0
        for series in sorted(wanted):
            one = (*criteria[:1], Criterion(UNIQUE_KEY[Level.SERIES], SingleValue(series)))
            images = Query(level=Level.SERIES, criteria=one)
            async with self._archive.index.instances(images) as found:
                async for instances in found:
                    planned = [
                        _item_of(stored)
                        for stored in instances
                        if stored.sop_class_uid not in RESULT_CLASSES
                    ]
                    count += len(planned)
                    if count > _MOST_SENT:
                        raise AnalysisError(f"these are more than {_MOST_SENT:,} objects")
                    await items.plan(job, planned, is_last=False)
        if not count:
            raise AnalysisError("the archive has no images there that the service takes")
        await items.plan(job, [], is_last=True)

    async def _submit(
        self, request: AnalysisRequest, remote: InferenceService, callback_url: str
    ) -> None:
        remote_id = await remote.submit(request, callback_url=callback_url)
        await self._book.submitted(request.job_id, remote_id, self._now())

    # -- And back ---------------------------------------------------------------------

    async def _look(
        self,
        job: Job,
        items: JobItems,
        request: AnalysisRequest,
        service: AiService,
        remote: InferenceService,
    ) -> None:
        status = await self._status(request, remote)
        if status.progress != request.progress:
            await self._book.progressed(request.job_id, status.progress)
        match status.state:
            case RemoteState.PENDING | RemoteState.RUNNING:
                begun = request.submitted_at or request.created_at
                if self._now() - begun < service.give_up_seconds:
                    raise AskLaterError(service.poll_seconds)
                await _cancel(remote, request.remote_id)
                raise AnalysisError(f"no result within {service.give_up_seconds:g} s")
            case RemoteState.COMPLETED if service.is_research:
                await self._over(request, RequestState.COMPLETED, "")
            case RemoteState.COMPLETED:
                await self._take(job, items, request, service, remote)
            case _:
                # What it says of it may name a patient: it is not for lists and logs.
                raise AnalysisError(f"the service says: {status.state.value}")

    async def _status(self, request: AnalysisRequest, remote: InferenceService) -> RemoteStatus:
        try:
            return await remote.status(request.remote_id)
        except HttpStatusError as error:
            if error.status in (404, 410):
                raise AnalysisError("the service does not know the request any more") from error
            raise

    async def _take(
        self,
        job: Job,
        items: JobItems,
        request: AnalysisRequest,
        service: AiService,
        remote: InferenceService,
    ) -> None:
        sent = await items.items(job.job_id, (ItemState.DONE,), _MOST_SENT)
        with ExitStack() as stack:
            files: list[IO[bytes]] = []
            size = 0
            async with remote.results(request.remote_id) as parts:
                async for part in parts:
                    file = stack.enter_context(TemporaryFile())
                    files.append(file)
                    if len(files) > service.most_results:
                        raise AnalysisError(f"more than {service.most_results} results")
                    async for piece in part:
                        size += len(piece)
                        if size > service.most_result_bytes:
                            raise AnalysisError(
                                f"results of more than {service.most_result_bytes:,} bytes"
                            )
                        await trio.to_thread.run_sync(file.write, piece)
                    await trio.to_thread.run_sync(file.flush)
            uids = [item.sop_instance_uid for item in sent]
            results = await self._intake.take(request, service, uids, files)
        counts = Counter(result.state for result in results)
        fault = "" if results else "the service has answered with no object"
        await self._over(
            request,
            RequestState.COMPLETED,
            fault,
            stored=counts[ResultState.STORED],
            withheld=counts[ResultState.QUARANTINED],
            refused=counts[ResultState.REFUSED],
        )

    async def _over(
        self,
        request: AnalysisRequest,
        state: RequestState,
        fault: str,
        *,
        stored: int = 0,
        withheld: int = 0,
        refused: int = 0,
    ) -> None:
        await self._book.end(request.job_id, state, self._now(), fault)
        self._notices.publish(
            AnalysisEnded(
                service=request.service,
                study_instance_uid=request.study_instance_uid,
                state=state.value,
                stored=stored,
                withheld=withheld,
                refused=refused,
            )
        )


class _Outcomes:
    """What became of objects that are sent in one go."""

    def __init__(self) -> None:
        self.all: list[ItemOutcome] = []

    def skipped(self, item: JobItem) -> None:
        """It is gone from its study since it was planned."""
        self.all.append(
            ItemOutcome(sop_instance_uid=item.sop_instance_uid, state=ItemState.SKIPPED)
        )

    def told(self, stored: StoredInstance, fault: str) -> None:
        """It was sent, or was not."""
        outcome = ItemOutcome(
            sop_instance_uid=stored.sop_instance_uid,
            state=ItemState.FAILED if fault else ItemState.DONE,
            fault=fault,
            size=0 if fault else stored.size,
        )
        self.all.append(outcome)


async def _cancel(remote: InferenceService, remote_id: str) -> None:
    try:
        await remote.cancel(remote_id)
    except HttpStatusError as error:
        # It has forgotten it, or ended by itself.
        log.info("a service did not take a request back: %d", error.status)


def _request_of(job: Job, service: AiService, callback_hash: str, now: float) -> AnalysisRequest:
    keys = dict(job.request.keys)
    return AnalysisRequest(
        job_id=job.job_id,
        service=service.name,
        model=service.model,
        study_instance_uid=keys[_STUDY_KEY],
        series_instance_uid=keys.get(_SERIES_KEY, ""),
        state=RequestState.SENDING,
        callback_hash=callback_hash,
        created_at=now,
    )


def _item_of(stored: StoredInstance) -> JobItem:
    return JobItem(
        study_instance_uid=stored.study_instance_uid,
        series_instance_uid=stored.series_instance_uid,
        sop_instance_uid=stored.sop_instance_uid,
        sop_class_uid=stored.sop_class_uid,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
