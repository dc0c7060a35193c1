"""Schema 12: studies in the order of pages."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    12,
    "studies by date and time, for pages of them",
    (
        # All that a page without criteria, or with those of patients, needs of a study.
        """
            CREATE INDEX study_statement_in_order ON study_statement
                (study_date, study_time, study_pk, patient_statement_pk)
            """,
        "DROP INDEX study_statement_by_date",
        # Leads from patients to the places of their studies in that order.
        "DROP INDEX study_statement_of_patient",
        """
            CREATE INDEX study_statement_of_patient ON study_statement
                (patient_statement_pk, study_date, study_time, study_pk)
            """,
    ),
)
