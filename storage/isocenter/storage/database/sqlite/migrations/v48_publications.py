"""Schema 48: manifests that were published, and what repositories call them."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    48,
    "manifests that were published, and what repositories call them",
    (
        """
            CREATE TABLE publication (
                repository TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                is_wanted INTEGER NOT NULL,
                -- of the document that is there; empty: there is none
                document_uid TEXT NOT NULL DEFAULT '',
                reference TEXT NOT NULL DEFAULT '',
                digest TEXT NOT NULL DEFAULT '',
                instances INTEGER NOT NULL DEFAULT 0,
                published_at REAL,
                -- of the document of which nobody knows yet whether it has arrived
                sent_uid TEXT NOT NULL DEFAULT '',
                sent_digest TEXT NOT NULL DEFAULT '',
                sent_at REAL,
                PRIMARY KEY (repository, study_instance_uid)
            )
            """,
        "CREATE INDEX publication_study ON publication (study_instance_uid)",
    ),
)
