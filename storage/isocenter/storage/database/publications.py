"""Publications of manifests in the database."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.services.integration.sharing.ports import Publication
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as

_COLUMNS: Final = (
    "repository, study_instance_uid, is_wanted, document_uid, reference, digest, instances, "
    "published_at, sent_uid, sent_digest, sent_at, behind_since, next_attempt_at, attempts, fault, "
    "under_way_since"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM publication"
_OF_STUDY: Final = f"{_SELECT} WHERE study_instance_uid = ? ORDER BY repository"
_ONE: Final = f"{_SELECT} WHERE repository = ? AND study_instance_uid = ?"
_OF_REPOSITORY: Final = (
    f"{_SELECT} WHERE repository = ? AND study_instance_uid > ? ORDER BY study_instance_uid LIMIT ?"
)
_ADD: Final = """
    INSERT INTO publication (repository, study_instance_uid, is_wanted) VALUES (?, ?, ?)
    ON CONFLICT (repository, study_instance_uid) DO NOTHING
"""
_WANT: Final = """
    UPDATE publication SET is_wanted = ?
    WHERE repository = ? AND study_instance_uid = ? AND is_wanted <> ?
"""
_SENDING: Final = """
    UPDATE publication SET sent_uid = ?, sent_digest = ?, sent_at = ?, under_way_since = ?
    WHERE repository = ? AND study_instance_uid = ? AND document_uid = ? AND sent_uid = ?
"""
_ANSWERED: Final = """
    UPDATE publication SET under_way_since = NULL
    WHERE repository = ? AND study_instance_uid = ? AND sent_uid = ?
"""
#: Whether it is wanted is said by others meanwhile.
_SETTLE: Final = """
    UPDATE publication SET document_uid = ?, reference = ?, digest = ?, instances = ?,
        published_at = ?, sent_uid = '', sent_digest = '', sent_at = NULL, under_way_since = NULL
    WHERE repository = ? AND study_instance_uid = ? AND document_uid = ? AND sent_uid = ?
"""
_BEHIND: Final = """
    UPDATE publication SET behind_since = coalesce(behind_since, ?), next_attempt_at = ?
    WHERE repository = ? AND study_instance_uid = ?
"""
_TRIED: Final = """
    UPDATE publication SET behind_since = coalesce(behind_since, ?), next_attempt_at = ?,
        attempts = attempts + 1, fault = ?
    WHERE repository = ? AND study_instance_uid = ?
"""
_CAUGHT_UP: Final = """
    UPDATE publication
    SET behind_since = NULL, next_attempt_at = NULL, attempts = 0, fault = '', compared_at = ?
    WHERE repository = ? AND study_instance_uid = ? AND is_wanted = ?
"""
_DUE: Final = f"""
    {_SELECT} WHERE next_attempt_at <= ?
    ORDER BY next_attempt_at, repository, study_instance_uid LIMIT ?
"""
_ALL_BEHIND: Final = f"""
    {_SELECT} WHERE next_attempt_at IS NOT NULL
    ORDER BY behind_since, repository, study_instance_uid LIMIT ?
"""
#: Those that are neither wanted nor there have nothing to be compared.
_TO_COMPARE: Final = f"""
    {_SELECT} WHERE compared_at < ? AND next_attempt_at IS NULL
        AND (is_wanted = 1 OR document_uid <> '' OR sent_uid <> '')
    ORDER BY compared_at LIMIT ?
"""
_COMPARED: Final = """
    UPDATE publication SET compared_at = ? WHERE repository = ? AND study_instance_uid = ?
"""
_BACKLOG: Final = """
    SELECT repository, count(*), min(behind_since) FROM publication
    WHERE next_attempt_at IS NOT NULL GROUP BY repository ORDER BY repository
"""
_STANDING: Final = """
    SELECT repository, count(*) FROM publication WHERE document_uid <> ''
    GROUP BY repository ORDER BY repository
