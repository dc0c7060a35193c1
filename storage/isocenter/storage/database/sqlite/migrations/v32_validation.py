"""Schema 32: marks of validation."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    32,
    "marks of validation",
    (
        """
            CREATE TABLE validation (
                sop_instance_uid TEXT PRIMARY KEY,
                -- calling AE title
                sender TEXT NOT NULL,
                device TEXT NOT NULL,
                errors INTEGER NOT NULL,
                warnings INTEGER NOT NULL,
                at REAL NOT NULL
            )
            """,
        """
            CREATE TABLE broken_rule (
                sop_instance_uid TEXT NOT NULL,
                code TEXT NOT NULL,
                severity TEXT NOT NULL,
                -- of the first place, and how many there are
                path TEXT NOT NULL,
                places INTEGER NOT NULL,
                PRIMARY KEY (sop_instance_uid, code, path)
            )
            """,
        "CREATE INDEX broken_rule_code ON broken_rule (code)",
    ),
)
