"""Schema 29: unified procedure steps."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    29,
    "unified procedure steps, subscriptions to them, and their events for the web",
    (
        """
            CREATE TABLE workitem (
                workitem_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                sop_instance_uid TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL
                    CHECK (state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')),
                -- of whoever performs it; in no data set, and in no answer
                transaction_uid TEXT NOT NULL,
                priority TEXT NOT NULL,
                label TEXT NOT NULL,
                worklist_label TEXT NOT NULL,
                scheduled_start TEXT NOT NULL,
                progress TEXT NOT NULL,
                created_at REAL NOT NULL,
                changed_at REAL NOT NULL,
                -- explicit VR little endian, in the character set that it names itself
                data_set BLOB NOT NULL
            )
            """,
        "CREATE INDEX workitem_by_state ON workitem (state, scheduled_start)",
        "CREATE INDEX workitem_by_change ON workitem (changed_at)",
        """
            CREATE TABLE workitem_subscription (
                workitem_pk INTEGER NOT NULL REFERENCES workitem,
                channel TEXT NOT NULL CHECK (channel IN ('dimse', 'web')),
                ae_title TEXT NOT NULL,
                as_ae_title TEXT NOT NULL,
                has_lock INTEGER NOT NULL,
                PRIMARY KEY (workitem_pk, channel, ae_title)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX workitem_subscription_of ON workitem_subscription (ae_title, channel)",
        """
            CREATE TABLE workitem_global_subscription (
                channel TEXT NOT NULL CHECK (channel IN ('dimse', 'web')),
                ae_title TEXT NOT NULL,
                as_ae_title TEXT NOT NULL,
                has_lock INTEGER NOT NULL,
                -- an identifier in explicit VR little endian; empty: all workitems
                filter_keys BLOB NOT NULL,
                PRIMARY KEY (channel, ae_title)
            ) WITHOUT ROWID
            """,
        """
            CREATE TABLE workitem_event (
                event_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                ae_title TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                event_type INTEGER NOT NULL,
                created_at REAL NOT NULL,
                data_set BLOB NOT NULL
            )
            """,
        "CREATE INDEX workitem_event_of ON workitem_event (ae_title, event_pk)",
        # Events of one workitem reach each subscriber in their order.
        """
            CREATE INDEX event_report_of_instance ON event_report
                (destination, sop_instance_uid, report_pk) WHERE state = 'due'
            """,
    ),
)
