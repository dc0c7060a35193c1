"""Sessions of browsers, kept as rows; ended by time or by their user.

The cookie holds 256 random bits and nothing else; what it means is looked up for each request, so
a session that was ended, or whose user was deactivated, is worth nothing at once.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable
from time import time
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, WingNotice
from isocenter.services.security.access.ports import Session, Sessions

log = logging.getLogger("isocenter.access")

_SECRET: Final = re.compile(r"[0-9a-f]{64}")
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 4
#: When a session was last used is written so often only: a page has many requests.
_USE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRules:
    """How long a session lasts, in seconds.

    Attributes:
        idle: without being used.
        most: at all.
    """

    idle: float = 1_800.0
    most: float = 43_200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn(WingNotice):
    """A user has signed in with a browser."""

    caller: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOut(WingNotice):
    """A user has signed out."""

    caller: Caller


class SessionKeeper:
    """Begins sessions, and says whose a cookie is."""

    def __init__(
        self, sessions: Sessions, rules: SessionRules, now: Callable[[], float] = time
    ) -> None:
        self._sessions = sessions
        self.rules = rules
        self._now = now

    async def begin(
        self,
        user: str,
        address: str,
        code_step: int | None = None,
        *,
        roles: tuple[str, ...] = (),
        provider: str = "",
        id_token: str = "",
    ) -> str | None:
        """A new session; what its cookie says.  None: the one-time code was used before.

        Args:
            address: where the browser is.
            code_step: the time step of the one-time code that it showed.
            roles, provider, id_token: as of `Session`.

        Raises:
            StorageError: it cannot be kept.
        """
        secret = secrets.token_hex(_SECRET_BYTES)
        now = self._now()
        session = Session(
            session_id=secrets.token_hex(_ID_BYTES),
            secret_digest=_digest(secret),
            user=user,
            address=address,
            code_step=code_step,
            roles=roles,
            provider=provider,
            id_token=id_token,
            created_at=now,
            last_used_at=now,
            expires_at=now + self.rules.most,
        )
        return secret if await self._sessions.add(session) else None

    async def find(self, secret: str, *, is_use: bool = True) -> Session | None:
        """The session of a cookie; None: there is none that has not ended.

        Args:
            is_use: somebody asks for something, which keeps the session from ending.

        Raises:
            StorageError: it cannot be looked up.
        """
        if _SECRET.fullmatch(secret) is None:
            return None
        # The digest is what is compared, by an index: the time that it takes tells nothing of it.
        session = await self._sessions.find(_digest(secret))
        now = self._now()
        if session is None or session.ended_at is not None:
            return None
        if now >= min(session.expires_at, session.last_used_at + self.rules.idle):
            return None
        if is_use and now - session.last_used_at >= _USE_SECONDS:
            try:
                await self._sessions.note_use(session.session_id, now)
            except IsocenterError as error:
                log.warning(
                    "that session %s was used is not written: %s", session.session_id, error
                )
        return session

    async def lasting(self) -> list[Session]:
        """All that have not ended, the last used first.

        Raises:
            StorageError: they cannot be read.
        """
        now = self._now()
        found = await self._sessions.lasting(now)
        used = (one for one in found if now < one.last_used_at + self.rules.idle)
        return sorted(used, key=lambda one: -one.last_used_at)

    async def end(self, session: Session) -> None:
        """End a session.

        Raises:
            StorageError: that cannot be written.
        """
        await self._sessions.end(session.session_id, self._now())

    async def end_named(self, session_id: str) -> bool:
        """End the session of that ID; False: there is none, or it had ended.

        Raises:
            StorageError: that cannot be written.
        """
        return await self._sessions.end(session_id, self._now())

    async def end_all(self, user: str) -> None:
        """End all sessions of a user.

        Raises:
            StorageError: that cannot be written.
        """
        for one in await self._sessions.lasting(self._now()):
            if one.user == user:
                await self.end(one)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()
