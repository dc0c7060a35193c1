"""Page of what is to be sent on, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.forms import read_fields
from isocenter.services.web.ui.layout import Layout
from isocenter.services.workflow.forwarding.ports import (
    DestinationStatus,
    ForwardQueue,
    ForwardState,
)

_MOST_ROWS: Final = 200
_STATES: Final = {state.value: state for state in ForwardState}


class QueuePages:
    """Answers with the queue, and has what failed sent again."""

    def __init__(self, queue: ForwardQueue, layout: Layout) -> None:
        self._queue = queue
        self._layout = layout

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        said = request.parameter("state") or ""
        destination = request.parameter("destination") or ""
        try:
            destinations = await self._queue.destinations()
            rows = await self._queue.rows(
                state=_STATES.get(said),
                unsent=said == "",
                destination=destination,
                limit=_MOST_ROWS,
            )
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the queue cannot be read now") from error
        return self._layout.page(
            request,
            "queue.html",
            section="queue",
            destinations=destinations,
            rows=rows,
            counts=_counts,
            states=list(_STATES),
            state=said,
            destination=destination,
            is_cut=len(rows) == _MOST_ROWS,
        )

    async def retry(self, request: Request) -> Response:
        """The handler of the button that has what failed sent now."""
        destination = (await read_fields(request)).get("destination", "")
        try:
            await self._queue.retry(destination=destination)
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the queue cannot be changed now") from error
        return Response(status=303, headers=[("location", "/queue")])


def _counts(status: DestinationStatus) -> Mapping[str, int]:
    return {state.value: count for state, count in status.counts.items()}
