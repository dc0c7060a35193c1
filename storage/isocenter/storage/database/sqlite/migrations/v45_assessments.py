"""Schema 45: assessments of AI results."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    45,
    "assessments of AI results",
    (
        """
            CREATE TABLE assessment (
                sop_instance_uid TEXT PRIMARY KEY,
                study_instance_uid TEXT NOT NULL,
                -- SOP Instance UID and SOP Class UID of what was assessed
                result TEXT NOT NULL,
                result_class TEXT NOT NULL,
                -- '': it came from no service
                service TEXT NOT NULL,
                assessor TEXT NOT NULL,
                institution TEXT NOT NULL,
                verdict TEXT NOT NULL,
                status TEXT NOT NULL,
                reason TEXT NOT NULL,
                comment TEXT NOT NULL,
                modified TEXT NOT NULL,
                predecessor TEXT NOT NULL,
                at REAL NOT NULL
            )
            """,
        "CREATE INDEX assessment_of_study ON assessment (study_instance_uid)",
        "CREATE INDEX assessment_of_result ON assessment (result)",
        "CREATE INDEX assessment_by ON assessment (assessor)",
        "CREATE INDEX assessment_predecessor ON assessment (predecessor)",
    ),
)
