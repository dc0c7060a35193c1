"""Schema 3: the worklist."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    3,
    "worklist",
    (
        """
            CREATE TABLE worklist (
                entry_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                step_id TEXT NOT NULL,
                accession_number TEXT NOT NULL,
                state TEXT NOT NULL CHECK
                    (state IN ('SCHEDULED', 'STARTED', 'COMPLETED', 'DISCONTINUED')),
                source TEXT NOT NULL,
                -- as the matcher compares them; a value that is several has a backslash
                station_ae_title TEXT NOT NULL,
                modality TEXT NOT NULL,
                start_date TEXT NOT NULL,
                start_time TEXT NOT NULL,
                patient_id TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                created_at REAL NOT NULL,
                changed_at REAL NOT NULL,
                -- explicit VR little endian, in the character set that it names itself
                data_set BLOB NOT NULL,
                UNIQUE (step_id, accession_number)
            )
            """,
        "CREATE INDEX worklist_by_start ON worklist (state, start_date, start_time)",
        "CREATE INDEX worklist_by_accession ON worklist (accession_number)",
        "CREATE INDEX worklist_by_patient ON worklist (patient_id)",
        "CREATE INDEX worklist_by_source ON worklist (source)",
    ),
)
