"""Schema 25: locks of studies, and the processes that read."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    25,
    "locks of studies, and processes that read",
    (
        """
            CREATE TABLE study_lock (
                study_instance_uid TEXT PRIMARY KEY,
                lock_id TEXT NOT NULL UNIQUE,
                kind TEXT NOT NULL,
                holder TEXT NOT NULL,
                reason TEXT NOT NULL,
                process TEXT NOT NULL,
                -- by the clock of the database
                since REAL NOT NULL,
                until REAL NOT NULL
            )
            """,
        """
            CREATE TABLE study_lock_waiting (
                study_instance_uid TEXT PRIMARY KEY,
                process TEXT NOT NULL,
                until REAL NOT NULL
            )
            """,
        # processes that have to be asked before a study is changed
        """
            CREATE TABLE reading_process (
                process TEXT PRIMARY KEY,
                until REAL NOT NULL
            )
            """,
        """
            CREATE TABLE study_lock_answer (
                lock_id TEXT NOT NULL,
                process TEXT NOT NULL,
                -- who reads the study there; '': nobody
                readers TEXT NOT NULL,
                PRIMARY KEY (lock_id, process)
            )
            """,
    ),
)
