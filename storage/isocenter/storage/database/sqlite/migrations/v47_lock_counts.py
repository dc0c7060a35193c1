"""Schema 47: what has become of locks of studies, counted."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    47,
    "what has become of locks of studies, counted",
    (
        """
            CREATE TABLE study_lock_count (
                kind TEXT PRIMARY KEY,
                released INTEGER NOT NULL,
                forced INTEGER NOT NULL,
                expired INTEGER NOT NULL,
                refused INTEGER NOT NULL,
                waited INTEGER NOT NULL,
                waited_seconds REAL NOT NULL,
                held_seconds REAL NOT NULL,
                longest_seconds REAL NOT NULL
            )
            """,
    ),
)
