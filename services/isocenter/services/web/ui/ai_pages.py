"""Pages of AI services, their results, and the form to assess one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.assessment import (
    REASONS,
    AssessmentError,
    AssessmentStatus,
    Opinion,
    Verdict,
)
from isocenter.services.integration.ai.desk import AiDesk, NoResultError
from isocenter.services.integration.ai.requests import AnalysisError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.client_errors import HttpClientError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import asker_of, caller_name, caller_of
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import to, unavailable

_ROWS: Final = 50
_VERDICTS: Final = {
    "accept": Verdict.ACCEPT,
    "modify": Verdict.MODIFY,
    "reject": Verdict.REJECT,
}
_STATUSES: Final = {one.value: one for one in AssessmentStatus}


class AiPages:
    """Answers with services and requests, with one result, and takes what is said of it."""

    def __init__(self, desk: AiDesk, catalogue: Catalogue, layout: Layout) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page("/ai", "search", self.list, "AI services, and what they were asked.")
        yield page("/ai/{service}", "state", self.look, "What an AI service says of itself.")
        yield action(
            "/studies/{study}/analyse", "export", self.begin, "Have a study or series analysed."
        )
        path = "/results/{instance}"
        yield page(path, "read", self.show, "What an AI result says, and what people say of it.")
        yield action(f"{path}/assess", "write", self.assess, "Accept, modify or reject it.")

    async def list(self, request: Request) -> Response:
        """The handler of the page of services."""
        try:
            found = await self._desk.requests(limit=_ROWS)
            counts = await self._desk.assessments.statistics()
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "ai.html",
            section="ai",
            services=list(self._desk.services.values()),
            requests=found,
            studies=await self._catalogue.studies_named([one.study_instance_uid for one in found]),
            counts=counts,
        )

    async def look(self, request: Request) -> Response:
        """The handler of the page of one service."""
        service = self._desk.services.get(request.arguments["service"])
        if service is None:
            raise HttpError(404, "NOT_FOUND", "there is no such AI service")
        found, fault = None, ""
        try:
            found = await self._desk.look(service.name)
        except AnalysisError as error:
            fault = str(error)
        except (HttpClientError, OSError):
            fault = "it does not answer"
        return self._layout.page(
            request, "ai_service.html", section="ai", service=service, look=found, fault=fault
        )

    async def begin(self, request: Request) -> Response:
        """The handler of the form that has a study analysed."""
        fields, study = await read_fields(request), request.arguments["study"]
        try:
            await self._desk.begin(
                fields.get("service", ""),
                study,
                fields.get("series", ""),
                caller_name(caller_of(request)),
                asker_of(request),
            )
        except AnalysisError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        except StorageError as error:
            raise unavailable() from error
        return to(f"/studies/{quote(study)}")

    async def show(self, request: Request) -> Response:
        """The handler of the page of a result."""
        return await self._show(request, "", {})

    async def assess(self, request: Request) -> Response:
        """The handler of its form."""
        fields = dict(await read_fields(request))
        uid, caller = request.arguments["instance"], caller_of(request)
        verdict = _VERDICTS.get(fields.get("verdict", ""))
        status = _STATUSES.get(fields.get("status", ""), AssessmentStatus.FINAL)
        if verdict is None:
            return await self._show(request, "choose what you think of it", fields)
        opinion = Opinion(
            verdict=verdict,
            status=status,
            institution=fields.get("institution", "").strip(),
            comment=fields.get("comment", "").strip(),
            reason=fields.get("reason", "") if verdict is Verdict.REJECT else "",
            modified=fields.get("modified", "").strip() if verdict is Verdict.MODIFY else "",
        )
        try:
            await self._desk.assess(uid, opinion, caller, caller_name(caller))
        except NoResultError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        except AssessmentError as error:
            return await self._show(request, str(error), fields)
        except StorageError as error:
            raise unavailable() from error
        return to(f"/results/{quote(uid)}")

    async def _show(self, request: Request, fault: str, fields: dict[str, str]) -> Response:
        try:
            result = await self._desk.result(request.arguments["instance"])
            contents = await self._desk.contents(result)
        except NoResultError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        except StorageError as error:
            raise unavailable() from error
        request.told["instances"] = [result.stored]
        is_final = any(
            one.opinion.status is not AssessmentStatus.DRAFT for one in result.assessments
        )
        return self._layout.page(
            request,
            "ai_result.html",
            status=400 if fault else 200,
            section="studies",
            study=await self._catalogue.study(result.stored.study_instance_uid),
            result=result,
            contents=contents,
            reasons=REASONS,
            statuses=["amended"] if is_final else ["final", "draft"],
            fault=fault,
            fields=fields,
        )
