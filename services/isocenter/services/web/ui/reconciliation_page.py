"""Page of reconciliation: what other systems demanded of patients, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page
from isocenter.services.web.ui.reasoned_forms import unavailable
from isocenter.services.workflow.reconciliation.ports import ReconciliationBook

_ROWS: Final = 50
_MOST_LINKS: Final = 200
_MOST_DIGITS: Final = 18


class ReconciliationPage:
    """Answers with attempts, the latest first, and with links."""

    def __init__(self, book: ReconciliationBook, layout: Layout) -> None:
        self._book = book
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        text = "What other systems said of patients, and what came of it."
        yield page("/reconciliation", "correct", self.list, text)

    async def list(self, request: Request) -> Response:
        """The handler."""
        before = request.parameter("before") or "0"
        if not (before.isascii() and before.isdecimal() and len(before) <= _MOST_DIGITS):
            raise HttpError(400, "INVALID_REQUEST", "before is the number of an attempt")
        patient = (request.parameter("patient") or "").strip()
        try:
            rows = await self._book.attempts(
                patient_id=patient, before=int(before), limit=_ROWS + 1
            )
            links = await self._book.links(patient_id=patient, limit=_MOST_LINKS)
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "reconciliation.html",
            section="reconciliation",
            rows=rows[:_ROWS],
            has_more=len(rows) > _ROWS,
            links=links,
            patient=patient,
        )
