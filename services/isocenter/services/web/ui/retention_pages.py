"""Pages of retention: rules, what they would delete now, and studies that are held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.retention.holding import Holding, NotRecordedError
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.parts import RetentionParts
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import read_reasoned, to, unavailable

#: Studies of a rule that are looked at for a page.
_MOST_STUDIES: Final = 200


class RetentionPages:
    """Answers with rules and holds; holds and releases.

    Args:
        name_of: the caller, for the audit trail.
    """

    def __init__(
        self,
        retention: RetentionParts,
        holding: Holding,
        catalogue: Catalogue,
        layout: Layout,
        *,
        name_of: Callable[[Request], str],
    ) -> None:
        self._retention = retention
        self._holding = holding
        self._catalogue = catalogue
        self._layout = layout
        self._name_of = name_of

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        of_study = "/studies/{study}/hold"
        yield page("/retention", "delete", self.list, "Rules of retention, and what is held.")
        text = "What a rule of retention would delete now."
        yield page("/retention/{number}", "delete", self.show, text)
        yield page(of_study, "delete", self.ask, "Hold a study: what that means.")
        yield action(of_study, "delete", self.hold, "Hold a study.")
        yield action("/retention/release", "delete", self.release, "Hold a study no more.")

    async def list(self, request: Request) -> Response:
        """The handler of the rules and holds."""
        try:
            holds = await self._holding.all()
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "retention.html",
            section="retention",
            rules=[(rule, rule.in_words()) for rule in self._retention.rules()],
            holds=holds,
            studies=await self._catalogue.studies_named(
                [one.study_instance_uid for one in holds[:_MOST_STUDIES]]
            ),
        )

    async def show(self, request: Request) -> Response:
        """The handler of the dry run of one rule."""
        rules = self._retention.rules()
        text = request.arguments["number"]
        number = int(text) if text.isdecimal() and len(text) < 4 else 0
        if not 1 <= number <= len(rules):
            raise HttpError(404, "NOT_FOUND", "there is no such rule")
        rule = rules[number - 1]
        try:
            found = await self._retention.look(rule, _MOST_STUDIES)
        except StorageError as error:
            raise unavailable() from error
        except IsocenterError as error:
            raise HttpError(409, "NOT_KNOWN", str(error)) from error
        return self._layout.page(
            request,
            "retention_rule.html",
            section="retention",
            rule=rule,
            words=rule.in_words(),
            found=found,
        )

    async def ask(self, request: Request) -> Response:
        """The handler of the page that says what a hold means."""
        return await self._ask(request, "", "")

    async def hold(self, request: Request) -> Response:
        """The handler of its form."""
        _, reason, fault = await read_reasoned(request)
        if fault:
            return await self._ask(request, fault, reason)
        study = request.arguments["study"]
        await self._catalogue.study(study)
        try:
            is_new = await self._holding.hold(study, self._requester(request), reason)
        except (StorageError, NotRecordedError) as error:
            raise unavailable() from error
        if not is_new:
            return await self._ask(request, "it is held already", reason)
        return to("/retention")

    async def release(self, request: Request) -> Response:
        """The handler of the button that releases."""
        study = (await read_fields(request)).get("study", "")
        try:
            was_held = await self._holding.release(study, self._requester(request))
        except (StorageError, NotRecordedError) as error:
            raise unavailable() from error
        if not was_held:
            raise HttpError(404, "NOT_FOUND", "no such study is held")
        return to("/retention")

    async def _ask(self, request: Request, fault: str, reason: str) -> Response:
        study = await self._catalogue.study(request.arguments["study"])
        return self._layout.page(
            request,
            "hold_study.html",
            status=400 if fault else 200,
            section="studies",
            study=study,
            fault=fault,
            reason=reason,
            address=f"/studies/{quote(request.arguments['study'], safe='')}/hold",
        )

    def _requester(self, request: Request) -> Requester:
        return Requester(name=self._name_of(request))
