"""Schema 20: where an object store may have what the index does not have."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    20,
    "objects on their way into an object store, and out of it",
    (
        """
            CREATE TABLE staged_object (
                object_key TEXT PRIMARY KEY,
                -- staged: it is written; leaving: the index has forgotten it; sweeping: whoever
                -- would take it up now comes too late
                state TEXT NOT NULL CHECK (state IN ('staged', 'leaving', 'sweeping')),
                noted_at REAL NOT NULL
            )
            """,
    ),
)
