"""Schema 38: requests to AI services, results, and what rules have for services."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    38,
    "requests to AI services, and their results",
    (
        """
            CREATE TABLE analysis_request (
                job_id TEXT PRIMARY KEY,
                service TEXT NOT NULL,
                model TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                state TEXT NOT NULL,
                -- '': the service has not taken it yet
                remote_id TEXT NOT NULL,
                -- SHA-256 of the token; '': nobody can call back
                callback_hash TEXT NOT NULL,
                progress INTEGER NOT NULL,
                created_at REAL NOT NULL,
                submitted_at REAL,
                ended_at REAL,
                fault TEXT NOT NULL
            )
            """,
        "CREATE INDEX analysis_request_of_study ON analysis_request (study_instance_uid)",
        "CREATE INDEX analysis_request_at ON analysis_request (created_at)",
        """
            CREATE UNIQUE INDEX analysis_request_callback ON analysis_request (callback_hash)
            WHERE callback_hash <> ''
            """,
        """
            CREATE INDEX analysis_request_open ON analysis_request (created_at)
            WHERE ended_at IS NULL
            """,
        """
            CREATE TABLE analysis_result (
                job_id TEXT NOT NULL,
                service TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                algorithm TEXT NOT NULL,
                algorithm_version TEXT NOT NULL,
                state TEXT NOT NULL,
                why TEXT NOT NULL,
                at REAL NOT NULL,
                PRIMARY KEY (job_id, sop_instance_uid)
            )
            """,
        "CREATE INDEX analysis_result_of_study ON analysis_result (study_instance_uid)",
        "CREATE INDEX analysis_result_object ON analysis_result (sop_instance_uid)",
        """
            CREATE TABLE analysis_trigger (
                service TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                due_at REAL NOT NULL,
                PRIMARY KEY (service, study_instance_uid, series_instance_uid)
            )
            """,
        "CREATE INDEX analysis_trigger_due ON analysis_trigger (due_at)",
    ),
)
