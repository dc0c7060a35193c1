"""Schema 17: remote nodes, and jobs with their objects."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    17,
    "remote nodes, and jobs with their objects",
    (
        """
            CREATE TABLE remote_node (
                name TEXT PRIMARY KEY,
                -- AET@host:port, or the URL of a DICOMweb service
                address TEXT NOT NULL,
                tls INTEGER NOT NULL,
                verify_host INTEGER NOT NULL,
                token_file TEXT NOT NULL,
                ca_file TEXT NOT NULL,
                is_enabled INTEGER NOT NULL,
                version INTEGER NOT NULL,
                state TEXT NOT NULL,
                checked_at REAL,
                fault TEXT NOT NULL,
                response_seconds REAL,
                failures INTEGER NOT NULL
            )
            """,
        """
            CREATE TABLE job (
                job_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                job_id TEXT NOT NULL UNIQUE,
                kind TEXT NOT NULL,
                node TEXT NOT NULL,
                -- JSON: what of the node, or of the archive
                parameters TEXT NOT NULL,
                -- while it is not over: what no second job may want; NULL afterwards
                open_key TEXT UNIQUE,
                priority INTEGER NOT NULL,
                requested_by TEXT NOT NULL,
                state TEXT NOT NULL,
                -- what a running job is to do: '', pause, cancel
                wish TEXT NOT NULL DEFAULT '',
                is_planned INTEGER NOT NULL DEFAULT 0,
                total INTEGER NOT NULL DEFAULT 0,
                done INTEGER NOT NULL DEFAULT 0,
                skipped INTEGER NOT NULL DEFAULT 0,
                failed INTEGER NOT NULL DEFAULT 0,
                size INTEGER NOT NULL DEFAULT 0,
                attempts INTEGER NOT NULL DEFAULT 0,
                -- how often it was claimed: who claimed it earlier has no say any more
                claims INTEGER NOT NULL DEFAULT 0,
                created_at REAL NOT NULL,
                since REAL NOT NULL,
                due_at REAL NOT NULL,
                started_at REAL,
                ended_at REAL,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0,
                last_fault TEXT NOT NULL DEFAULT ''
            )
            """,
        """
            CREATE INDEX job_due ON job (priority DESC, due_at, job_pk) WHERE state = 'due'
            """,
        "CREATE INDEX job_ended ON job (ended_at) WHERE ended_at IS NOT NULL",
        """
            CREATE TABLE job_item (
                job_pk INTEGER NOT NULL REFERENCES job (job_pk),
                study_instance_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                state TEXT NOT NULL,
                fault TEXT NOT NULL DEFAULT '',
                PRIMARY KEY (job_pk, sop_instance_uid)
            )
            """,
        """
            CREATE INDEX job_item_place ON job_item
                (job_pk, state, study_instance_uid, series_instance_uid, sop_instance_uid)
            """,
    ),
)
