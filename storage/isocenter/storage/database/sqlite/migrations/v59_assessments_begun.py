"""Schema 59: assessments of AI results whose reports are about to be stored."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    59,
    "assessments of AI results whose reports are about to be stored",
    (
        # As in assessment: they go there when their reports are there.
        """
            CREATE TABLE assessment_begun (
                sop_instance_uid TEXT PRIMARY KEY,
                study_instance_uid TEXT NOT NULL,
                result TEXT NOT NULL,
                result_class TEXT NOT NULL,
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
    ),
)
