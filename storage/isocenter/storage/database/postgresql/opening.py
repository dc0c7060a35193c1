"""Opening of a PostgreSQL connection: place of the tables, and settings of the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.postgresql.values import adapters
from isocenter.storage.database.sqlite.migrations.migration import Migration
from isocenter.storage.database.sqlite.schema import MIGRATIONS

#: A statement waits so long for what others have locked; longer than `WRITE_IDLE_SECONDS`.
LOCK_SECONDS: Final = 25
#: Longer than any question of ours over tens of millions of instances.
STATEMENT_SECONDS: Final = 1_800
#: What a node that was paused holds is free for the others after that.
IDLE_SECONDS: Final = 60
#: PostgreSQL cuts longer ones off, and says so.
_LONGEST_NAME: Final = 63
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tables are.

    Attributes:
        conninfo: as libpq reads it.
        schema: the name space of the tables.
        is_durable: what is committed survives a power failure.
        server: who uses it alone, with all its processes; empty: nobody does.
        is_shared: other servers use it as well, all of which say so.
        node: the name of the server among those.
        migrations: all that the program knows.
    """

    conninfo: str
    schema: str = "isocenter"
    is_durable: bool = True
    server: str = ""
    is_shared: bool = False
    node: str = ""
    migrations: Sequence[Migration] = MIGRATIONS

    @property
    def name(self) -> str:
        """For messages, without password and options."""
        try:
            parts = conninfo_to_dict(self.conninfo)
        except psycopg.ProgrammingError:  # which whoever connects is told
            url = urlsplit(self.conninfo)
            return f"postgresql://{url.hostname or ''}{url.path}"
        host = parts.get("host") or parts.get("hostaddr") or ""
        port = f":{parts['port']}" if parts.get("port") else ""
        return f"postgresql://{host}{port}/{parts.get('dbname') or ''}"


def connect(place: Place) -> psycopg.Connection[Any]:
    """Connect in the calling thread.

    Raises:
        psycopg.Error, WrongDatabaseError
    """
    given = conninfo_to_dict(place.conninfo)
    connection = psycopg.connect(
        make_conninfo(**{**_DEFAULTS, **{k: str(v) for k, v in given.items()}}),
        autocommit=True,
        context=adapters(),
    )
    try:
        settings: Mapping[str, str] = {
            "search_path": place.schema,
            # Who has waited for a lock sees what was written meanwhile, whatever the server's
            # default is.
            "default_transaction_isolation": "read committed",
            "synchronous_commit": "on" if place.is_durable else "off",
            "lock_timeout": f"{LOCK_SECONDS}s",
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
            "client_min_messages": "warning",
            "timezone": "UTC",
            "application_name": f"isocenter {place.server}".strip()[:_LONGEST_NAME],
            # Questions take milliseconds; to compile one takes hundreds.
            "jit": "off",
        }
        connection.execute(
            sql.SQL("; ").join(
                sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in settings.items()
            )
        )
    except BaseException:
        connection.close()
        raise
    return connection
