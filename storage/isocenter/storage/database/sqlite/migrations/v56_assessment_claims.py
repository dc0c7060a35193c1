"""Schema 56: who is about to assess an AI result."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    56,
    "who is about to assess an AI result",
    (
        """
            CREATE TABLE assessment_claim (
                -- SOP Instance UID of what is assessed: one at a time
                result TEXT PRIMARY KEY,
                -- of the assessment
                sop_instance_uid TEXT NOT NULL,
                until REAL NOT NULL
            )
            """,
    ),
)
