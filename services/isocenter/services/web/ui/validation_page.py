"""Page of validation: which device sends what wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.validation.ports import ValidationBook
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page

_MOST_ROWS: Final = 200


class ValidationPage:
    """Answers with the rules that are broken, by sender and device."""

    def __init__(self, book: ValidationBook, layout: Layout) -> None:
        self._book = book
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/validation", "state", self.show, "Which device sends what wrong.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        sender = request.parameter("sender") or ""
        code = request.parameter("code") or ""
        try:
            totals = await self._book.totals()
            refused = await self._book.refusals(sender=sender, limit=_MOST_ROWS + 1)
            rules = await self._book.rules_broken(sender=sender, code=code, limit=_MOST_ROWS + 1)
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "it cannot be read now") from error
        return self._layout.page(
            request,
            "validation.html",
            section="validation",
            totals=totals,
            refused=refused[:_MOST_ROWS],
            are_more_refused=len(refused) > _MOST_ROWS,
            rules=rules[:_MOST_ROWS],
            is_cut=len(rules) > _MOST_ROWS,
            sender=sender,
            code=code,
        )
