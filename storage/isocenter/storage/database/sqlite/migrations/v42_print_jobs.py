"""Schema 42: print jobs and their films."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    42,
    "print jobs and their films",
    (
        """
            CREATE TABLE print_job (
                print_job_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                job_uid TEXT NOT NULL UNIQUE,
                originator TEXT NOT NULL,
                state TEXT NOT NULL,
                films INTEGER NOT NULL,
                copies INTEGER NOT NULL,
                -- 0 is the most urgent
                urgency INTEGER NOT NULL,
                medium TEXT NOT NULL,
                destination TEXT NOT NULL,
                label TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                -- what has the whole job already, joined by commas
                outputs TEXT NOT NULL DEFAULT '',
                attempts INTEGER NOT NULL DEFAULT 0,
                -- how often it was claimed: who claimed it earlier has no say any more
                claims INTEGER NOT NULL DEFAULT 0,
                fault TEXT NOT NULL DEFAULT '',
                created_at REAL NOT NULL,
                since REAL NOT NULL,
                due_at REAL NOT NULL,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0
            )
            """,
        "CREATE INDEX print_job_due ON print_job (urgency, print_job_pk) WHERE state = 'due'",
        "CREATE INDEX print_job_ended ON print_job (since) WHERE state <> 'due'",
        """
            CREATE TABLE print_film (
                print_job_pk INTEGER NOT NULL REFERENCES print_job (print_job_pk),
                number INTEGER NOT NULL,
                width INTEGER NOT NULL,
                height INTEGER NOT NULL,
                dots_per_inch INTEGER NOT NULL,
                png BLOB NOT NULL,
                PRIMARY KEY (print_job_pk, number)
            )
            """,
    ),
)
