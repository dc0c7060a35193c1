"""Schema 36: whose the AE titles of subscribers of the web are."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    36,
    "owners of the AE titles that subscribe to workitems over the web",
    (
        # Who has subscribed before is asked for its name when it does so again.
        """
            CREATE TABLE workitem_web_subscriber (
                ae_title TEXT NOT NULL PRIMARY KEY,
                owner TEXT NOT NULL
            )
            """,
    ),
)
