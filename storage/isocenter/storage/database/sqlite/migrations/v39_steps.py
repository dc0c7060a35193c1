"""Schema 39: steps that earlier programs go on with."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    39,
    "which steps earlier programs go on with, and which steps a node knows",
    (
        "ALTER TABLE schema_version ADD COLUMN is_expansion INTEGER NOT NULL DEFAULT 0",
        # The last that its program knows; 0: it is of before.
        "ALTER TABLE cluster_node ADD COLUMN knows INTEGER NOT NULL DEFAULT 0",
    ),
)
