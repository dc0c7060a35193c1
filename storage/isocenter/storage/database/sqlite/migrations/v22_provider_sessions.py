"""Schema 22: sessions of people whom an identity provider knows."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    22,
    "sessions by identity providers",
    (
        "ALTER TABLE web_session ADD COLUMN roles TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE web_session ADD COLUMN provider TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE web_session ADD COLUMN id_token TEXT NOT NULL DEFAULT ''",
    ),
)
