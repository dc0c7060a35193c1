"""Schema 27: limits of destinations, and jobs found by node."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    27,
    "limits of destinations, and jobs found by node",
    (
        """
            CREATE TABLE destination_limit (
                destination TEXT PRIMARY KEY,
                -- 0: as the settings say
                associations INTEGER NOT NULL,
                -- bytes a second; 0: no limit
                bandwidth BIGINT NOT NULL,
                -- empty: always
                hours TEXT NOT NULL,
                is_held INTEGER NOT NULL,
                released_at REAL NOT NULL
            )
            """,
        # What waits for one node is not looked at for another.
        """
            CREATE INDEX job_next ON job (node, priority, due_at, job_pk) WHERE state = 'due'
            """,
        "DROP INDEX job_due",
    ),
)
