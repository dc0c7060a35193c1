"""Schema 6: deleted objects, and studies that are held."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    6,
    "deleted objects, studies that are held",
    (
        # Times as in migration 2.  A deletion stays when nothing of it is in the trash any
        # more: the numbers count all that was ever deleted with it.
        """
            CREATE TABLE deletion (
                deletion_id TEXT PRIMARY KEY,
                cause TEXT NOT NULL,
                at REAL NOT NULL,
                purge_at REAL NOT NULL,
                actor TEXT NOT NULL,
                reason TEXT NOT NULL,
                num_instances INTEGER NOT NULL,
                size INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
        """
            CREATE TABLE trash (
                trash_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                deletion_id TEXT NOT NULL REFERENCES deletion,
                state TEXT NOT NULL CHECK (
                    state IN ('leaving', 'kept', 'returning', 'returned', 'purging')
                ),
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                transfer_syntax_uid TEXT NOT NULL,
                object_key TEXT NOT NULL,
                size INTEGER NOT NULL,
                data_set_offset INTEGER NOT NULL,
                digest TEXT NOT NULL,
                patient_id TEXT NOT NULL,
                patient_name TEXT NOT NULL,
                -- objects of the study that were left
                remaining INTEGER NOT NULL,
                -- where one that is returning goes
                target_key TEXT NOT NULL DEFAULT '',
                -- who has it deleted, restored or purged
                actor TEXT NOT NULL,
                UNIQUE (deletion_id, object_key)
            )
            """,
        "CREATE INDEX trash_of_study ON trash (study_instance_uid)",
        "CREATE INDEX trash_of_instance ON trash (sop_instance_uid)",
        "CREATE INDEX trash_unfinished ON trash (trash_pk) WHERE state <> 'kept'",
        """
            CREATE TABLE study_hold (
                study_instance_uid TEXT PRIMARY KEY,
                reason TEXT NOT NULL,
                actor TEXT NOT NULL,
                at REAL NOT NULL
            ) WITHOUT ROWID
            """,
    ),
)
