"""Cross-origin requests: origins whose pages may use an application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_authority

Headers = list[tuple[str, str]]

#: Headers that scripts of allowed origins may send and see.
_ALLOW: Final = (
    "accept, authorization, content-type, if-match, if-none-match, if-range, prefer, range"
)
_EXPOSE: Final = (
    "accept-ranges, content-length, content-location, content-range, etag, location, retry-after, "
    "warning, x-request-id"
)
_SECONDS: Final = 600
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES: Final = frozenset({"same-origin", "none"})
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class AllowedOrigins:
    """The origins whose pages may use an application (CORS, as the Fetch standard has it).

    Credentials of the browser are never allowed: a page shows its token by itself.

    Attributes:
        origins: as browsers write them: ``https://viewer.example``.
    """

    origins: frozenset[str] = frozenset()

    def allows(self, origin: str | None) -> bool:
        """Whether it is one of them, to the letter."""
        return origin is not None and origin in self.origins

    def preflight(self, origin: str | None, methods: Sequence[str]) -> Headers:
        """Beside `headers`, what the answer to a preflight request says."""
        vary = ("vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
        if not self.allows(origin):
            return [vary] if self.origins else []
        return [
            vary,
            ("access-control-allow-methods", ", ".join(methods)),
            ("access-control-allow-headers", _ALLOW),
            ("access-control-max-age", str(_SECONDS)),
        ]

    def headers(self, origin: str | None) -> Headers:
        """What every answer says."""
        if not self.origins:
            return []
        vary = ("vary", "Origin")
        if origin is None or not self.allows(origin):
            return [vary]
        return [
            vary,
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", _EXPOSE),
        ]


NO_ORIGINS: Final = AllowedOrigins()


def is_origin(text: str) -> bool:
    """Whether a browser writes it so: scheme, name in lower case, and a port that is no default."""
    scheme, separator, authority = text.partition("://")
    if not separator or scheme not in _DEFAULT_PORTS or not is_authority(authority):
        return False
    port = urlsplit(text).port
    is_plain = port is None or str(port) != _DEFAULT_PORTS[scheme]
    return authority == authority.lower() and not authority.endswith(":") and is_plain


def may_change(
    method: str,
    own: Sequence[str],
    allowed: AllowedOrigins,
    header: Callable[[str], str | None],
) -> bool:
    """Whether a request may change something where nobody signs in: a program's, or that of a page
    of ours (or of an allowed origin).  Of others browsers say what they are: they cannot read the
    answer, but what they ask for would be done.

    Args:
        own: our own origins, as the caller may name us.
    """
    if method in _SAFE_METHODS:
        return True
    origin = header("origin")
    if allowed.allows(origin):
        return True
    site = header("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    return origin is None or origin in own
