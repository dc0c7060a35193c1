"""API tokens as operations: made, listed and revoked, each change in the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.composition.access import access_folder
from isocenter.services.composition.archive import open_stores
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.security.access.api_tokens import new_token
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.security.audit.alert_messages import token_changed
from isocenter.services.settings.sections.monitoring import OnAuditFailure
from isocenter.services.settings.settings import Settings

_DAY_SECONDS: Final = 86_400.0


async def add_token(
    settings: Settings,
    name: str,
    *,
    user: str = "",
    roles: Sequence[str] = (),
    scopes: Sequence[str] = (),
    days: int | None = 365,
    process_name: str = "isocenter",
) -> tuple[str, ApiToken]:
    """Make a token; its text, which nobody can be told again, and what is kept of it.

    Args:
        user, roles: whose permissions it has; one of them is given.
        scopes: what it is good for of these; empty: for all.
        days: for how long; None: for ever.
        process_name: who tells the audit trail.

    Raises:
        PolicyError: it cannot be made so, or the name is taken.
        StorageError: it cannot be kept.
        TrailError, OSError: the audit trail cannot be written, and the settings say ``stop``.
    """
    here = active_process_of(settings, process_name)
    now = time()
    text, token = new_token(
        name,
        policy=_policy(settings),
        created_by=f"{here.user}@{here.machine}",
        user=user,
        roles=roles,
        scopes=scopes,
        expires_at=None if days is None else now + days * _DAY_SECONDS,
        now=now,
    )
    async with open_stores(settings) as stores:
        if not await stores.tokens.add(token):
            raise PolicyError(
                f"there is a token {name!r} already; revoke it first, or choose another name"
            )
        try:
            await trio.to_thread.run_sync(
                record_now, settings, here, [token_changed(here, token, is_new=True)]
            )
        except (OSError, IsocenterError):
            if settings.audit.on_failure is OnAuditFailure.STOP:
                await stores.tokens.remove(token.token_id)
                raise
    return text, token


async def list_tokens(settings: Settings) -> Sequence[ApiToken]:
    """All tokens, also those that have ended; the oldest first."""
    async with open_stores(settings) as stores:
        return await stores.tokens.all()


async def revoke_token(
    settings: Settings, name_or_id: str, *, process_name: str = "isocenter"
) -> ApiToken:
    """End a token, for all servers on the archive at once; what it was.

    It is revoked also where the audit trail cannot be written: that is told, and shuts no door.

    Raises:
        PolicyError: there is none, or it was revoked before.
        StorageError: it cannot be.
        TrailError, OSError: it is revoked, and the audit trail does not know it.
    """
    here = active_process_of(settings, process_name)
    async with open_stores(settings) as stores:
        tokens = await stores.tokens.all()
        found = [one for one in tokens if name_or_id in (one.token_id, one.name)]
        token = next((one for one in found if one.revoked_at is None), None)
        if token is None or not await stores.tokens.revoke(token.token_id, time()):
            why = "is revoked already" if found else "is the name or ID of no token"
            raise PolicyError(f"{name_or_id!r} {why}; isocenter token list shows all")
        await trio.to_thread.run_sync(
            record_now, settings, here, [token_changed(here, token, is_new=False)]
        )
    return token


def _policy(settings: Settings) -> Policy:
    folder = access_folder(settings)
    return Policy() if folder is None else PolicyFile(folder).read()
