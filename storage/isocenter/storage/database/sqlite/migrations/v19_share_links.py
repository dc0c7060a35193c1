"""Schema 19: links to studies."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    19,
    "links to studies",
    (
        """
            CREATE TABLE share_link (
                link_id TEXT PRIMARY KEY,
                -- SHA-256, hexadecimal; the secret itself is in the link only
                secret_digest TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                label TEXT NOT NULL,
                may_download INTEGER NOT NULL,
                passcode_hash TEXT NOT NULL,
                user_name TEXT NOT NULL,
                created_by TEXT NOT NULL,
                is_for_viewer INTEGER NOT NULL,
                created_at REAL NOT NULL,
                expires_at REAL NOT NULL,
                last_used_at REAL,
                uses INTEGER NOT NULL,
                revoked_at REAL
            )
            """,
        "CREATE INDEX share_link_created ON share_link (is_for_viewer, created_at)",
    ),
)
