"""Routes of pages and of the forms on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import CONTENT_TYPE

_HTML: Final = ("text/html",)


def page(path: str, needs: str | None, handler: Handler, text: str) -> Route[Handler]:
    """A page at *path*, for whoever has what it *needs*."""
    return Route(method="GET", path=path, handler=handler, text=text, needs=needs, produces=_HTML)


def action(
    path: str,
    needs: str | None,
    handler: Handler,
    text: str,
    *,
    produces: Sequence[str] = _HTML,
) -> Route[Handler]:
    """What a form of a page is sent to."""
    return Route(
        method="POST",
        path=path,
        handler=handler,
        text=text,
        needs=needs,
        consumes=(CONTENT_TYPE,),
        produces=tuple(produces),
    )
