"""Schema 60: under which conditions objects are deleted, and whether they came back."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    60,
    "under which conditions objects are deleted, and whether they came back",
    (
        # Of the rule when it matched; '': an earlier program did not say.
        "ALTER TABLE instance_expiry ADD COLUMN conditions TEXT NOT NULL DEFAULT ''",
        # Who sent it; '': that is not known, or there were several.
        "ALTER TABLE instance_expiry ADD COLUMN sender TEXT NOT NULL DEFAULT ''",
        # 1: it came again, and not from its sender.
        "ALTER TABLE instance_expiry ADD COLUMN came_back INTEGER NOT NULL DEFAULT 0",
    ),
)
