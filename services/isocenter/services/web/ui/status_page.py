"""Page of the state of the server: health, disk, counts, associations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from isocenter.services.net.http.messages import Request, Response
from isocenter.services.web.parts import ServerState
from isocenter.services.web.ui.layout import Layout


class StatusPage:
    """Answers with the state."""

    def __init__(self, state: Callable[[], Awaitable[ServerState]], layout: Layout) -> None:
        self._state = state
        self._layout = layout

    async def __call__(self, request: Request) -> Response:
        state = await self._state()
        details = state.details
        return self._layout.page(
            request,
            "status.html",
            section="status",
            state=state.level,
            messages=state.messages,
            stored=details.get("stored"),
            disk=details.get("storage", {}),
            associations=details["associations"],
            version=details["version"],
            uptime=timedelta(seconds=int(details["uptime_seconds"])),
        )
