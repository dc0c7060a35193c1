"""Schema 24: arrived objects that are yet to be corrected."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    24,
    "objects that came and are yet to be corrected",
    (
        "ALTER TABLE corrected_instance ADD COLUMN has_arrived INTEGER NOT NULL DEFAULT 0",
        """
            CREATE INDEX corrected_instance_arrived ON corrected_instance (sop_instance_uid)
            WHERE has_arrived = 1
            """,
    ),
)
