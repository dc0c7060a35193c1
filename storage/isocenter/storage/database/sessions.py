"""Sessions of browsers in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.security.access.ports import Session
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

#: After it has expired, a session is kept so long for whoever asks what became of it.
_KEPT_SECONDS: Final = 86_400.0
_COLUMNS: Final = (
    "session_id, secret_digest, user_name AS user, address, code_step, roles, provider, id_token, "
    "created_at, last_used_at, expires_at, ended_at"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM web_session WHERE secret_digest = ?"  # noqa: S608 - constants
_LASTING: Final = f"SELECT {_COLUMNS} FROM web_session WHERE ended_at IS NULL AND expires_at > ?"  # noqa: S608 - constants
_ADD: Final = """
    INSERT INTO web_session (session_id, secret_digest, user_name, address, code_step, roles,
                             provider, id_token, created_at, last_used_at, expires_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""


class DatabaseSessions:
    """See `isocenter.services.security.access.ports.Sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, session: Session) -> bool:
        """See `Sessions.add`."""
        return await self._database.write(_add, session)

    async def find(self, secret_digest: str) -> Session | None:
        """See `Sessions.find`."""
        return await self._database.read(_find, secret_digest)

    async def lasting(self, now: float) -> Sequence[Session]:
        """See `Sessions.lasting`."""
        return await self._database.read(_lasting, now)

    async def note_use(self, session_id: str, now: float) -> None:
        """See `Sessions.note_use`."""
        await self._database.write(
            _change,
            "UPDATE web_session SET last_used_at = ? WHERE session_id = ? AND last_used_at < ?",
            (now, session_id, now),
        )

    async def end(self, session_id: str, now: float) -> bool:
        """See `Sessions.end`."""
        return await self._database.write(
            _change,
            "UPDATE web_session SET ended_at = ? WHERE session_id = ? AND ended_at IS NULL",
            (now, session_id),
        )


def _add(connection: Connection, session: Session) -> bool:
    oldest = session.created_at - _KEPT_SECONDS
    connection.execute("DELETE FROM web_session WHERE expires_at < ?", (oldest,))
    values = (
        session.session_id, session.secret_digest, replace_surrogates(session.user),
        session.address, session.code_step, "\n".join(session.roles), session.provider,
        session.id_token, session.created_at, session.last_used_at, session.expires_at,
    )  # fmt: skip
    return bool(connection.execute(_ADD, values).rowcount)


def _find(connection: Connection, secret_digest: str) -> Session | None:
    found = rows_as(Session, connection.execute(_FIND, (secret_digest,)), roles=_roles)
    return found[0] if found else None


def _lasting(connection: Connection, now: float) -> Sequence[Session]:
    return rows_as(Session, connection.execute(_LASTING, (now,)), roles=_roles)


def _roles(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _change(connection: Connection, statement: str, values: tuple[object, ...]) -> bool:
    return bool(connection.execute(statement, values).rowcount)
