"""Schema 44: marks of digital signatures."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    44,
    "marks of digital signatures",
    (
        """
            CREATE TABLE signature_mark (
                sop_instance_uid TEXT PRIMARY KEY,
                -- unknown, or what came of the verification of the worst of its signatures
                state TEXT NOT NULL,
                signatures INTEGER NOT NULL,
                signer TEXT NOT NULL,
                purpose TEXT NOT NULL,
                marked_at REAL NOT NULL,
                -- 0: nobody has tried
                verified_at REAL NOT NULL
            )
            """,
        "CREATE INDEX signature_mark_waiting ON signature_mark (verified_at, marked_at)",
    ),
)
