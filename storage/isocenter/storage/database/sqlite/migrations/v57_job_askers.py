"""Schema 57: who may ask for jobs, and where alone they can be done."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    57,
    "who may ask for jobs, and where alone they can be done",
    (
        "ALTER TABLE job ADD COLUMN asker TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE job ADD COLUMN host TEXT NOT NULL DEFAULT ''",
    ),
)
