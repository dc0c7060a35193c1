"""Schema 37: changes of the totals by those who write at once."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    37,
    "changes of the totals",
    (
        # One row for all would have those who write at once wait for each other.
        """
            CREATE TABLE totals_change (
                change_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                patients INTEGER NOT NULL,
                studies INTEGER NOT NULL,
                series INTEGER NOT NULL,
                instances INTEGER NOT NULL,
                size INTEGER NOT NULL,
                last_said INTEGER NOT NULL
            )
            """,
    ),
    # Who does not know them counts without them, and goes past events that are committed late.
    expands=False,
)
