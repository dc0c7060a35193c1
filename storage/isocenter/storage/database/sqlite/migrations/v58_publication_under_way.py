"""Schema 58: since when a document is on its way to a repository."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    58,
    "since when a document is on its way to a repository",
    (
        # NULL: none is, as far as is known; whoever sent it has had an answer.
        "ALTER TABLE publication ADD COLUMN under_way_since REAL",
    ),
)
