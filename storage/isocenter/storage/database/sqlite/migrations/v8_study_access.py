"""Schema 8: days on which studies were last retrieved."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    8,
    "when studies were last retrieved",
    (
        # Days since 1970.  The row of '' says since when it has been recorded.
        """
            CREATE TABLE study_access (
                study_instance_uid TEXT PRIMARY KEY,
                last_day INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
    ),
)
