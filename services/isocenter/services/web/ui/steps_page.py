"""Page of the performed procedure steps, and whether their images came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.mpps.ports import Steps
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page

_MOST_ROWS: Final = 200
_STATES: Final = {state.value: state for state in StepState}


class StepsPage:
    """Answers with performed procedure steps, the latest first."""

    def __init__(self, steps: Steps, layout: Layout) -> None:
        self._steps = steps
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/steps", "search", self.show, "Performed procedure steps.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        said = request.parameter("state") or ""
        study = (request.parameter("study") or "").strip()
        try:
            rows = await self._steps.rows(
                state=_STATES.get(said), study_instance_uid=study or None, limit=_MOST_ROWS
            )
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the steps cannot be read now") from error
        return self._layout.page(
            request,
            "steps.html",
            section="steps",
            rows=rows,
            states=list(_STATES),
            state=said,
            study=study,
            is_cut=len(rows) == _MOST_ROWS,
        )
