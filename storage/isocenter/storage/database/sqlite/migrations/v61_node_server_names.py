"""Schema 61: whose the certificate of a remote node has to be."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    61,
    "whose the certificate of a remote node has to be",
    (
        # '': that of the host of its address.
        "ALTER TABLE remote_node ADD COLUMN server_name TEXT NOT NULL DEFAULT ''",
    ),
)
