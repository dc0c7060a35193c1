"""Errors of PostgreSQL as what the services know, each with its cure."""

from __future__ import annotations

from typing import Final

import psycopg

from isocenter.services.errors import StorageError

#: Classes and codes of Appendix A of PostgreSQL's manual, the longest that fits counts.
_CURES: Final = {
    "28": "check its user and password (PGPASSFILE, PGPASSWORD) and pg_hba.conf",
    "3D000": "make it with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
    "42501": "its user needs the right CREATE on the database, and has to own the tables",
    "25006": "it is a standby, or set to read only; name the primary",
    "53100": "free some space there",
    "53200": "it has too little memory",
    "53300": "raise max_connections, or have fewer nodes",
    "53": "give it more resources",
    "55P03": "others had it locked for too long",
    "57014": "it took longer than is allowed",
    "40": "others wrote the same at that moment; try again",
    "XX001": "it is damaged; restore a backup (pg_restore, or its write-ahead log)",
    "XX002": "an index of it is damaged; run REINDEX DATABASE",
}
_WIDTHS: Final = (5, 2)


class WrongDatabaseError(Exception):
    """This program cannot use the database; the message says why and what to do."""


def storage_error(error: Exception, name: str) -> StorageError:
    """*error* as what the services know; *name* is the database's, for the message."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, WrongDatabaseError):
        return StorageError(f"cannot use the database {name}: {error}")
    text = first_line(error)
    code = getattr(error, "sqlstate", None) or ""
    cure = next((_CURES[code[:n]] for n in _WIDTHS if code[:n] in _CURES), "")
    if is_connection_lost(error):
        return StorageError(
            f"the database {name} does not answer ({text}); "
            + (cure or "check that PostgreSQL runs there and lets this host in")
        )
    return StorageError(
        f"the database {name} failed ({code} {text})" + (f"; {cure}" if cure else ""),
        out_of_resources=code.startswith("53"),
    )


def is_connection_lost(error: Exception) -> bool:
    """Whether the connection is gone, or there never was one."""
    code = getattr(error, "sqlstate", None)
    return isinstance(error, psycopg.OperationalError) and (
        code is None or code.startswith(("08", "57P"))
    )


def first_line(error: Exception) -> str:
    """What PostgreSQL says, without the DETAIL: that may quote values."""
    diagnosis = getattr(error, "diag", None)
    text = (diagnosis and diagnosis.message_primary) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0]
