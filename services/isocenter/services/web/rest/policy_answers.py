"""Answers about the policy that several parts of the API share: faults, times, permissions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError
from isocenter.services.security.access.errors import MayNotGiveError, PolicyError
from isocenter.services.security.access.permissions import (
    Permissions,
    parse_permission,
    union,
)
from isocenter.services.security.access.policy import Policy


async def policy_now(read: Callable[[], Awaitable[Policy]]) -> Policy:
    """The policy.

    Raises:
        HttpError: it cannot be read (503).
    """
    try:
        return await read()
    except PolicyError as error:
        raise HttpError(503, "UNAVAILABLE", "the policy cannot be read; see the log") from error


@asynccontextmanager
async def changing() -> AsyncIterator[None]:
    """What a change inside raises, as an answer."""
    try:
        yield
    except MayNotGiveError as error:
        raise HttpError(403, "NOT_ALLOWED", str(error)) from error
    except PolicyError as error:
        raise HttpError(400, "INVALID_REQUEST", str(error)) from error
    except StorageError as error:
        raise HttpError(
            503, "UNAVAILABLE", "it cannot be changed now; ask again", [("retry-after", "5")]
        ) from error


def not_found(what: str) -> HttpError:
    """There is none."""
    return HttpError(404, "NOT_FOUND", f"there is no such {what}")


def moment(seconds: float | None) -> str | None:
    """A moment, in seconds since 1970, as ISO 8601 writes it; None: it was not."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def permissions_in(texts: Iterable[str]) -> Permissions:
    """Permissions as the policy writes them.

    Raises:
        HttpError: one is none (400).
    """
    try:
        return union(parse_permission(text) for text in texts)
    except ValueError as error:
        raise HttpError(400, "INVALID_REQUEST", str(error)) from error
