"""Schema 4: events, their consumers and open studies."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    4,
    "events and their consumers",
    (
        # Numbers are given within write transactions: their order is that of the commits.
        """
            CREATE TABLE event (
                event_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                kind TEXT NOT NULL,
                at REAL NOT NULL,
                -- '': of no study
                study_instance_uid TEXT NOT NULL,
                body TEXT NOT NULL
            )
            """,
        "CREATE INDEX event_of_study ON event (study_instance_uid)",
        """
            CREATE TABLE study_completion (
                study_instance_uid TEXT PRIMARY KEY,
                state TEXT NOT NULL CHECK (state IN ('receiving', 'complete')),
                first_at REAL NOT NULL,
                last_at REAL NOT NULL,
                due_at REAL NOT NULL,
                num_received INTEGER NOT NULL,
                times_complete INTEGER NOT NULL DEFAULT 0,
                completed_at REAL,
                reason TEXT NOT NULL DEFAULT ''
            ) WITHOUT ROWID
            """,
        """
            CREATE INDEX study_completion_due ON study_completion (due_at)
                WHERE state = 'receiving'
            """,
        # Everything up to position was looked at, and what the consumer wants of it and has
        # not got is in its lanes.
        """
            CREATE TABLE event_consumer (
                name TEXT PRIMARY KEY,
                position INTEGER NOT NULL,
                delivered INTEGER NOT NULL DEFAULT 0,
                delivered_at REAL,
                last_fault TEXT NOT NULL DEFAULT '',
                last_fault_at REAL
            ) WITHOUT ROWID
            """,
        """
            CREATE TABLE event_lane (
                consumer TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                from_event INTEGER NOT NULL,
                attempts INTEGER NOT NULL DEFAULT 0,
                failing_since REAL,
                due_at REAL NOT NULL,
                last_fault TEXT NOT NULL DEFAULT '',
                PRIMARY KEY (consumer, study_instance_uid)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX event_lane_due ON event_lane (consumer, due_at)",
        "CREATE INDEX event_lane_of_study ON event_lane (study_instance_uid)",
        """
            CREATE TABLE event_dead (
                dead_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                consumer TEXT NOT NULL,
                event_pk INTEGER NOT NULL,
                kind TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                attempts INTEGER NOT NULL,
                given_up_at REAL NOT NULL,
                fault TEXT NOT NULL
            )
            """,
    ),
)
