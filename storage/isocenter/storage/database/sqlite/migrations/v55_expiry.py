"""Schema 55: objects that rules delete after some days."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    55,
    "objects that rules delete after some days",
    (
        # The destinations that it had when it came: it is not gone before all of them have it.
        """
            CREATE TABLE instance_expiry (
                sop_instance_uid TEXT NOT NULL PRIMARY KEY,
                rule TEXT NOT NULL,
                destinations INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
        "CREATE INDEX instance_expiry_by_rule ON instance_expiry (rule, sop_instance_uid)",
        "ALTER TABLE rule_count ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0",
    ),
)
