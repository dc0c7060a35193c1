"""Schema 26: rules that are made while the server runs, and what rules did."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    26,
    "rules that are made while the server runs, and what rules did",
    (
        """
            CREATE TABLE routing_rule (
                name TEXT PRIMARY KEY,
                -- JSON: what else a table of [[rules]] has
                definition TEXT NOT NULL,
                is_enabled INTEGER NOT NULL,
                priority INTEGER NOT NULL,
                position INTEGER NOT NULL,
                version INTEGER NOT NULL,
                changed_by TEXT NOT NULL,
                changed_at REAL NOT NULL
            )
            """,
        # One row: of all rules together.
        """
            CREATE TABLE routing_state (
                state_pk INTEGER PRIMARY KEY,
                revision INTEGER NOT NULL,
                is_on INTEGER NOT NULL
            )
            """,
        "INSERT INTO routing_state (state_pk, revision, is_on) VALUES (1, 0, 1)",
        """
            CREATE TABLE rule_count (
                rule TEXT PRIMARY KEY,
                matched INTEGER NOT NULL,
                sent INTEGER NOT NULL,
                failed INTEGER NOT NULL,
                last_at REAL
            )
            """,
        """
            CREATE TABLE rule_firing (
                study_instance_uid TEXT NOT NULL,
                rule TEXT NOT NULL,
                calling_ae TEXT NOT NULL,
                objects INTEGER NOT NULL,
                first_at REAL NOT NULL,
                last_at REAL NOT NULL,
                PRIMARY KEY (study_instance_uid, rule, calling_ae)
            )
            """,
        "CREATE INDEX rule_firing_last ON rule_firing (last_at)",
        # How often in quick succession another object took the place of one that was queued.
        "ALTER TABLE forward ADD COLUMN rounds INTEGER NOT NULL DEFAULT 0",
    ),
)
