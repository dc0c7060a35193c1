"""Sessions of browsers as requests show them."""

from __future__ import annotations

from typing import Final

from isocenter.services.net.http.cross_origin import NO_ORIGINS, may_change
from isocenter.services.net.http.forwarded import NO_PROXIES, TrustedProxies
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.security.access.ports import Session
from isocenter.services.security.access.sessions import SessionKeeper

#: With this beginning, browsers take it over TLS only, from this host only, for all its paths.
COOKIE: Final = "__Host-isocenter"
#: Of a browser in which a link was opened; whoever has signed in there stays signed in.
SHARE_COOKIE: Final = "__Host-isocenter-link"
_OTHER_ORIGIN: Final = "a page of another origin may change nothing here"


class BrowserSessions:
    """Knows the sessions of browsers.

    Args:
        own_origin: of the address under which others reach us; empty: they ask for us as we are.
        proxies: which of them may stand between, and speak TLS for us.
    """

    def __init__(
        self, keeper: SessionKeeper, *, own_origin: str = "", proxies: TrustedProxies = NO_PROXIES
    ) -> None:
        self.keeper = keeper
        self._own_origin = own_origin
        self._proxies = proxies

    def is_secure(self, request: Request) -> bool:
        """Whether what goes to and fro is nobody else's to read, as far as we can know."""
        if request.scheme == "https":
            return True
        return self._own_origin.startswith("https://") and self._proxies.trusts(request.peer)

    def check_origin(self, request: Request, *, is_known: bool) -> None:
        """Whether a page of ours asks, if the request may change something.

        Args:
            is_known: it shows a cookie, which browsers send also for others: a page of ours has to
                be named.

        Raises:
            HttpError: it is another's (403).
        """
        own = [f"{request.scheme}://{request.authority}", *filter(None, [self._own_origin])]
        says_nothing = request.header("sec-fetch-site") is request.header("origin") is None
        is_unsafe = not may_change(request.method, own, NO_ORIGINS, request.header)
        if is_unsafe or (is_known and says_nothing and request.method not in ("GET", "HEAD")):
            raise HttpError(403, "OTHER_ORIGIN", _OTHER_ORIGIN)

    async def find(
        self, request: Request, *, is_use: bool = True, cookie: str = COOKIE
    ) -> Session | None:
        """The session that a request belongs to; None: it has none, or that has ended.

        Args:
            is_use: as of `SessionKeeper.find`.
            cookie: that is looked at.

        Raises:
            StorageError: it cannot be looked up.
        """
        secret = cookie_of(request, cookie)
        if not secret or not self.is_secure(request):
            return None
        return await self.keeper.find(secret, is_use=is_use)


def session_cookie(secret: str, seconds: int, cookie: str = COOKIE) -> tuple[str, str]:
    """The header that gives a browser its cookie, or takes it back."""
    return (
        "set-cookie",
        f"{cookie}={secret}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax",
    )


def cookie_of(request: Request, cookie: str) -> str:
    """What a browser says of a cookie; empty: nothing."""
    # HTTP/2 sends each cookie as a field of its own (RFC 9113 8.2.3); here commas join them.
    for part in (request.header("cookie") or "").replace(",", ";").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie:
            return value
    return ""
