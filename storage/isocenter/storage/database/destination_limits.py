"""Limits of destinations in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import time
from typing import Any, Final

from isocenter.services.hours import Hours, parse_hours
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_ALL: Final = """
    SELECT destination, associations, bandwidth, hours, is_held, released_at
    FROM destination_limit ORDER BY destination
"""
_SET: Final = """
    INSERT INTO destination_limit
        (destination, associations, bandwidth, hours, is_held, released_at)
    VALUES (:destination, :associations, :bandwidth, :hours, 0, 0)
    ON CONFLICT (destination) DO UPDATE SET associations = excluded.associations,
        bandwidth = excluded.bandwidth, hours = excluded.hours
"""
_HOLD: Final = """
    INSERT INTO destination_limit
        (destination, associations, bandwidth, hours, is_held, released_at)
    VALUES (:destination, 0, 0, '', 1, 0)
    ON CONFLICT (destination) DO UPDATE SET is_held = 1 WHERE destination_limit.is_held = 0
"""
_RELEASE: Final = """
    UPDATE destination_limit SET is_held = 0, released_at = :now
    WHERE destination = :destination AND is_held = 1
"""


class DatabaseLimits:
    """See `isocenter.services.workflow.nodes.ports.LimitBook`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Clock = time) -> None:
        self._database = database
        self._now = now

    async def limits(self) -> Sequence[DestinationLimit]:
        """See `LimitBook.limits`."""
        return await self._database.read(_limits)

    async def set_limit(self, limit: DestinationLimit) -> None:
        """See `LimitBook.set_limit`."""
        values = {
            "destination": replace_surrogates(limit.destination),
            "associations": limit.associations,
            "bandwidth": limit.bandwidth,
            "hours": limit.hours.text,
        }
        await self._database.write(_change, _SET, values)

    async def hold(self, destination: str, *, is_held: bool) -> bool:
        """See `LimitBook.hold`."""
        values = {"destination": replace_surrogates(destination), "now": self._now()}
        return await self._database.write(_change, _HOLD if is_held else _RELEASE, values)


def _limits(connection: Connection) -> list[DestinationLimit]:
    return rows_as(DestinationLimit, connection.execute(_ALL), hours=_hours, is_held=bool)


@lru_cache(256)
def _hours(text: str) -> Hours:
    """They are read every two seconds, and seldom changed."""
    return parse_hours(text)


def _change(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    return bool(connection.execute(statement, values).rowcount)
