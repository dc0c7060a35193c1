"""Schema 10: API tokens of programs."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    10,
    "API tokens of programs",
    (
        """
            CREATE TABLE api_token (
                token_id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                -- SHA-256, hexadecimal; the secret itself is nowhere
                secret_digest TEXT NOT NULL,
                -- of the policy; empty: the roles say what it may do
                user_name TEXT NOT NULL,
                -- one a line
                roles TEXT NOT NULL,
                -- separated by spaces
                scopes TEXT NOT NULL,
                created_at REAL NOT NULL,
                created_by TEXT NOT NULL,
                expires_at REAL,
                last_used_at REAL,
                revoked_at REAL
            )
            """,
        "CREATE UNIQUE INDEX api_token_name ON api_token (name) WHERE revoked_at IS NULL",
    ),
)
