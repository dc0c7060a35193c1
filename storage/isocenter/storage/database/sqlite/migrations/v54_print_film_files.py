"""Schema 54: films of print jobs as files."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    54,
    "films of print jobs as files",
    (
        # What print_film has is brought to files as the server goes on.
        """
            CREATE TABLE print_film_file (
                print_job_pk INTEGER NOT NULL REFERENCES print_job (print_job_pk),
                number INTEGER NOT NULL,
                width INTEGER NOT NULL,
                height INTEGER NOT NULL,
                dots_per_inch INTEGER NOT NULL,
                PRIMARY KEY (print_job_pk, number)
            )
            """,
        """
            CREATE TABLE print_film_note (
                -- of a job that has films and no row
                job_uid TEXT PRIMARY KEY,
                noted_at REAL NOT NULL,
                -- 0: it is on its way in; 1: its films are to be removed
                is_over INTEGER NOT NULL
            )
            """,
    ),
)
