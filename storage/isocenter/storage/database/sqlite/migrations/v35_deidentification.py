"""Schema 35: UIDs of de-identified objects."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    35,
    "UIDs of de-identified objects",
    (
        """
            CREATE TABLE deidentified_uid (
                project TEXT NOT NULL,
                original TEXT NOT NULL,
                pseudonym TEXT NOT NULL,
                PRIMARY KEY (project, original)
            )
            """,
        "CREATE UNIQUE INDEX deidentified_uid_back ON deidentified_uid (project, pseudonym)",
    ),
)
