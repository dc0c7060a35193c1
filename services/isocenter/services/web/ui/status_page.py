"""Page of the state of the server: health, disk, counts, associations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from isocenter.services.net.http.messages import Request, Response
from isocenter.services.web.parts import ServerState
from isocenter.services.web.principal import what_may
from isocenter.services.web.ui.arrivals_page import Arrival, Arrivals
from isocenter.services.web.ui.layout import Layout

_MOST_ARRIVALS: Final = 5


class StatusPage:
    """Answers with the state.

    Args:
        arrivals: for those who may search; None: nobody knows what came last.
    """

    def __init__(
        self,
        state: Callable[[], Awaitable[ServerState]],
        layout: Layout,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._state = state
        self._layout = layout
        self._arrivals = arrivals

    async def __call__(self, request: Request) -> Response:
        state = await self._state()
        details = state.details
        arrivals: Sequence[Arrival] = ()
        if self._arrivals is not None and "search" in what_may(request.caller):
            arrivals = await self._arrivals.latest(None, _MOST_ARRIVALS)
        return self._layout.page(
            request,
            "status.html",
            section="status",
            state=state.level,
            messages=state.messages,
            stored=details.get("stored"),
            disk=details.get("storage", {}),
            associations=details["associations"],
            arrivals=arrivals,
            version=details["version"],
            uptime=timedelta(seconds=int(details["uptime_seconds"])),
        )
