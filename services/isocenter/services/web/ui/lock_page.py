"""Page of the studies that somebody changes right now."""

from __future__ import annotations

from collections.abc import Iterator

from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import read_reasoned, to, unavailable


class LockPage:
    """Answers with locks, and takes them away."""

    def __init__(self, locks: LockAdministration, layout: Layout) -> None:
        self._locks = locks
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page("/locks", "delete", self.list, "Studies that somebody changes right now.")
        yield action("/locks/release", "configure", self.release, "Release a lock.")

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._list(request, "")

    async def release(self, request: Request) -> Response:
        """The handler of its form."""
        fields, reason, fault = await read_reasoned(request)
        if fault:
            return await self._list(request, fault)
        actor = caller_name(caller_of(request))
        try:
            was_locked = await self._locks.release(fields.get("study", ""), actor, reason)
        except StorageError as error:
            raise unavailable() from error
        if not was_locked:
            raise HttpError(404, "NOT_FOUND", "nobody has a lock of it any more")
        return to("/locks")

    async def _list(self, request: Request, fault: str) -> Response:
        try:
            locks = await self._locks.all()
            counts = await self._locks.counts()
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "locks.html",
            status=400 if fault else 200,
            section="locks",
            locks=locks,
            counts=counts,
            fault=fault,
        )
