"""Schema 14: sessions of browsers."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    14,
    "sessions of browsers",
    (
        """
            CREATE TABLE web_session (
                session_id TEXT PRIMARY KEY,
                -- SHA-256, hexadecimal; the secret itself is in the browser's cookie only
                secret_digest TEXT NOT NULL UNIQUE,
                user_name TEXT NOT NULL,
                address TEXT NOT NULL,
                -- of the one-time code that was shown; NULL: none was
                code_step INTEGER,
                created_at REAL NOT NULL,
                last_used_at REAL NOT NULL,
                expires_at REAL NOT NULL,
                ended_at REAL
            )
            """,
        # A one-time code opens one session.
        """
            CREATE UNIQUE INDEX web_session_code ON web_session (user_name, code_step)
            WHERE code_step IS NOT NULL
            """,
        "CREATE INDEX web_session_expires ON web_session (expires_at)",
    ),
)
