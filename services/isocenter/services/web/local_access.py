"""Access to web services from this machine, where nobody signs in.

Whoever works on the machine may use the archive; pages of the web that run in a browser here may
not.  They reach it under a name of their own (DNS rebinding), or send what changes something from
another origin (cross-site request forgery): browsers say both.
"""

from __future__ import annotations

from typing import Final

from isocenter.services.net.addresses import is_loopback, is_loopback_authority
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.routing import Route

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES: Final = frozenset({"same-origin", "none"})


async def from_this_machine(request: Request, route: Route[Handler]) -> None:
    """Let programs on this machine in.

    Raises:
        HttpError: the caller is elsewhere (401), or a page of another origin (403).
    """
    if not is_loopback(request.host):
        raise HttpError(
            401,
            "NOT_SIGNED_IN",
            "only programs on the machine of the archive are served without signing in",
            [("www-authenticate", "Bearer")],
        )
    if not is_loopback_authority(request.authority):
        raise HttpError(
            403, "WRONG_HOST", "ask for 127.0.0.1, [::1] or localhost: other names are not ours"
        )
    if request.method not in _SAFE_METHODS and not _is_same_origin(request):
        raise HttpError(403, "OTHER_ORIGIN", "a page of another origin may change nothing here")


def _is_same_origin(request: Request) -> bool:
    site = request.header("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    origin = request.header("origin")
    return origin is None or origin == f"{request.scheme}://{request.authority}"
