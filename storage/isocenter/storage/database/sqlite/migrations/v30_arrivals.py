"""Schema 30: studies in the order in which something came of them last."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    30,
    "studies by when something came of them last",
    ("CREATE INDEX study_completion_latest ON study_completion (state, last_at)",),
)
