"""Schema 2: performed procedure steps, storage commitments and event reports."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    2,
    "performed procedure steps, storage commitments, N-EVENT-REPORTs to be delivered",
    (
        # Times are seconds since 1970.  A row that a worker process has claimed is its
        # own until claimed_until, unless the process ends before.
        """
            CREATE TABLE event_report (
                report_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                destination TEXT NOT NULL,
                calling_ae_title TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                event_type INTEGER NOT NULL,
                transaction_uid TEXT NOT NULL,
                data_set BLOB NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('due', 'delivered', 'given up')),
                created_at REAL NOT NULL,
                ended_at REAL,
                attempts INTEGER NOT NULL DEFAULT 0,
                last_fault TEXT NOT NULL DEFAULT '',
                due_at REAL NOT NULL,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0
            )
            """,
        "CREATE INDEX event_report_due ON event_report (due_at) WHERE state = 'due'",
        """
            CREATE INDEX event_report_of_transaction ON event_report (transaction_uid)
                WHERE transaction_uid <> ''
            """,
        """
            CREATE TABLE commitment (
                commitment_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                transaction_uid TEXT NOT NULL UNIQUE,
                requester TEXT NOT NULL,
                called_ae_title TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('pending', 'success', 'partial', 'failed')),
                requested_at REAL NOT NULL,
                completed_at REAL,
                num_references INTEGER NOT NULL,
                num_failed INTEGER NOT NULL DEFAULT 0,
                due_at REAL NOT NULL,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0
            )
            """,
        "CREATE INDEX commitment_pending ON commitment (due_at) WHERE state = 'pending'",
        """
            CREATE TABLE commitment_reference (
                commitment_pk INTEGER NOT NULL REFERENCES commitment,
                position INTEGER NOT NULL,
                sop_class_uid TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                -- Failure Reason (0008,1197); 0: committed; NULL: not known yet
                failure_reason INTEGER,
                PRIMARY KEY (commitment_pk, position)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX commitment_of_instance ON commitment_reference (sop_instance_uid)",
        """
            CREATE TABLE performed_step (
                step_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                sop_instance_uid TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL
                    CHECK (state IN ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')),
                source_ae_title TEXT NOT NULL,
                station_ae_title TEXT NOT NULL,
                modality TEXT NOT NULL,
                performed_step_id TEXT NOT NULL,
                start_date TEXT NOT NULL,
                start_time TEXT NOT NULL,
                created_at REAL NOT NULL,
                changed_at REAL NOT NULL,
                -- explicit VR little endian, in the character set that it names itself
                data_set BLOB NOT NULL
            )
            """,
        "CREATE INDEX performed_step_by_state ON performed_step (state, start_date)",
        "CREATE INDEX performed_step_by_date ON performed_step (start_date, start_time)",
        """
            CREATE TABLE performed_step_scheduled (
                step_pk INTEGER NOT NULL REFERENCES performed_step,
                position INTEGER NOT NULL,
                study_instance_uid TEXT NOT NULL,
                accession_number TEXT NOT NULL,
                requested_procedure_id TEXT NOT NULL,
                scheduled_step_id TEXT NOT NULL,
                PRIMARY KEY (step_pk, position)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX performed_step_of_study ON performed_step_scheduled (study_instance_uid)",
        """
            CREATE INDEX performed_step_of_scheduled ON performed_step_scheduled
                (scheduled_step_id) WHERE scheduled_step_id <> ''
            """,
        """
            CREATE TABLE performed_step_series (
                step_pk INTEGER NOT NULL REFERENCES performed_step,
                series_instance_uid TEXT NOT NULL,
                PRIMARY KEY (step_pk, series_instance_uid)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX performed_step_by_series ON performed_step_series (series_instance_uid)",
        """
            CREATE TABLE performed_step_instance (
                step_pk INTEGER NOT NULL REFERENCES performed_step,
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                PRIMARY KEY (step_pk, sop_instance_uid)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX performed_step_by_instance ON performed_step_instance (sop_instance_uid)",
    ),
)