"""


class DatabasePublications:
    """See `isocenter.services.integration.sharing.ports.PublicationBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, repository: str, study_instance_uid: str) -> Publication | None:
        """See `PublicationBook.get`."""
        found = await self._database.read(_all, _ONE, (repository, study_instance_uid))
        return found[0] if found else None

    async def of_study(self, study_instance_uid: str) -> Sequence[Publication]:
        """See `PublicationBook.of_study`."""
        return await self._database.read(_all, _OF_STUDY, (study_instance_uid,))

    async def of_repository(
        self, repository: str, *, after: str = "", limit: int
    ) -> Sequence[Publication]:
        """See `PublicationBook.of_repository`."""
        return await self._database.read(_all, _OF_REPOSITORY, (repository, after, limit))

    async def want(
        self, repository: str, study_instance_uid: str, *, is_wanted: bool, also_known: bool = True
    ) -> bool:
        """See `PublicationBook.want`."""
        return await self._database.write(
            _want, repository, study_instance_uid, int(is_wanted), also_known
        )

    async def sending(
        self, was: Publication, document_uid: str, digest: str, *, at: float, now: float
    ) -> bool:
        """See `PublicationBook.sending`."""
        values = (
            document_uid, digest, at, now, was.repository, was.study_instance_uid,
            was.document_uid, was.sent_uid,
        )  # fmt: skip
        return await self._database.write(_change, _SENDING, values)

    async def answered(self, repository: str, study_instance_uid: str, document_uid: str) -> None:
        """See `PublicationBook.answered`."""
        values = (repository, study_instance_uid, document_uid)
        await self._database.write(_change, _ANSWERED, values)

    async def settled(self, publication: Publication, was: Publication) -> bool:
        """See `PublicationBook.settled`."""
        values = (
            publication.document_uid, publication.reference, publication.digest,
            publication.instances, publication.published_at, publication.repository,
            publication.study_instance_uid, was.document_uid, was.sent_uid,
        )  # fmt: skip
        return await self._database.write(_change, _SETTLE, values)

    async def behind(self, repository: str, study_instance_uid: str, at: float) -> None:
        """See `PublicationBook.behind`."""
        await self._database.write(_change, _BEHIND, (at, at, repository, study_instance_uid))

    async def tried(
        self,
        repository: str,
        study_instance_uid: str,
        fault: str,
        *,
        at: float,
        next_attempt_at: float,
    ) -> None:
        """See `PublicationBook.tried`."""
        values = (at, next_attempt_at, fault, repository, study_instance_uid)
        await self._database.write(_change, _TRIED, values)

    async def caught_up(self, publication: Publication, at: float) -> bool:
        """See `PublicationBook.caught_up`."""
        values = (
            at, publication.repository, publication.study_instance_uid,
            int(publication.is_wanted),
        )  # fmt: skip
        return await self._database.write(_change, _CAUGHT_UP, values)

    async def due(self, at: float, limit: int) -> Sequence[Publication]:
        """See `PublicationBook.due`."""
        return await self._database.read(_all, _DUE, (at, limit))

    async def all_behind(self, limit: int) -> Sequence[Publication]:
        """See `PublicationBook.all_behind`."""
        return await self._database.read(_all, _ALL_BEHIND, (limit,))

    async def to_compare(self, before: float, limit: int) -> Sequence[Publication]:
        """See `PublicationBook.to_compare`."""
        return await self._database.read(_all, _TO_COMPARE, (before, limit))

    async def compared(self, repository: str, study_instance_uid: str, at: float) -> None:
        """See `PublicationBook.compared`."""
        await self._database.write(_change, _COMPARED, (at, repository, study_instance_uid))

    async def backlog(self) -> Mapping[str, tuple[int, float]]:
        """See `PublicationBook.backlog`."""
        return await self._database.read(_backlog)

    async def standing(self) -> Mapping[str, int]:
        """See `PublicationBook.standing`."""
        return await self._database.read(_standing)


def _want(
    connection: Connection, repository: str, study: str, is_wanted: int, also_known: bool
) -> bool:
    if connection.execute(_ADD, (repository, study, is_wanted)).rowcount:
        return True
    if not also_known:
        return False
    return bool(connection.execute(_WANT, (is_wanted, repository, study, is_wanted)).rowcount)


def _change(connection: Connection, statement: str, values: tuple[object, ...]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _backlog(connection: Connection) -> dict[str, tuple[int, float]]:
    return {name: (count, since) for name, count, since in connection.execute(_BACKLOG)}


def _standing(connection: Connection) -> dict[str, int]:
    return dict(tuple(row) for row in connection.execute(_STANDING))


def _all(connection: Connection, statement: str, values: tuple[object, ...]) -> list[Publication]:
    return rows_as(Publication, connection.execute(statement, values), is_wanted=bool)
