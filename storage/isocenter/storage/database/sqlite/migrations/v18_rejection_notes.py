"""Schema 18: rejection notes, and what they reject."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    18,
    "rejection notes",
    (
        # Key Object Selections that were stored, until it is known that they reject nothing.
        """
            CREATE TABLE rejection_note (
                sop_instance_uid TEXT PRIMARY KEY,
                study_instance_uid TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('due', 'applied', 'revoking', 'failed')),
                -- empty: nobody has looked yet
                reason TEXT NOT NULL,
                actor TEXT NOT NULL,
                text TEXT NOT NULL,
                at REAL NOT NULL,
                fault TEXT NOT NULL DEFAULT '',
                -- of a note that is made here, until it is stored
                data_set BLOB
            ) WITHOUT ROWID
            """,
        """
            CREATE INDEX rejection_note_unfinished ON rejection_note (at)
            WHERE state IN ('due', 'revoking')
            """,
        """
            CREATE TABLE rejected_instance (
                sop_instance_uid TEXT NOT NULL,
                note_uid TEXT NOT NULL REFERENCES rejection_note,
                reason TEXT NOT NULL,
                PRIMARY KEY (sop_instance_uid, note_uid)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX rejected_by_note ON rejected_instance (note_uid)",
    ),
)
