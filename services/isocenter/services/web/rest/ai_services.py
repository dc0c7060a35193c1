"""AI services in the API: what they can do, requests, being called back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.integration.ai.assessment import AssessmentError
from isocenter.services.integration.ai.desk import AiDesk, NoResultError
from isocenter.services.integration.ai.requests import AnalysisError, AnalysisRequest
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.client_errors import HttpClientError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.web.principal import PUBLIC, asker_of, caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import moment

_SERVICE: Final = "AI services"
_MOST_REQUESTS: Final = 100
#: What a service that calls back says is passed over.
_MOST_SAID: Final = 64 << 10
_FILTERS: Final = (
    Parameter(name="study", text="Only of this study: its Study Instance UID."),
    Parameter(name="service", text="Only of this service."),
    Parameter(name="open", text="`true`: only those that are not over.", pattern="true|false"),
    Parameter(
        name="limit", text=f"How many at most, 1 to {_MOST_REQUESTS}.", pattern="[1-9][0-9]?|100"
    ),
)


class ServiceShown(Body):
    """An AI service of the settings."""

    name: str
    url: str
    model: str
    modalities: list[str]
    is_research: bool


class ServiceList(Body):
    """All of them."""

    services: list[ServiceShown]


class ModelShown(Body):
    """A model of a service."""

    model_id: str
    name: str
    version: str
    description: str
    modalities: list[str]
    outputs: list[str]
    is_available: bool


class ServiceState(Body):
    """How a service is: `fault` says why it does not answer; else `seconds` until it did."""

    name: str
    is_well: bool
    seconds: float | None
    fault: str
    models: list[ModelShown]


class NewAnalysis(Body):
    """A series to be analysed by a service; without `series` all of the study that it takes."""

    service: str
    study: str
    series: str = ""


class AnalysisBegun(Body):
    """The job that does it; `is_new` is false if one that is not over does that already."""

    job_id: str
    is_new: bool


class AnalysisShown(Body):
    """A request to a service; `state`: sending, running, completed, failed, cancelled."""

    job_id: str
    service: str
    model: str
    study_instance_uid: str
    series_instance_uid: str
    state: str
    progress: int
    fault: str
    created_at: str | None
    submitted_at: str | None
    ended_at: str | None


class AnalysisList(Body):
    """Requests, the latest first."""

    requests: list[AnalysisShown]


class AiServiceApi:
    """Answers with services and requests, and takes new ones."""

    def __init__(self, desk: AiDesk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/ai/services", self.services, "The AI services of the settings.",
            name="ListAiServices", service=_SERVICE, needs="search", gives=ServiceList,
        )  # fmt: skip
        yield endpoint(
            "GET", "/ai/services/{service}", self.look,
            "Ask an AI service how it is, and what it can do.",
            name="LookAtAiService", service=_SERVICE, needs="state", gives=ServiceState,
            answers=(Answer(404, "There is no such service."),),
        )  # fmt: skip
        yield endpoint(
            "GET", "/ai/requests", self.requests, "Requests to AI services, the latest first.",
            name="ListAnalyses", service=_SERVICE, needs="search", gives=AnalysisList,
            parameters=_FILTERS,
        )  # fmt: skip
        yield endpoint(
            "POST", "/ai/requests", self.begin, "Have a series analysed by an AI service.",
            name="BeginAnalysis", service=_SERVICE, needs="export", takes=NewAnalysis,
            gives=AnalysisBegun,
            answers=(
                ok("A job does it.", status=202),
                Answer(404, "There is no such service, study or series."),
            ),
        )  # fmt: skip
        yield endpoint(
            "POST", "/ai/callbacks/{callback}", self.call_back,
            "An AI service says that it is done; the archive looks. The token is good once.",
            name="AnalysisCalledBack", service=_SERVICE, needs=PUBLIC,
            answers=(
                ok("It is looked at.", Payload.NOTHING, 204),
                Answer(404, "The token is good for nothing, or not any more."),
                Answer(413, "The body is too long."),
            ),
        )  # fmt: skip

    async def services(self, request: Request) -> Response:
        """The handler."""
        return answer(ServiceList(services=[_service(one) for one in self._desk.services.values()]))

    async def look(self, request: Request) -> Response:
        """The handler."""
        name = request.arguments["service"]
        if name not in self._desk.services:
            raise HttpError(404, "NOT_FOUND", "there is no such AI service")
        try:
            found = await self._desk.look(name)
        except (AnalysisError, HttpClientError, OSError) as error:
            fault = str(error) if isinstance(error, AnalysisError) else "it does not answer"
            return answer(
                ServiceState(name=name, is_well=False, seconds=None, fault=fault, models=[])
            )
        models = [
            ModelShown(
                model_id=one.model_id,
                name=one.name,
                version=one.version,
                description=one.description,
                modalities=list(one.modalities),
                outputs=list(one.outputs),
                is_available=one.is_available,
            )
            for one in found.models
        ]
        state = ServiceState(
            name=name, is_well=True, seconds=found.seconds, fault="", models=models
        )
        return answer(state)

    async def requests(self, request: Request) -> Response:
        """The handler."""
        async with asking():
            found = await self._desk.requests(
                study=request.parameter("study") or "",
                service=request.parameter("service") or "",
                is_open=request.parameter("open") == "true",
                limit=int(request.parameter("limit") or _MOST_REQUESTS),
            )
        return answer(AnalysisList(requests=[_request(one) for one in found]))

    async def begin(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewAnalysis)
        async with asking():
            job_id, is_new = await self._desk.begin(
                body.service,
                body.study,
                body.series,
                caller_name(caller_of(request)),
                asker_of(request),
            )
        return answer(AnalysisBegun(job_id=job_id, is_new=is_new), 202)

    async def call_back(self, request: Request) -> Response:
        """The handler."""
        await request.body(_MOST_SAID)
        async with asking():
            if not await self._desk.called_back(request.arguments["callback"]):
                raise HttpError(404, "NOT_FOUND", "the token is good for nothing")
        return Response(status=204)


@asynccontextmanager
async def asking() -> AsyncIterator[None]:
    """What cannot be, as an answer."""
    try:
        yield
    except (NoResultError, AnalysisError) as error:
        raise HttpError(404, "NOT_FOUND", str(error)) from error
    except AssessmentError as error:
        raise HttpError(409, "CONFLICT", str(error)) from error
    except StorageError as error:
        raise HttpError(
            503, "UNAVAILABLE", "it cannot be done now; ask again", [("retry-after", "5")]
        ) from error


def _service(one: AiService) -> ServiceShown:
    return ServiceShown(
        name=one.name,
        url=one.url,
        model=one.model,
        modalities=list(one.modalities),
        is_research=one.is_research,
    )


def _request(one: AnalysisRequest) -> AnalysisShown:
    return AnalysisShown(
        job_id=one.job_id,
        service=one.service,
        model=one.model,
        study_instance_uid=one.study_instance_uid,
        series_instance_uid=one.series_instance_uid,
        state=one.state.value,
        progress=one.progress,
        fault=one.fault,
        created_at=moment(one.created_at),
        submitted_at=moment(one.submitted_at),
        ended_at=moment(one.ended_at),
    )
