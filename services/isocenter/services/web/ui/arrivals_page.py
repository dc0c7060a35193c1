"""Page of what came last: studies, when, and whether they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.ui.catalogue import Catalogue, Row
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page
from isocenter.services.workflow.events.ports import EventLog

_MOST_ROWS: Final = 100
_STATES: Final = ("receiving", "complete")


class ArrivalsPage:
    """Answers with the studies of which something came last."""

    def __init__(self, log: EventLog, catalogue: Catalogue, layout: Layout) -> None:
        self._log = log
        self._catalogue = catalogue
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/arrivals", "search", self.show, "The studies that came last.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        said = request.parameter("state") or ""
        state = said if said in _STATES else None
        try:
            found = await self._log.studies(state=state, limit=_MOST_ROWS)
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "what came cannot be read now") from error
        rows: dict[str, Row] = {}
        if found:
            uids = ",".join(one.study_instance_uid for one in found)
            asked = [("StudyInstanceUID", uids)]
            for row in await self._catalogue.studies(asked, limit=_MOST_ROWS):
                rows[row["StudyInstanceUID"]] = row
        return self._layout.page(
            request,
            "arrivals.html",
            section="arrivals",
            arrivals=[(one, rows.get(one.study_instance_uid)) for one in found],
            states=_STATES,
            state=state,
        )
