"""Schema 53: what is changed of objects before they are forwarded."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    53,
    "what is changed of objects before they are forwarded",
    ("ALTER TABLE forward ADD COLUMN changes TEXT NOT NULL DEFAULT ''",),
)
