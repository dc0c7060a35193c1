"""Schema 52: objects that are to be signed."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    52,
    "objects that are to be signed",
    ("ALTER TABLE compression ADD COLUMN signs INTEGER NOT NULL DEFAULT 0",),
)
