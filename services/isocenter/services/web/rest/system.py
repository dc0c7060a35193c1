"""System in the API: version and state of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.parts import ServerState
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint

_SERVICE: Final = "System"
API_VERSION: Final = "v1"


class Version(Body):
    """Which version this is."""

    api_version: str
    version: str


class State(Body):
    """How the server is; `details` are the figures of its monitoring."""

    status: str
    messages: list[str]
    version: str
    details: dict[str, Any]


class SystemApi:
    """Answers about the server as a whole."""

    def __init__(self, version: str, state: Callable[[], Awaitable[ServerState]]) -> None:
        self._version = version
        self._state = state

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is asked."""
        yield endpoint(
            "GET", "/system/version", self.version, "Versions of program and API.",
            name="GetVersion", service=_SERVICE, needs=None, gives=Version,
        )  # fmt: skip
        yield endpoint(
            "GET", "/system/status", self.status, "How the server is, and why.",
            name="GetStatus", service=_SERVICE, needs="state", gives=State,
        )  # fmt: skip

    async def version(self, request: Request) -> Response:
        """The handler."""
        return answer(Version(api_version=API_VERSION, version=self._version))

    async def status(self, request: Request) -> Response:
        """The handler."""
        state = await self._state()
        return answer(
            State(
                status=state.level,
                messages=list(state.messages),
                version=self._version,
                details=dict(state.details),
            )
        )
