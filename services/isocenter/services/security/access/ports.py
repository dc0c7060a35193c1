"""API tokens, sessions and share links as they are kept, and their ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Protocol

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """What is kept of a token.  Times are seconds since 1970.

    Attributes:
        secret_digest: SHA-256 of the secret, in hexadecimal digits.
        user: of the policy, whose permissions it has; empty: those of *roles*.
        scopes: what it is good for of that; empty: for all.
        expires_at: None: never.
    """

    token_id: str
    name: str
    secret_digest: str
    user: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    created_at: float
    created_by: str
    expires_at: float | None
    last_used_at: float | None = None
    revoked_at: float | None = None

    def state(self, now: float) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class ApiTokens(Protocol):
    """Where tokens are kept.  All may raise `StorageError`."""

    async def add(self, token: ApiToken) -> bool:
        """Keep a new one; False: its name, or its ID, is that of another that was not revoked."""
        ...

    async def find(self, token_id: str) -> ApiToken | None:
        """The one with that ID, as it is now."""
        ...

    async def all(self) -> Sequence[ApiToken]:
        """All, also those that have ended; the oldest first."""
        ...

    async def revoke(self, token_id: str, now: float) -> bool:
        """End it; False: there is none, or it had been revoked."""
        ...

    async def remove(self, token_id: str) -> bool:
        """Forget it; False: there is none."""
        ...

    async def note_use(self, token_id: str, now: float) -> None:
        """It was used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is kept of a browser that is signed in.  Times are seconds since 1970.

    Attributes:
        session_id: names it in lists and logs; it opens nothing.
        secret_digest: SHA-256 of what the cookie says, in hexadecimal digits.
        user: of the policy.
        address: where it began.
        code_step: the time step of the one-time code that was shown (RFC 6238); None: none was.
        expires_at: at the latest; it ends before when it is not used.
        roles: of somebody whom the provider knows and the policy does not; empty: those that the
            policy gives the user.
        provider: the issuer that says who it is; empty: a passcode did.
        id_token: of that provider, for when the session ends.
    """

    session_id: str
    secret_digest: str
    user: str
    address: str
    code_step: int | None = None
    roles: tuple[str, ...] = ()
    provider: str = ""
    id_token: str = field(default="", repr=False)
    created_at: float
    last_used_at: float
    expires_at: float
    ended_at: float | None = None


class Sessions(Protocol):
    """Where sessions are kept.  All may raise `StorageError`."""

    async def add(self, session: Session) -> bool:
        """Keep a new one, and forget those that expired a day ago; False: its one-time code has
        opened another one."""
        ...

    async def find(self, secret_digest: str) -> Session | None:
        """The one with that digest, as it is now."""
        ...

    async def lasting(self, now: float) -> Sequence[Session]:
        """Those that have neither ended nor expired."""
        ...

    async def note_use(self, session_id: str, now: float) -> None:
        """It was used."""
        ...

    async def end(self, session_id: str, now: float) -> bool:
        """End it; False: there is none, or it had ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLink:
    """What is kept of a link to one study.  Times are seconds since 1970.

    Attributes:
        link_id: names it in lists and logs; it opens nothing.
        secret_digest: SHA-256 of the secret, in hexadecimal digits.
        label: for whom, or for what.
        may_download: as a ZIP file; who has the link may look at the study in any case.
        passcode_hash: of what has to be said beside the link; empty: nothing.
        user: of the policy, who made it and without whom it is worth nothing; empty: somebody on
            the machine itself.
        is_for_viewer: made for a program on a workstation, and short-lived.
        uses: how often it was opened.
    """

    link_id: str
    secret_digest: str
    study_instance_uid: str
    label: str
    may_download: bool
    passcode_hash: str
    user: str
    created_by: str
    is_for_viewer: bool
    created_at: float
    expires_at: float
    last_used_at: float | None = None
    uses: int = 0
    revoked_at: float | None = None

    def state(self, now: float) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now else "valid"


class ShareLinks(Protocol):
    """Where links are kept.  All may raise `StorageError`."""

    async def add(self, link: ShareLink) -> None:
        """Keep a new one, and forget those for viewers that expired a day ago."""
        ...

    async def find(self, link_id: str) -> ShareLink | None:
        """The one with that ID, as it is now."""
        ...

    async def all(self, limit: int) -> Sequence[ShareLink]:
        """Those that are not for viewers, also such as have ended; the newest first."""
        ...

    async def revoke(self, link_id: str, now: float) -> bool:
        """End it; False: there is none, or it had been revoked."""
        ...

    async def remove(self, link_id: str) -> None:
        """Forget it."""
        ...

    async def note_use(self, link_id: str, now: float) -> None:
        """It was opened."""
        ...
