"""API tokens: long random secrets for programs, with scopes and an end.

A token reads ``iso_ID_SECRET``: scanners of source code find it by its beginning, the ID names it
in lists and logs, and of the secret only a digest is kept.  256 random bits cannot be guessed, so
a plain SHA-256 is enough where a passcode would need argon2.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.ports import ApiToken, ApiTokens
from isocenter.services.security.access.scopes import SCOPES

log = logging.getLogger("isocenter.access")

PREFIX: Final = "iso_"
_TOKEN: Final = re.compile(r"iso_([0-9a-f]{8})_([0-9a-f]{64})")
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
#: When a token was last used is for people, who ask in days: it is not written for each request.
_USE_SECONDS: Final = 3_600.0
_MOST_NAME: Final = 64


def new_token(
    name: str,
    *,
    policy: Policy,
    created_by: str,
    user: str = "",
    roles: Sequence[str] = (),
    scopes: Sequence[str] = (),
    expires_at: float | None,
    now: float,
) -> tuple[str, ApiToken]:
    """A new token: its text, which is nowhere kept, and what is.

    Raises:
        PolicyError: it would be good for nothing, or names what is not there.
    """
    if not (0 < len(name) <= _MOST_NAME and name.isprintable() and name == name.strip()):
        raise PolicyError(f"the name of a token has 1 to {_MOST_NAME} characters, all printable")
    if _TOKEN.fullmatch(name) or re.fullmatch(r"[0-9a-f]{8}", name):
        raise PolicyError(f"{name!r} could be the ID of a token; choose another name")
    if bool(user) == bool(roles):
        raise PolicyError("a token has the permissions of one user, or of roles: name either")
    if user and policy.user(user) is None:
        raise PolicyError(f"there is no user {user!r}; see isocenter user list")
    for role in roles:
        if role not in policy.all_roles:
            raise PolicyError(f"there is no role {role!r}; there are {', '.join(policy.all_roles)}")
    for scope in scopes:
        if scope not in SCOPES:
            raise PolicyError(f"there is no scope {scope!r}; there are {', '.join(SCOPES)}")
    if expires_at is not None and expires_at <= now:
        raise PolicyError("a token that has expired is good for nothing; let it end later")
    token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    token = ApiToken(
        token_id=token_id,
        name=name,
        secret_digest=_digest(secret),
        user=user,
        roles=tuple(dict.fromkeys(roles)),
        scopes=tuple(dict.fromkeys(scopes)),
        created_at=now,
        created_by=created_by,
        expires_at=expires_at,
    )
    return f"{PREFIX}{token_id}_{secret}", token


class ApiTokenVerifier:
    """Verifies tokens by what is kept now: one that was revoked a moment ago, also by another
    process, is not believed."""

    def __init__(self, tokens: ApiTokens, now: Callable[[], float] = time) -> None:
        self._tokens = tokens
        self._now = now
        #: ID → when its use was last written by this process.
        self._noted: dict[str, float] = {}

    async def verify(self, text: str) -> ApiToken:
        """The token that *text* is.

        Raises:
            PolicyError: it is not believed; the message says why, and nothing of the secret.
            StorageError: the tokens cannot be read.
        """
        parts = _TOKEN.fullmatch(text)
        if parts is None:
            raise PolicyError("it is not written as a token is")
        token = await self._tokens.find(parts[1])
        # The time that this takes says nothing: whoever has no secret learns of no ID.
        is_right = hmac.compare_digest(
            token.secret_digest if token is not None else _NOBODYS, _digest(parts[2])
        )
        if token is None or not is_right:
            raise PolicyError("there is no such token")
        now = self._now()
        state = token.state(now)
        if state != "valid":
            raise PolicyError(f"the token {token.token_id} is {state}")
        await self._note_use(token, now)
        return token

    async def still_valid(self, token_id: str) -> ApiToken | None:
        """A token that was verified before, as it is now; None: it is not believed any more.

        Raises:
            StorageError: the tokens cannot be read.
        """
        token = await self._tokens.find(token_id)
        return token if token is not None and token.state(self._now()) == "valid" else None

    async def _note_use(self, token: ApiToken, now: float) -> None:
        last = max(token.last_used_at or 0.0, self._noted.get(token.token_id, 0.0))
        if now - last < _USE_SECONDS:
            return
        self._noted[token.token_id] = now
        try:
            await self._tokens.note_use(token.token_id, now)
        except IsocenterError as error:
            log.warning("that token %s was used is not written: %s", token.token_id, error)


def token_owner(token: ApiToken) -> str:
    """What the token is called in log and audit: its user, or its own name."""
    return token.user or f"token {token.name}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


_NOBODYS: Final = _digest(secrets.token_hex(_SECRET_BYTES))
