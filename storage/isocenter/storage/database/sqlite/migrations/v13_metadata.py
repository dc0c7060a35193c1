"""Schema 13: metadata and layouts of objects, made beforehand."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    13,
    "metadata and layouts of objects, made beforehand",
    (
        """
            CREATE TABLE instance_metadata (
                instance_pk INTEGER PRIMARY KEY REFERENCES instance ON DELETE CASCADE,
                -- the beginning of that of the data set that the rest was made of
                digest TEXT NOT NULL,
                -- where the frames lie; empty: there are none
                layout BLOB NOT NULL,
                -- DICOM JSON, deflated with the dictionary of the series; NULL: too long
                fragment BLOB
            )
            """,
        """
            CREATE TABLE series_metadata (
                series_pk INTEGER PRIMARY KEY REFERENCES series ON DELETE CASCADE,
                -- one more with each change of the series
                version INTEGER NOT NULL DEFAULT 0,
                -- when they are to be made; NULL: they are, or there is nothing to be kept
                due_at REAL,
                -- of what is in the rest: how it is written, and the URL in it
                format INTEGER NOT NULL DEFAULT 0,
                base TEXT NOT NULL DEFAULT '',
                tag TEXT NOT NULL DEFAULT '',
                dictionary BLOB,
                content_crc INTEGER NOT NULL DEFAULT 0,
                content_length INTEGER NOT NULL DEFAULT 0,
                -- all fragments with commas between them, deflated
                content BLOB
            )
            """,
        "CREATE INDEX series_metadata_due ON series_metadata (due_at) WHERE due_at IS NOT NULL",
        "INSERT INTO series_metadata (series_pk, due_at) SELECT series_pk, 0 FROM series",
    ),
)
