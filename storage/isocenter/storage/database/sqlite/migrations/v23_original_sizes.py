"""Schema 23: the room that originals of corrected objects take."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    23,
    "sizes of originals of corrected objects",
    (
        # Of the file that the object came as, in bytes.
        "ALTER TABLE corrected_instance ADD COLUMN original_size INTEGER NOT NULL DEFAULT 0",
    ),
)
