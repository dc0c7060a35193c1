"""Schema 33: objects in tiers, and what moves between them."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    33,
    "objects in tiers",
    (
        # Keys of the hot tier have no mark, and no place in it.
        """
            CREATE INDEX instance_in_tier ON instance (series_pk, object_key, size)
            WHERE substr(object_key, 1, 1) = '~'
            """,
        """
            CREATE TABLE tier_move (
                sop_instance_uid TEXT PRIMARY KEY,
                study_instance_uid TEXT NOT NULL,
                -- copying: there may be something under the target's key, and is to be nothing;
                -- leaving: the index names the target, and nothing is to be under the source's key;
                -- failed: it stays where it is
                state TEXT NOT NULL CHECK (state IN ('copying', 'leaving', 'failed')),
                source_key TEXT NOT NULL,
                target_key TEXT NOT NULL,
                process TEXT NOT NULL,
                -- by the clock of the database
                until REAL NOT NULL,
                at REAL NOT NULL,
                fault TEXT NOT NULL DEFAULT ''
            )
            """,
        "CREATE INDEX tier_move_of_study ON tier_move (study_instance_uid)",
        """
            CREATE TABLE tier_order (
                study_instance_uid TEXT PRIMARY KEY,
                tier TEXT NOT NULL,
                -- '': somebody waits for it
                actor TEXT NOT NULL,
                at REAL NOT NULL
            )
            """,
        """
            CREATE TABLE tier_pin (
                study_instance_uid TEXT PRIMARY KEY,
                tier TEXT NOT NULL,
                actor TEXT NOT NULL,
                reason TEXT NOT NULL,
                at REAL NOT NULL
            )
            """,
    ),
)
