"""Schema 50: under which project of de-identification objects are forwarded."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    50,
    "under which project of de-identification objects are forwarded",
    ("ALTER TABLE forward ADD COLUMN project TEXT NOT NULL DEFAULT ''",),
)
