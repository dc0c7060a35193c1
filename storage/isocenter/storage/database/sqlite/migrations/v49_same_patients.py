"""Schema 49: patients who may be one person."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    49,
    "patients who may be one person",
    (
        # Of two patients the one that sorts first stands first.
        """
            CREATE TABLE patient_distinct (
                patient_id TEXT NOT NULL,
                issuer TEXT NOT NULL,
                other_patient_id TEXT NOT NULL,
                other_issuer TEXT NOT NULL,
                actor TEXT NOT NULL,
                at REAL NOT NULL,
                PRIMARY KEY (patient_id, issuer, other_patient_id, other_issuer)
            ) WITHOUT ROWID
            """,
        # IDs would not fit into it beside a long name: PostgreSQL has 2704 bytes for all of it.
        """
            CREATE INDEX patient_statement_by_person
            ON patient_statement (birth_date, patient_name_key)
            """,
    ),
)
