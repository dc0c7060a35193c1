"""Page of the rules: in their order, and tried on a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isocenter.engine.ae import is_ae_title
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.rule_book import RuleBook, Trial
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page


class RulesPage:
    """Answers with rules, and what they would do with a study."""

    def __init__(self, rules: RuleBook, layout: Layout) -> None:
        self._rules = rules
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/rules", "state", self.show, "Rules, and a trial of them on a study.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        fields = {
            name: (request.parameter(name) or "").strip() for name in ("study", "calling", "called")
        }
        fault, is_cut = "", False
        trials: Sequence[Trial] = ()
        if not all(is_ae_title(fields[name]) for name in ("calling", "called") if fields[name]):
            fault = "an AE title has 1 to 16 characters, and no backslash"
        elif fields["study"]:
            try:
                trials, is_cut = await self._rules.try_on(**fields)
            except StorageError as error:
                raise HttpError(503, "UNAVAILABLE", "the study cannot be read now") from error
            if not trials:
                fault = "the archive has no such study"
        return self._layout.page(
            request,
            "rules.html",
            status=400 if fault else 200,
            section="rules",
            rules=self._rules.rules(),
            fields=fields,
            trials=trials,
            is_cut=is_cut,
            fault=fault,
        )
