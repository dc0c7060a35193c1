"""Page of the unified procedure steps, and how they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.service_classes.ups.ports import Workitems
from isocenter.services.service_classes.ups.workitem import WorkitemState
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page

_MOST_ROWS: Final = 200
_STATES: Final = {state.value: state for state in WorkitemState}


class WorkitemsPage:
    """Answers with workitems, the latest first; what it shows is renewed by itself."""

    def __init__(self, workitems: Workitems, layout: Layout) -> None:
        self._workitems = workitems
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/workitems", "search", self.show, "Unified procedure steps.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        said = request.parameter("state") or ""
        try:
            rows = await self._workitems.rows(state=_STATES.get(said), limit=_MOST_ROWS)
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the workitems cannot be read now") from error
        return self._layout.page(
            request,
            "workitems.html",
            section="workitems",
            rows=rows,
            states=list(_STATES),
            state=said,
            is_cut=len(rows) == _MOST_ROWS,
        )
