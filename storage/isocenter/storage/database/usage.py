"""Usage of the room in the database: adapter of the port `UsageBook`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.archive.usage.ports import Usage
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as

_DAY: Final = len("2026-11-30")
_USAGE: Final = f"""
    SELECT series_statement.modality AS modality, substr(instance.created_at, 1, {_DAY}) AS day,
           count(*) AS instances, sum(instance.size) AS size
    FROM instance JOIN series_statement
         ON series_statement.series_statement_pk = instance.series_statement_pk
    GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608 - a constant


class DatabaseUsage:
    """See `isocenter.services.archive.usage.ports.UsageBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage(self) -> Sequence[Usage]:
        """See `UsageBook.usage`."""
        return await self._database.read(_usage)


def _usage(connection: Connection) -> Sequence[Usage]:
    return rows_as(Usage, connection.execute(_USAGE))
