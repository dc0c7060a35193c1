"""Schema 16: corrections of objects, and what those were when they came."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    16,
    "corrections, and what objects were when they came",
    (
        """
            CREATE TABLE correction (
                correction_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                kind TEXT NOT NULL,
                at REAL NOT NULL,
                actor TEXT NOT NULL,
                reason TEXT NOT NULL,
                -- scopes and edits, JSON
                content TEXT NOT NULL,
                undone_at REAL,
                undone_by TEXT NOT NULL DEFAULT '',
                undo_reason TEXT NOT NULL DEFAULT ''
            )
            """,
        # Of what holds: a patient, a study or a series.
        """
            CREATE TABLE correction_scope (
                scope_key TEXT NOT NULL,
                correction_pk INTEGER NOT NULL REFERENCES correction,
                PRIMARY KEY (scope_key, correction_pk)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX correction_scope_of ON correction_scope (correction_pk)",
        """
            CREATE TABLE corrected_instance (
                sop_instance_uid TEXT PRIMARY KEY,
                -- under which the index has it: what is exchanged together
                study_instance_uid TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('due', 'made', 'done', 'failed')),
                -- one more whenever other corrections hold
                version INTEGER NOT NULL DEFAULT 0,
                since REAL NOT NULL,
                -- the index names another object than the original
                is_corrected INTEGER NOT NULL DEFAULT 0,
                original_key TEXT NOT NULL,
                -- of the data set as it came
                received_digest TEXT NOT NULL,
                -- what the index kept of it, JSON
                original TEXT NOT NULL,
                -- what was made and is yet to be named; '': nothing
                made_key TEXT NOT NULL DEFAULT '',
                made TEXT NOT NULL DEFAULT '',
                fault TEXT NOT NULL DEFAULT ''
            ) WITHOUT ROWID
            """,
        """
            CREATE INDEX corrected_instance_due ON corrected_instance (study_instance_uid, state)
            WHERE state IN ('due', 'made')
            """,
        "CREATE INDEX corrected_instance_original ON corrected_instance (original_key)",
        """
            CREATE INDEX corrected_instance_made ON corrected_instance (made_key)
            WHERE made_key <> ''
            """,
        """
            CREATE TABLE applied_correction (
                sop_instance_uid TEXT NOT NULL,
                correction_pk INTEGER NOT NULL REFERENCES correction,
                PRIMARY KEY (sop_instance_uid, correction_pk)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX applied_correction_by ON applied_correction (correction_pk)",
        # Files that nothing names any more.
        "CREATE TABLE leaving_object (object_key TEXT PRIMARY KEY) WITHOUT ROWID",
    ),
)
