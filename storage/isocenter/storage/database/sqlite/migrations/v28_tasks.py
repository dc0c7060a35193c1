"""Schema 28: tasks with schedules, and their runs."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    28,
    "tasks with schedules, and their runs",
    (
        """
            CREATE TABLE task (
                name TEXT PRIMARY KEY,
                kind TEXT NOT NULL,
                description TEXT NOT NULL,
                -- JSON
                parameters TEXT NOT NULL,
                schedule TEXT NOT NULL,
                zone TEXT NOT NULL,
                is_enabled INTEGER NOT NULL,
                timeout REAL NOT NULL,
                retries INTEGER NOT NULL,
                retry_seconds REAL NOT NULL,
                version INTEGER NOT NULL,
                -- by its schedule
                next_at REAL,
                retry_at REAL,
                attempt INTEGER NOT NULL DEFAULT 0,
                -- by hand: '', hand, dry run
                asked TEXT NOT NULL DEFAULT '',
                -- what somebody wants of the run that is under way: '', cancel
                wish TEXT NOT NULL DEFAULT '',
                run INTEGER,
                claimed_by TEXT NOT NULL DEFAULT '',
                -- by the clock of the database
                claimed_until REAL NOT NULL DEFAULT 0
            )
            """,
        """
            CREATE TABLE task_run (
                task_run_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                task TEXT NOT NULL,
                cause TEXT NOT NULL,
                attempt INTEGER NOT NULL,
                started_at REAL NOT NULL,
                ended_at REAL,
                outcome TEXT NOT NULL,
                report TEXT NOT NULL
            )
            """,
        "CREATE INDEX task_run_of ON task_run (task, task_run_pk)",
        "CREATE INDEX task_run_ended ON task_run (ended_at)",
    ),
)
