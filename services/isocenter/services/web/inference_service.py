"""AI service over HTTP: objects by STOW-RS, requests in JSON, results in multipart."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final, Self
from urllib.parse import quote, urlsplit

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.integration.ai.protocol import (
    MOST_ANSWER,
    RemoteModel,
    RemoteStatus,
    read_job_id,
    read_models,
    read_status,
    request_body,
)
from isocenter.services.integration.ai.requests import AnalysisRequest
from isocenter.services.net.http.client import (
    Content,
    Headers,
    HttpClient,
    HttpDeadlines,
    Retries,
)
from isocenter.services.notices import Notices
from isocenter.services.service_classes.storage.sent_account import SentAccount
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.parts import parts_of

_JSON: Final = "application/json"
_PARTS: Final = 'multipart/related; type="application/dicom"'
#: What cannot be had now, the queue of jobs asks for again.
_NO_RETRIES: Final = Retries(attempts=1)


class WebInferenceService:
    """See `isocenter.services.integration.ai.ports.InferenceService`; an async context manager.

    Args:
        headers: that say who we are.
        tls: None: the CAs of the system.
    """

    def __init__(
        self,
        service: AiService,
        archive: Archive,
        notices: Notices,
        *,
        headers: Headers = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        deadlines = HttpDeadlines(connect=service.connect_seconds, answer=service.answer_seconds)
        self._service = service
        self._archive = archive
        self._notices = notices
        self._http = HttpClient(
            service.url, tls=tls, headers=headers, deadlines=deadlines, retries=_NO_RETRIES
        )
        self._objects = DicomWebClient(
            service.url, tls=tls, headers=headers, deadlines=deadlines, retries=_NO_RETRIES
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._http)
        await self._stack.enter_async_context(self._objects)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def send(
        self, instances: Sequence[StoredInstance], told: Callable[[StoredInstance, str], None]
    ) -> None:
        """See `InferenceService.send`."""
        host = self._service.host
        items = [
            await self._archive.leaving(stored_object(one, self._archive.open), host)
            for one in instances
        ]
        by_uid = {item.sop_instance_uid: one for item, one in zip(items, instances, strict=True)}
        place = urlsplit(self._service.url)
        account = SentAccount(host, place.netloc, instances, command="STOW-RS")
        account.begin(self._notices)
        try:
            async with aclosing(self._objects.store(items)) as outcomes:
                async for outcome in outcomes:
                    stored = by_uid[outcome.item.sop_instance_uid]
                    # What the service says of it may name a patient.
                    fault = "" if outcome.is_stored else "the service did not take it"
                    account.count(stored, fault)
                    told(stored, fault)
        finally:
            account.end(self._notices)

    async def submit(self, request: AnalysisRequest, *, callback_url: str) -> str:
        """See `InferenceService.submit`."""
        study, series = request.study_instance_uid, request.series_instance_uid
        made = self._archive.deidentification
        project = None if made is None else made.project_of_destination(self._service.host)
        if made is not None and project is not None:
            study = await made.uid_of(study, project)
            series = await made.uid_of(series, project) if series else ""
        body = request_body(
            request,
            study_instance_uid=study,
            series_instance_uid=series,
            parameters=self._service.parameters,
            callback_url=callback_url,
        )

        async def pieces() -> AsyncGenerator[Buffer, None]:
            yield body

        content = Content(media_type=_JSON, pieces=pieces, length=len(body))
        headers = (("accept", _JSON), ("idempotency-key", request.request_id))
        async with self._http.request(
            "POST", self._http.url("/inference"), headers=headers, content=content
        ) as response:
            return read_job_id(await response.body(MOST_ANSWER))

    async def status(self, remote_id: str) -> RemoteStatus:
        """See `InferenceService.status`."""
        return read_status(await self._asked(f"/inference/{quote(remote_id, safe='')}"))

    @asynccontextmanager
    async def results(self, remote_id: str) -> AsyncIterator[AsyncIterable[AsyncIterable[Buffer]]]:
        """See `InferenceService.results`."""
        url = self._http.url(f"/inference/{quote(remote_id, safe='')}/results")
        async with (
            self._http.request("GET", url, headers=(("accept", _PARTS),)) as response,
            parts_of(response) as parts,
        ):
            yield parts

    async def cancel(self, remote_id: str) -> None:
        """See `InferenceService.cancel`."""
        url = self._http.url(f"/inference/{quote(remote_id, safe='')}")
        async with self._http.request("DELETE", url):
            pass

    async def health(self) -> None:
        """See `InferenceService.health`."""
        await self._asked("/health")

    async def models(self) -> Sequence[RemoteModel]:
        """See `InferenceService.models`."""
        return read_models(await self._asked("/models"))

    async def _asked(self, path: str) -> bytes:
        headers = (("accept", _JSON),)
        async with self._http.request("GET", self._http.url(path), headers=headers) as response:
            return await response.body(MOST_ANSWER)
