"""Access to the figures of monitoring: by a token, or from this machine."""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.addresses import is_loopback, is_loopback_authority
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.security.access.api_tokens import ApiTokenVerifier
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.scopes import METRICS
from isocenter.services.system.private_files import SecretFileError, read_secret

#: What can stand in ``Authorization: Bearer`` (RFC 6750 2.1), and cannot be guessed by trying.
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{16,}")


def read_token(path: Path) -> bytes:
    """The token by which figures are shown.

    Raises:
        SecretFileError: the file cannot be used, or holds no such token.
    """
    token = read_secret(path)
    if _TOKEN.fullmatch(token) is None:
        raise SecretFileError(
            f"{path} holds no token: at least 16 letters, digits or . _ ~ + / = -, as "
            "openssl rand -hex 32 makes them"
        )
    return token


def may_see_figures(request: Request, token: bytes) -> bool:
    """Whether the caller has the token; where there is none, whether it is on this machine."""
    if token:
        scheme, _, given = (request.header("authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1"), token
        )
    # A page in a browser of this machine can reach us under its own name (DNS rebinding), and so
    # can a proxy that stands here for strangers: both say which name was asked for.
    return is_loopback(request.host) and is_loopback_authority(request.authority)


class FiguresAccess:
    """Who may see figures.

    Args:
        token: whoever shows it may; empty: who is on this machine.
        tokens: verifies API tokens, which may show figures where they have that very scope.
    """

    def __init__(self, token: bytes = b"", tokens: ApiTokenVerifier | None = None) -> None:
        self.token = token
        self._tokens = tokens

    async def allows(self, request: Request) -> bool:
        """Whether the caller may see them."""
        return may_see_figures(request, self.token) or await self._by_api_token(request)

    async def _by_api_token(self, request: Request) -> bool:
        scheme, _, given = (request.header("authorization") or "").partition(" ")
        if self._tokens is None or scheme.lower() != "bearer":
            return False
        try:
            found = await self._tokens.verify(given.strip())
        except (PolicyError, StorageError):
            return False
        return METRICS in found.scopes


def figures_refused(token: bytes) -> HttpError:
    """What is said to who may not see them."""
    if token:
        return HttpError(
            401,
            "TOKEN_NEEDED",
            "send monitoring.token_file's token: Authorization: Bearer TOKEN",
            [("www-authenticate", "Bearer")],
        )
    return HttpError(
        403,
        "NOT_HERE",
        "figures are for programs on this machine, at 127.0.0.1, [::1] or localhost; "
        "for others set monitoring.token_file",
    )
