"""Schema 41: where tokens of remote nodes may be sent."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    41,
    "where tokens of remote nodes may be sent",
    (
        """
            CREATE TABLE token_place (
                token_file TEXT PRIMARY KEY,
                -- scheme, host and port; they stay when the node goes
                origin TEXT NOT NULL
            )
            """,
    ),
)
