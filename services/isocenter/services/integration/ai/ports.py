"""Ports of AI services: speaking to one, and the book of requests."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.integration.ai.assessment import Assessment, Verdict
from isocenter.services.integration.ai.protocol import RemoteModel, RemoteStatus
from isocenter.services.integration.ai.requests import (
    AnalysisRequest,
    RequestState,
    ResultRecord,
)


class InferenceService(Protocol):
    """An AI service, spoken to.

    Whatever fails is an `HttpClientError`, or an `AnalysisError` for an answer that says nothing.
    """

    async def send(
        self, instances: Sequence[StoredInstance], told: Callable[[StoredInstance, str], None]
    ) -> None:
        """Send objects of one study, de-identified where that is set up for it.

        Args:
            told: told of each, with why it did not arrive.
        """
        ...

    async def submit(self, request: AnalysisRequest, *, callback_url: str) -> str:
        """Ask for an analysis of what was sent: what the service calls it.  Asked again, it is the
        same one."""
        ...

    async def status(self, remote_id: str) -> RemoteStatus:
        """How far it is."""
        ...

    def results(
        self, remote_id: str
    ) -> AbstractAsyncContextManager[AsyncIterable[AsyncIterable[Buffer]]]:
        """The objects that came of it, one after the other: each the pieces of a Part 10 file."""
        ...

    async def cancel(self, remote_id: str) -> None:
        """It is not wanted any more."""
        ...

    async def health(self) -> None:
        """Whether the service is well; it is, unless this raises."""
        ...

    async def models(self) -> Sequence[RemoteModel]:
        """What it can do."""
        ...


#: Speaks to a service, as a context.
OpenService = Callable[[AiService], AbstractAsyncContextManager[InferenceService]]


class AnalysisBook(Protocol):
    """Keeps requests and what came of them, durably.  Failures are `StorageError`."""

    async def begin(self, request: AnalysisRequest) -> AnalysisRequest:
        """Keep a request, unless it is kept already; as it stands."""
        ...

    async def submitted(self, job_id: str, remote_id: str, at: float) -> None:
        """A service has taken it."""
        ...

    async def progressed(self, job_id: str, progress: int) -> None:
        """How far it is, in percent."""
        ...

    async def end(self, job_id: str, state: RequestState, at: float, fault: str = "") -> None:
        """It is over, and nobody may call back about it; unless it was over already."""
        ...

    async def note(self, result: ResultRecord) -> None:
        """What became of an object; of the same one again, the last counts."""
        ...

    async def get(self, job_id: str) -> AnalysisRequest | None:
        """A request; None: there is none."""
        ...

    async def called_back(self, callback_hash: str) -> AnalysisRequest | None:
        """The request that a token belongs to, which is good for nothing from now on; None: it
        belongs to none."""
        ...

    async def requests(
        self, *, study: str = "", service: str = "", is_open: bool = False, limit: int
    ) -> Sequence[AnalysisRequest]:
        """Requests, the latest first."""
        ...

    async def results(
        self, *, study: str = "", job_id: str = "", limit: int
    ) -> Sequence[ResultRecord]:
        """Objects that came back, the latest first."""
        ...

    async def result(self, sop_instance_uid: str) -> ResultRecord | None:
        """What is known of an object that came back; None: it did not come from a service."""
        ...

    async def due_triggers(self, limit: int) -> Sequence[Trigger]:
        """What rules have for services, and what no object has come for since."""
        ...

    async def triggered(self, trigger: Trigger) -> None:
        """A job was asked for; unless more has come meanwhile."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A series that a rule has for a service.

    Attributes:
        due_at: when it is quiet for long enough, in seconds since 1970.
    """

    service: str
    study_instance_uid: str
    series_instance_uid: str
    due_at: float


class AssessmentBook(Protocol):
    """Keeps assessments, durably; each is also an object.  Failures are `StorageError`."""

    async def begin(self, assessment: Assessment, seconds: float) -> bool:
        """It is about to be stored, within so many *seconds*, and until then no other one of its
        result is; False: another one is, or took the place that this is for.

        Should whoever stores it die before `add`, it is kept all the same, if its report is.
        """
        ...

    async def give_up(self, assessment: Assessment) -> None:
        """It was begun, and is not stored; should its report be there all the same, it is kept."""
        ...

    async def add(self, assessment: Assessment) -> bool:
        """Keep one that was begun, and is stored, also when that took longer than it had: then it
        follows whatever was said meanwhile.  False: it is not stored."""
        ...

    async def find(
        self, *, study: str = "", result: str = "", assessor: str = "", limit: int
    ) -> Sequence[Assessment]:
        """Assessments, the latest first; an empty text leaves that open."""
        ...

    async def statistics(self) -> Sequence[AssessmentCount]:
        """How results were judged, by service; only the last assessment of each result counts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentCount:
    """Results of a service on which somebody has that opinion; *service*: empty: of none."""

    service: str
    verdict: Verdict
    results: int
