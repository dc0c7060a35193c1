"""Schema 5: objects to be forwarded."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    5,
    "objects to be forwarded",
    (
        # Times and claims as in migration 2.
        """
            CREATE TABLE forward (
                forward_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                destination TEXT NOT NULL,
                rule TEXT NOT NULL,
                priority INTEGER NOT NULL,
                wants_commitment INTEGER NOT NULL,
                delete_after INTEGER NOT NULL,
                state TEXT NOT NULL CHECK (
                    state IN ('due', 'sent', 'committing', 'deleting', 'done', 'failed')
                ),
                -- one more with each object that takes the place of another
                version INTEGER NOT NULL DEFAULT 0,
                created_at REAL NOT NULL,
                -- when it first was due, or had arrived: from then on it may take so long
                since REAL NOT NULL,
                due_at REAL NOT NULL,
                ended_at REAL,
                attempts INTEGER NOT NULL DEFAULT 0,
                last_fault TEXT NOT NULL DEFAULT '',
                -- of the storage commitment that is asked for
                transaction_uid TEXT NOT NULL DEFAULT '',
                -- key of the object that has left the index, and is yet to leave the store
                leaving TEXT NOT NULL DEFAULT '',
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0,
                UNIQUE (sop_instance_uid, destination)
            )
            """,
        """
            CREATE INDEX forward_due ON forward (destination, priority, due_at)
                WHERE state = 'due'
            """,
        "CREATE INDEX forward_sent ON forward (destination, due_at) WHERE state = 'sent'",
        "CREATE INDEX forward_asked ON forward (due_at) WHERE state = 'committing'",
        """
            CREATE INDEX forward_deleting ON forward (sop_instance_uid) WHERE state = 'deleting'
            """,
        "CREATE INDEX forward_leaving ON forward (leaving) WHERE leaving <> ''",
        "CREATE INDEX forward_claimed ON forward (claimed_until) WHERE claimed_until > 0",
        "CREATE INDEX forward_open ON forward (state, destination) WHERE state <> 'done'",
        "CREATE INDEX forward_done ON forward (ended_at) WHERE state = 'done'",
        """
            CREATE INDEX forward_of_transaction ON forward (transaction_uid)
                WHERE transaction_uid <> ''
            """,
        """
            CREATE TABLE forward_destination (
                destination TEXT PRIMARY KEY,
                failures INTEGER NOT NULL,
                retry_at REAL NOT NULL,
                last_fault TEXT NOT NULL,
                -- some process tries it, and has until retry_at to say what came of it
                is_tried INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
    ),
)
