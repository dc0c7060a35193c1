"""Schema 34: studies that were kept alike, and conflicts."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    34,
    "studies that were kept alike with remote nodes, and conflicts",
    (
        """
            CREATE TABLE sync_study (
                task TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                here INTEGER NOT NULL,
                there INTEGER NOT NULL,
                was_alike INTEGER NOT NULL,
                is_left INTEGER NOT NULL,
                PRIMARY KEY (task, study_instance_uid)
            )
            """,
        """
            CREATE TABLE sync_conflict (
                sync_conflict_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                task TEXT NOT NULL,
                node TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                kind TEXT NOT NULL,
                here INTEGER NOT NULL,
                there INTEGER NOT NULL,
                found_at REAL NOT NULL,
                -- '': nobody has said yet
                resolution TEXT NOT NULL DEFAULT '',
                resolved_by TEXT NOT NULL DEFAULT '',
                resolved_at REAL
            )
            """,
        """
            CREATE UNIQUE INDEX sync_conflict_open ON sync_conflict (task, study_instance_uid)
            WHERE resolution = ''
            """,
    ),
)
