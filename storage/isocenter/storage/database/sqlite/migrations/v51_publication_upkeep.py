"""Schema 51: publications that are behind, and when they are tried again."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    51,
    "publications that are not as they ought to be, and when they are tried again",
    (
        # Since when what stands is not what ought to, as far as is known; NULL: it is.
        "ALTER TABLE publication ADD COLUMN behind_since REAL",
        "ALTER TABLE publication ADD COLUMN next_attempt_at REAL",
        "ALTER TABLE publication ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE publication ADD COLUMN fault TEXT NOT NULL DEFAULT ''",
        # When the study was last held against what stands.
        "ALTER TABLE publication ADD COLUMN compared_at REAL NOT NULL DEFAULT 0",
        """
            CREATE INDEX publication_due ON publication (next_attempt_at)
            WHERE next_attempt_at IS NOT NULL
            """,
        "CREATE INDEX publication_compared ON publication (compared_at)",
    ),
)
