"""Schema 31: nodes of an archive, their duties, and what they share."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    31,
    "nodes of an archive, their duties, and what they share",
    (
        """
            CREATE TABLE cluster_node (
                name TEXT PRIMARY KEY,
                -- tells its data directory from all others
                place TEXT NOT NULL,
                address TEXT NOT NULL,
                version TEXT NOT NULL,
                state TEXT NOT NULL,
                started_at REAL NOT NULL,
                seen_at REAL NOT NULL,
                -- what its clock says, less what the database's says
                clock_offset REAL NOT NULL DEFAULT 0,
                answer_seconds REAL NOT NULL DEFAULT 0
            )
            """,
        """
            CREATE TABLE duty (
                duty_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                name TEXT NOT NULL UNIQUE,
                -- as of all leases; a duty is always due
                state TEXT NOT NULL DEFAULT 'due',
                due_at REAL NOT NULL DEFAULT 0,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0,
                -- how often it was claimed: who claimed it earlier has no say any more
                claims INTEGER NOT NULL DEFAULT 0
            )
            """,
        """
            CREATE TABLE shared_document (
                name TEXT PRIMARY KEY,
                version INTEGER NOT NULL,
                content TEXT NOT NULL
            )
            """,
        # The node that writes the object; of earlier notes nobody knows.
        "ALTER TABLE staged_object ADD COLUMN node TEXT NOT NULL DEFAULT ''",
    ),
)
