"""API tokens in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from isocenter.services.security.access.ports import ApiToken
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_COLUMNS: Final = (
    "token_id, name, secret_digest, user_name AS user, roles, scopes, created_at, created_by, "
    "expires_at, last_used_at, revoked_at"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM api_token WHERE token_id = ?"  # noqa: S608 - constants
_ALL: Final = f"SELECT {_COLUMNS} FROM api_token ORDER BY created_at, token_id"  # noqa: S608
#: Two could have the same ID by chance, or the same name: neither takes the other's place.
_ADD: Final = """
    INSERT INTO api_token (token_id, name, secret_digest, user_name, roles, scopes, created_at,
                           created_by, expires_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""


class DatabaseApiTokens:
    """See `isocenter.services.security.access.api_tokens.ApiTokens`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, token: ApiToken) -> bool:
        """See `ApiTokens.add`."""
        clean = replace(
            token,
            name=replace_surrogates(token.name),
            created_by=replace_surrogates(token.created_by),
        )
        values = (
            clean.token_id, clean.name, clean.secret_digest, clean.user, "\n".join(clean.roles),
            " ".join(clean.scopes), clean.created_at, clean.created_by, clean.expires_at,
        )  # fmt: skip
        return await self._database.write(_change, _ADD, values)

    async def find(self, token_id: str) -> ApiToken | None:
        """See `ApiTokens.find`."""
        found = await self._database.read(_tokens, _FIND, (token_id,))
        return found[0] if found else None

    async def all(self) -> Sequence[ApiToken]:
        """See `ApiTokens.all`."""
        return await self._database.read(_tokens, _ALL, ())

    async def revoke(self, token_id: str, now: float) -> bool:
        """See `ApiTokens.revoke`."""
        return await self._database.write(
            _change,
            "UPDATE api_token SET revoked_at = ? WHERE token_id = ? AND revoked_at IS NULL",
            (now, token_id),
        )

    async def remove(self, token_id: str) -> bool:
        """See `ApiTokens.remove`."""
        return await self._database.write(
            _change, "DELETE FROM api_token WHERE token_id = ?", (token_id,)
        )

    async def note_use(self, token_id: str, now: float) -> None:
        """See `ApiTokens.note_use`."""
        await self._database.write(
            _change,
            "UPDATE api_token SET last_used_at = ? "
            "WHERE token_id = ? AND coalesce(last_used_at, 0) < ?",
            (now, token_id, now),
        )


def _change(connection: Connection, statement: str, values: tuple[object, ...]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _tokens(connection: Connection, statement: str, values: tuple[object, ...]) -> list[ApiToken]:
    def split(separator: str | None) -> Any:
        return lambda text: tuple(text.split(separator)) if text else ()

    rows = connection.execute(statement, values)
    return rows_as(ApiToken, rows, roles=split("\n"), scopes=split(None))
