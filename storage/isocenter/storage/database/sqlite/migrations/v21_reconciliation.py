"""Schema 21: reconciliation of patients."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    21,
    "reconciliation of patients",
    (
        """
            CREATE TABLE reconciliation (
                reconciliation_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                kind TEXT NOT NULL,
                patient_id TEXT NOT NULL,
                issuer TEXT NOT NULL,
                other_patient_id TEXT NOT NULL,
                other_issuer TEXT NOT NULL,
                actor TEXT NOT NULL,
                message TEXT NOT NULL,
                at REAL NOT NULL,
                outcome TEXT NOT NULL,
                instances INTEGER NOT NULL,
                -- numbers of corrections, with spaces between them
                corrections TEXT NOT NULL,
                fault TEXT NOT NULL
            )
            """,
        "CREATE INDEX reconciliation_of_patient ON reconciliation (patient_id)",
        "CREATE INDEX reconciliation_of_other ON reconciliation (other_patient_id)",
        """
            CREATE INDEX reconciliation_in_vain ON reconciliation (at)
            WHERE outcome = 'nothing to do'
            """,
        # Of two patients the one that sorts first stands first.
        """
            CREATE TABLE patient_link (
                patient_id TEXT NOT NULL,
                issuer TEXT NOT NULL,
                other_patient_id TEXT NOT NULL,
                other_issuer TEXT NOT NULL,
                actor TEXT NOT NULL,
                at REAL NOT NULL,
                PRIMARY KEY (patient_id, issuer, other_patient_id, other_issuer)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX patient_link_of_other ON patient_link (other_patient_id)",
    ),
)
