"""Schema 43: what jobs have found."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    43,
    "what jobs have found",
    (
        """
            CREATE TABLE job_result (
                job_pk INTEGER NOT NULL REFERENCES job (job_pk),
                position INTEGER NOT NULL,
                -- JSON: texts by name
                result TEXT NOT NULL,
                PRIMARY KEY (job_pk, position)
            )
            """,
    ),
)
