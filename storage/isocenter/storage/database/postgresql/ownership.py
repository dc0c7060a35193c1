"""Ownership of a database: one server at a time works on it.

Each connection of a server holds a lock that goes with it.  So a server whose connections were
lost, and which comes back when another has taken over, writes nothing any more.
"""

from __future__ import annotations

from typing import Any, Final
from zlib import crc32

import psycopg

from isocenter.storage.database.postgresql.errors import WrongDatabaseError

#: The one name of all servers that share a database.
EVERYBODY: Final = "several nodes"
#: Held for as long as it takes to look who else is there.
_LOOK: Final = 0x49534F43_0003
#: The first half of the number that each server's own lock has.
_SERVER: Final = 0x49534F43
_LARGEST_INT4: Final = 2**31 - 1

_OTHERS: Final = """
    SELECT coalesce(activity.application_name, ''), coalesce(host(activity.client_addr), '')
    FROM pg_locks LEFT JOIN pg_stat_activity AS activity USING (pid)
    WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND objid <> %s
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    LIMIT 1
"""


def take_for_server(connection: psycopg.Connection[Any], server: str) -> None:
    """Have the database for *server*, until the connection ends.

    Raises:
        WrongDatabaseError: another server works on it.
    """
    own = crc32(server.encode()) & _LARGEST_INT4
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOOK,))
        other = connection.execute(_OTHERS, (_SERVER, own)).fetchone()
        if other is not None:
            name, address = other
            raise WrongDatabaseError(
                f"another server works on it ({name.removeprefix('isocenter ')}"
                + (f", from {address}" if address else "")
                + "); stop that one first: several servers have one database only where all of "
                "them have their objects in one place, too (objects.url)"
            )
        connection.execute("SELECT pg_advisory_lock_shared(%s::int4, %s::int4)", (_SERVER, own))
