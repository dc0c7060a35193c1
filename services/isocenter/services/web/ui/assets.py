"""Assets of the pages: style sheet, scripts, icon."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.principal import PUBLIC

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: The address changes with the content, so what was read never has to be asked for again.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Assets:
    """The files, and the addresses under which pages name them."""

    def __init__(self) -> None:
        folder = files(__package__) / "static"
        self._contents = {
            entry.name: entry.read_bytes()
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
            if any(entry.name.endswith(suffix) for suffix in _TYPES)
        }
        digest = hashlib.sha256()
        for name, content in self._contents.items():
            digest.update(name.encode() + b"\0" + content)
        self._version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """The address of a file.

        Raises:
            KeyError: there is no such file.
        """
        self._contents[name]
        return f"/static/{self._version}/{name}"

    def routes(self) -> Sequence[Route[Handler]]:
        """Where they are served, to everybody: they say nothing about anybody."""
        return [
            Route(
                method="GET",
                path="/static/{version}/{name}",
                handler=self._serve,
                needs=PUBLIC,
                text="A style sheet, script or picture of the pages.",
                produces=tuple(kind.partition(";")[0] for kind in _TYPES.values()),
            )
        ]

    async def _serve(self, request: Request) -> Response:
        name = request.arguments["name"]
        content = self._contents.get(name)
        if content is None:
            raise HttpError(404, "NOT_FOUND", "there is nothing at this path")
        is_current = request.arguments["version"] == self._version
        headers = [
            ("content-type", _TYPES[name[name.rindex(".") :]]),
            ("cache-control", _FOR_EVER if is_current else "no-store"),
        ]
        return Response(headers=headers, body=content)
