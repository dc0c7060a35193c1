"""Schema 11: where a request for commitment says that instances are (PS3.18 J.1)."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    11,
    "study and series of what commitment is asked for",
    (
        # As the request names them; '': it names the instance alone.
        "ALTER TABLE commitment_reference ADD COLUMN named_study_uid TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE commitment_reference ADD COLUMN named_series_uid TEXT NOT NULL DEFAULT ''",
    ),
)
