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
from isocenter.services.workflow.events.ports import EventLog, OpenStudyStatus

_MOST_ROWS: Final = 100
#: What the events know of a study, and its row.
Arrival = tuple[OpenStudyStatus, Row | None]
_STATES: Final = ("receiving", "complete")


class Arrivals:
    """Knows what came last, and what the archive has of it."""

    def __init__(self, log: EventLog, catalogue: Catalogue) -> None:
        self._log = log
        self._catalogue = catalogue

    async def latest(self, state: str | None, most: int) -> list[Arrival]:
        """Studies of which something came, the last one first, each with its row; None: it is not
        here any more.

        Args:
            state: only those that are so; None: all.

        Raises:
            HttpError: it cannot be read now (503).
        """
        try:
            found = await self._log.studies(state=state, limit=most)
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "what came cannot be read now") from error
        rows = await self._catalogue.studies_named([one.study_instance_uid for one in found])
        return [(one, rows.get(one.study_instance_uid)) for one in found]


class ArrivalsPage:
    """Answers with the studies of which something came last."""

    def __init__(self, arrivals: Arrivals, layout: Layout) -> None:
        self.arrivals = arrivals
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/arrivals", "search", self.show, "The studies that came last.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        said = request.parameter("state") or ""
        state = said if said in _STATES else None
        return self._layout.page(
            request,
            "arrivals.html",
            section="arrivals",
            arrivals=await self.arrivals.latest(state, _MOST_ROWS),
            states=_STATES,
            state=state,
        )
