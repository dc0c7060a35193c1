"""Schema 46: counts of validation, and records of what it refused."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    46,
    "counts of validation, and refused objects",
    (
        """
            CREATE TABLE validation_count (
                sender TEXT NOT NULL,
                device TEXT NOT NULL,
                code TEXT NOT NULL,
                severity TEXT NOT NULL,
                objects INTEGER NOT NULL,
                last_at REAL NOT NULL,
                -- SOP Instance UID of one of them
                example TEXT NOT NULL,
                PRIMARY KEY (sender, device, code, severity)
            )
            """,
        "CREATE INDEX validation_count_code ON validation_count (code)",
        """
            CREATE TABLE validation_total (
                -- 1: there is one row
                number INTEGER PRIMARY KEY,
                objects INTEGER NOT NULL,
                not_valid INTEGER NOT NULL,
                counted_at REAL NOT NULL
            )
            """,
        """
            CREATE TABLE refused_object (
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                -- calling AE title
                sender TEXT NOT NULL,
                device TEXT NOT NULL,
                -- codes and paths, never a value
                why TEXT NOT NULL,
                times INTEGER NOT NULL,
                first_at REAL NOT NULL,
                last_at REAL NOT NULL,
                PRIMARY KEY (sop_instance_uid, sender)
            )
            """,
        "CREATE INDEX refused_object_last ON refused_object (last_at)",
    ),
)
