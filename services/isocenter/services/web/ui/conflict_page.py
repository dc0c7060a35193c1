"""Page of conflicts between this archive and remote nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_name, caller_of, what_may
from isocenter.services.web.rest.conflicts import RESOLUTIONS, check_may_resolve, needs_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import to, unavailable
from isocenter.services.workflow.synchronization.desk import SyncDesk
from isocenter.services.workflow.tasks.task import TaskError

_MOST: Final = 500


class ConflictPage:
    """Answers with conflicts, and resolves them."""

    def __init__(self, desk: SyncDesk, layout: Layout) -> None:
        self._desk = desk
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page("/conflicts", "search", self.list, "Conflicts with remote nodes.")
        yield action("/conflicts/resolve", "delete", self.resolve, "Resolve a conflict.")

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        try:
            conflicts = await self._desk.conflicts(limit=_MOST)
        except StorageError as error:
            raise unavailable() from error
        may = what_may(request.caller)
        choices = {
            one.number: frozenset(
                word
                for word, resolution in RESOLUTIONS.items()
                if needs_of(one.kind, resolution) <= may
            )
            for one in conflicts
        }
        return self._layout.page(
            request, "conflicts.html", section="conflicts", conflicts=conflicts, choices=choices
        )

    async def resolve(self, request: Request) -> Response:
        """The handler of its buttons."""
        fields = await read_fields(request)
        text = fields.get("conflict", "")
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else 0
        resolution = RESOLUTIONS.get(fields.get("prefer", ""))
        caller = caller_of(request)
        try:
            conflict = await self._desk.get(number)
            if conflict is None or resolution is None:
                raise HttpError(404, "NOT_FOUND", "there is no such conflict")
            check_may_resolve(request, conflict, resolution)
            is_done = await self._desk.resolve(conflict, resolution, caller_name(caller), caller)
        except StorageError as error:
            raise unavailable() from error
        except TaskError as error:
            raise HttpError(409, "CONFLICT", str(error)) from error
        if not is_done:
            raise HttpError(409, "CONFLICT", "somebody was quicker, or the study is in use or held")
        return to("/conflicts")
