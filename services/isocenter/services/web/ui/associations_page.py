"""Page of the associations that last now, and of who was turned away lately."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import trio

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Caller
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.security.access.rejected_callers import RejectedCaller, RejectedFile
from isocenter.services.web.processes import ServerProcesses
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

_MOST_REJECTED: Final = 10


class AssociationsPage:
    """Answers with associations, and ends one.

    Args:
        changes, rejected: the policy, and who was turned away; None: there is no policy.
    """

    def __init__(
        self,
        processes: ServerProcesses,
        layout: Layout,
        *,
        changes: PolicyChanges | None,
        rejected: RejectedFile | None,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._processes = processes
        self._layout = layout
        self._changes = changes
        self._rejected = rejected
        self._caller_of = caller_of

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is, and its buttons."""
        yield page("/associations", "state", self.show, "Associations that last now.")
        path = "/associations/{association}/abort"
        yield action(path, "configure", self.abort, "Abort an association.")

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        title = (request.parameter("ae") or "").strip()
        now = await self._processes.associations()
        rejected, known = await self._turned_away()
        return self._layout.page(
            request,
            "associations.html",
            section="associations",
            ae=title,
            associations=[one for one in now.lasting if one.is_of(title)],
            duration=_duration,
            workers=self._processes.number,
            answering=now.answering,
            rejected=rejected[:_MOST_REJECTED],
            known=known,
        )

    async def abort(self, request: Request) -> Response:
        """The handler of the button that ends one."""
        name = request.arguments["association"]
        if not await self._processes.end_association(name, self._caller_of(request)):
            raise HttpError(404, "NOT_FOUND", "the association has ended")
        return Response(status=303, headers=[("location", "/associations")])

    async def _turned_away(self) -> tuple[list[RejectedCaller], set[str]]:
        """Who said an AE title in vain, the last one first; and which titles are admitted."""
        if self._changes is None or self._rejected is None:
            return [], set()
        try:
            policy = await self._changes.policy()
            rejected = await trio.to_thread.run_sync(self._rejected.read)
        except PolicyError as error:
            raise HttpError(503, "UNAVAILABLE", "the policy cannot be read; see the log") from error
        known = {one.ae_title for one in policy.entities if one.active}
        return [one for one in rejected if one.calling_ae_title], known


def _duration(seconds: float) -> str:
    """As 1 day, 2:03:04."""
    return str(timedelta(seconds=int(seconds)))
