"""Changes of API tokens as operations, told with who made them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, Notices, WingNotice
from isocenter.services.security.access.api_tokens import new_token
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import Permissions
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.ports import ApiToken, ApiTokens
from isocenter.services.security.access.user_changes import check_may_give, permissions_of

_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChanged(WingNotice):
    """Somebody has made an API token, or revoked one.

    Attributes:
        is_new: it was made.
    """

    caller: Caller
    token: ApiToken
    is_new: bool


class TokenChanges:
    """Makes and revokes API tokens while a server runs, and tells who did.

    Args:
        policy: that of the moment; raises `PolicyError` where it cannot be read.

    Attributes:
        now: seconds since 1970.
    """

    def __init__(
        self,
        tokens: ApiTokens,
        policy: Callable[[], Awaitable[Policy]],
        notices: Notices,
        now: Callable[[], float] = time,
    ) -> None:
        self._tokens = tokens
        self._policy = policy
        self._notices = notices
        self.now = now

    async def all(self) -> Sequence[ApiToken]:
        """All, also those that have ended; the oldest first.

        Raises:
            StorageError: they cannot be read.
        """
        return await self._tokens.all()

    async def add(
        self,
        name: str,
        *,
        user: str = "",
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        days: int | None,
        caller: Caller,
        may: Permissions,
    ) -> tuple[str, ApiToken]:
        """Make a token; its text, which nobody can be told again, and what is kept of it.

        Args:
            days: for how long; None: for ever.
            may: what whoever asks may do: a token may not do more (`check_may_give`).

        Raises:
            PolicyError: it cannot be made so, or its name is taken.
            StorageError: it cannot be kept.
        """
        now = self.now()
        policy = await self._policy()
        text, token = new_token(
            name,
            policy=policy,
            created_by=caller.user or caller.certificate or caller.address,
            user=user,
            roles=roles,
            scopes=scopes,
            expires_at=None if days is None else now + days * _DAY_SECONDS,
            now=now,
        )
        holder = policy.user(user)
        check_may_give(may, permissions_of(policy, roles if holder is None else holder.roles))
        if not await self._tokens.add(token):
            raise PolicyError(
                f"there is a token {name!r} already; revoke it first, or choose another name"
            )
        self._notices.publish(TokenChanged(caller=caller, token=token, is_new=True))
        return text, token

    async def revoke(self, token_id: str, caller: Caller) -> ApiToken | None:
        """End a token, for all servers on the archive at once; what it was.  None: there is none,
        or it was revoked before.

        Raises:
            StorageError: it cannot be.
        """
        token = await self._tokens.find(token_id)
        if token is None or not await self._tokens.revoke(token_id, self.now()):
            return None
        self._notices.publish(TokenChanged(caller=caller, token=token, is_new=False))
        return token
