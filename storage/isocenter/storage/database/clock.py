"""Clock of the database, which all processes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import CLOCK

#: Seconds since 1970, as a transaction sees them.
DatabaseClock = Callable[[Connection], float]

_NOW: Final = f"SELECT {CLOCK}"


def clock_of(now: Callable[[], float] | None) -> DatabaseClock:
    """That of the database.

    Args:
        now: another in its place, for tests.
    """
    if now is not None:
        return lambda _: now()
    return _ask


def _ask(connection: Connection) -> float:
    (now,) = connection.execute(_NOW).fetchone()
    return float(now)
