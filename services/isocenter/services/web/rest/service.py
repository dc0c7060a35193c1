"""Routes of the administration API."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.web.parts import WebParts
from isocenter.services.web.rest.configuration import ConfigurationApi
from isocenter.services.web.rest.system import SystemApi


def rest_routes(parts: WebParts) -> Sequence[Route[Handler]]:
    """All of the API that these parts make possible, one line for each subject."""
    return [
        *SystemApi(parts.version, parts.state).routes(),
        *(ConfigurationApi(parts.configuration).routes() if parts.configuration else ()),
        *(parts.streams.routes() if parts.streams is not None else ()),
    ]
