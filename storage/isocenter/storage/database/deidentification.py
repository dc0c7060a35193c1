"""Mapping of UIDs of de-identified objects in the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from isocenter.services.archive.deidentification.ports import MappingConflictError
from isocenter.storage.database.database import Connection, Database

#: Variables of one statement.
_AT_ONCE: Final = 200
_FORWARD: Final = "SELECT original, pseudonym FROM deidentified_uid WHERE project = ? AND original"
_BACKWARD: Final = (
    "SELECT original, pseudonym FROM deidentified_uid WHERE project = ? AND pseudonym"
)
_ADD: Final = """
    INSERT INTO deidentified_uid (project, original, pseudonym) VALUES (?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_PAGE: Final = """
    SELECT original, pseudonym FROM deidentified_uid WHERE project = ? AND original > ?
    ORDER BY original LIMIT ?
"""
_COUNT: Final = "SELECT COUNT(*) FROM deidentified_uid WHERE project = ?"


class DatabaseDeidentificationMapping:
    """See `isocenter.services.archive.deidentification.ports.DeidentificationMapping`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pseudonyms(self, project: str, originals: Collection[str]) -> Mapping[str, str]:
        """See `DeidentificationMapping.pseudonyms`."""
        if not originals:
            return {}
        return await self._database.read(_pairs, _FORWARD, project, sorted(originals))

    async def originals(self, project: str, pseudonyms: Collection[str]) -> Mapping[str, str]:
        """See `DeidentificationMapping.originals`."""
        if not pseudonyms:
            return {}
        found = await self._database.read(_pairs, _BACKWARD, project, sorted(pseudonyms))
        return {pseudonym: original for original, pseudonym in found.items()}

    async def original(self, project: str, pseudonym: str) -> str | None:
        """See `DeidentificationMapping.original`."""
        return (await self.originals(project, [pseudonym])).get(pseudonym)

    async def add(self, project: str, pairs: Iterable[tuple[str, str]]) -> int:
        """See `DeidentificationMapping.add`."""
        new = dict(pairs)
        known = await self.pseudonyms(project, new)
        if known == new:
            return 0  # the usual case of an object that leaves once more
        return await self._database.write(_add, project, new)

    async def page(self, project: str, after: str, limit: int) -> Sequence[tuple[str, str]]:
        """See `DeidentificationMapping.page`."""
        return await self._database.read(_page, project, after, limit)

    async def count(self, project: str) -> int:
        """See `DeidentificationMapping.count`."""
        return await self._database.read(_count, project)


def _pairs(
    connection: Connection, statement: str, project: str, wanted: Sequence[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(part))
        rows = connection.execute(f"{statement} IN ({marks})", (project, *part))
        found.update((str(original), str(pseudonym)) for original, pseudonym in rows)
    return found


def _add(connection: Connection, project: str, new: Mapping[str, str]) -> int:
    before = _count(connection, project)
    for original, pseudonym in sorted(new.items()):
        connection.execute(_ADD, (project, original, pseudonym))
    # Also what another process has noted meanwhile is the same, or a contradiction.
    if _pairs(connection, _FORWARD, project, sorted(new)) != dict(new):
        raise MappingConflictError("a UID of the mapping has another partner already")
    return _count(connection, project) - before


def _page(connection: Connection, project: str, after: str, limit: int) -> list[tuple[str, str]]:
    rows = connection.execute(_PAGE, (project, after, limit))
    return [(str(original), str(pseudonym)) for original, pseudonym in rows]


def _count(connection: Connection, project: str) -> int:
    ((count,),) = connection.execute(_COUNT, (project,))
    return int(count)
