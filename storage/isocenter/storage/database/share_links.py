"""Links to studies in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.security.access.ports import ShareLink
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

#: Links for viewers are made by the dozen each day; lists do not show them.
_KEPT_SECONDS: Final = 86_400.0
_COLUMNS: Final = (
    "link_id, secret_digest, study_instance_uid, label, may_download, passcode_hash, "
    "user_name AS user, created_by, is_for_viewer, created_at, expires_at, last_used_at, uses, "
    "revoked_at"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM share_link WHERE link_id = ?"  # noqa: S608 - constants
_ALL: Final = (
    f"SELECT {_COLUMNS} FROM share_link WHERE is_for_viewer = 0 "  # noqa: S608 - constants
    "ORDER BY created_at DESC, link_id LIMIT ?"
)
_ADD: Final = """
    INSERT INTO share_link (link_id, secret_digest, study_instance_uid, label, may_download,
                            passcode_hash, user_name, created_by, is_for_viewer, created_at,
                            expires_at, uses)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
"""


class DatabaseShareLinks:
    """See `isocenter.services.security.access.ports.ShareLinks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, link: ShareLink) -> None:
        """See `ShareLinks.add`."""
        await self._database.write(_add, link)

    async def find(self, link_id: str) -> ShareLink | None:
        """See `ShareLinks.find`."""
        found = await self._database.read(_links, _FIND, (link_id,))
        return found[0] if found else None

    async def all(self, limit: int) -> Sequence[ShareLink]:
        """See `ShareLinks.all`."""
        return await self._database.read(_links, _ALL, (limit,))

    async def revoke(self, link_id: str, now: float) -> bool:
        """See `ShareLinks.revoke`."""
        return await self._database.write(
            _change,
            "UPDATE share_link SET revoked_at = ? WHERE link_id = ? AND revoked_at IS NULL",
            (now, link_id),
        )

    async def remove(self, link_id: str) -> None:
        """See `ShareLinks.remove`."""
        await self._database.write(_change, "DELETE FROM share_link WHERE link_id = ?", (link_id,))

    async def note_use(self, link_id: str, now: float) -> None:
        """See `ShareLinks.note_use`."""
        await self._database.write(
            _change,
            "UPDATE share_link SET uses = uses + 1, last_used_at = ? WHERE link_id = ?",
            (now, link_id),
        )


def _add(connection: Connection, link: ShareLink) -> None:
    oldest = link.created_at - _KEPT_SECONDS
    connection.execute(
        "DELETE FROM share_link WHERE is_for_viewer = 1 AND expires_at < ?", (oldest,)
    )
    values = (
        link.link_id, link.secret_digest, link.study_instance_uid, replace_surrogates(link.label),
        int(link.may_download), link.passcode_hash, replace_surrogates(link.user),
        replace_surrogates(link.created_by), int(link.is_for_viewer), link.created_at,
        link.expires_at,
    )  # fmt: skip
    connection.execute(_ADD, values)


def _change(connection: Connection, statement: str, values: tuple[object, ...]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _links(connection: Connection, statement: str, values: tuple[object, ...]) -> list[ShareLink]:
    rows = connection.execute(statement, values)
    return rows_as(ShareLink, rows, may_download=bool, is_for_viewer=bool)
