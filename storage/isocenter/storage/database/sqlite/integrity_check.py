"""Integrity check of an SQLite database: pages, indexes and references between rows."""

from __future__ import annotations

import sqlite3


def check_integrity(connection: sqlite3.Connection) -> list[str]:
    """What is wrong, a line each; an empty list when all is well.

    Looks at one moment of the database, and at all of it: minutes for millions of instances.
    """
    connection.execute("BEGIN")
    try:
        lines = connection.execute("PRAGMA integrity_check").fetchall()
        findings = [f"integrity: {line}" for (line,) in lines if line != "ok"]
        (missing,) = connection.execute("SELECT count(*) FROM pragma_foreign_key_check").fetchone()
        if missing:
            findings.append(f"rows without their parent: {missing}")
    finally:
        connection.execute("ROLLBACK")
    return findings
