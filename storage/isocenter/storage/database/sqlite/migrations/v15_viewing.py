"""Schema 15: what people note on images, and what they look at."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    15,
    "what people note on images, and what they look at",
    (
        """
            CREATE TABLE view_mark (
                mark_id TEXT PRIMARY KEY,
                kind TEXT NOT NULL,
                form TEXT NOT NULL,
                -- no reference: it may be in the trash, and come back
                sop_instance_uid TEXT NOT NULL,
                frame_number INTEGER NOT NULL,
                author TEXT NOT NULL,
                content TEXT NOT NULL,
                version INTEGER NOT NULL,
                created_at REAL NOT NULL,
                changed_at REAL NOT NULL
            )
            """,
        "CREATE INDEX view_mark_of_image ON view_mark (sop_instance_uid)",
        "CREATE INDEX view_mark_in_order ON view_mark (kind, created_at, mark_id)",
        """
            CREATE TABLE viewer_state (
                state_id TEXT PRIMARY KEY,
                study_instance_uid TEXT NOT NULL,
                author TEXT NOT NULL,
                content TEXT NOT NULL,
                created_at REAL NOT NULL
            )
            """,
        "CREATE INDEX viewer_state_of_author ON viewer_state (author, created_at)",
        "CREATE INDEX viewer_state_of_study ON viewer_state (study_instance_uid)",
        """
            CREATE TABLE recent_study (
                user_name TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                accessed_at REAL NOT NULL,
                PRIMARY KEY (user_name, study_instance_uid)
            )
            """,
        "CREATE INDEX recent_study_in_order ON recent_study (user_name, accessed_at)",
        "CREATE INDEX recent_study_by_study ON recent_study (study_instance_uid)",
    ),
)
