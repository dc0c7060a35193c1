"""Schema 9: objects to be compressed, and what they came as."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    9,
    "objects to be compressed, and what they came as",
    (
        """
            CREATE TABLE compression (
                compression_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                sop_instance_uid TEXT NOT NULL UNIQUE,
                study_instance_uid TEXT NOT NULL,
                rule TEXT NOT NULL,
                -- Transfer Syntax UID
                target TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('waiting', 'due', 'done', 'kept', 'failed')),
                -- one more with each object that takes the place of another
                version INTEGER NOT NULL DEFAULT 0,
                created_at REAL NOT NULL,
                -- when it first was due: from then on it may take so long
                since REAL NOT NULL,
                due_at REAL NOT NULL,
                ended_at REAL,
                attempts INTEGER NOT NULL DEFAULT 0,
                last_fault TEXT NOT NULL DEFAULT '',
                -- what it was when it came; empty: it is that still
                received_syntax TEXT NOT NULL DEFAULT '',
                received_digest TEXT NOT NULL DEFAULT '',
                received_size INTEGER NOT NULL DEFAULT 0,
                -- what it is since it was compressed
                digest TEXT NOT NULL DEFAULT '',
                size INTEGER NOT NULL DEFAULT 0,
                -- key of the object that has left the index, and is yet to leave the store
                leaving TEXT NOT NULL DEFAULT ''
            )
            """,
        "CREATE INDEX compression_due ON compression (due_at, compression_pk) WHERE state = 'due'",
        """
            CREATE INDEX compression_waiting ON compression (study_instance_uid)
                WHERE state = 'waiting'
            """,
        "CREATE INDEX compression_leaving ON compression (leaving) WHERE leaving <> ''",
        "CREATE INDEX compression_ended ON compression (ended_at) WHERE ended_at IS NOT NULL",
    ),
)
