"""Metadata of series, when what they were made of changes, within that transaction."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.database import Connection, Values

#: How long a series rests before its metadata are made, unless its study is complete before.
QUIET_SECONDS: Final = 15.0
#: Of a digest, what tells the bytes that something was made of from others of the same object.
DIGEST_LENGTH: Final = 16
#: After `FROM_INSTANCES`: what was made of the very bytes that the instance has now.
WITH_METADATA: Final = (
    "LEFT JOIN instance_metadata AS made ON made.instance_pk = instance.instance_pk "
    f"AND made.digest = substr(instance.digest, 1, {DIGEST_LENGTH})"
)

CHANGED: Final = """
    INSERT INTO series_metadata (series_pk, due_at) VALUES (:series, :due_at)
    ON CONFLICT (series_pk) DO UPDATE SET
        version = series_metadata.version + 1, due_at = excluded.due_at, content = NULL
"""
_EXCHANGED: Final = """
    DELETE FROM instance_metadata WHERE instance_pk IN
        (SELECT instance_pk FROM instance WHERE sop_instance_uid = ?)
"""
_SERIES_OF: Final = "SELECT series_pk FROM instance WHERE sop_instance_uid = ?"
_COMPLETE: Final = """
    UPDATE series_metadata SET due_at = :now
    WHERE due_at > :now AND series_pk IN (
        SELECT series_pk FROM series JOIN study ON study.study_pk = series.study_pk
        WHERE study_instance_uid = :study)
"""


def change_series(connection: Connection, series_pk: int, now: float) -> None:
    """Instances of a series came or went: its metadata are none any more, and due."""
    connection.execute(CHANGED, changed_values(series_pk, now))


def changed_values(series_pk: int, now: float) -> Values:
    """Of `CHANGED`."""
    return {"series": series_pk, "due_at": now + QUIET_SECONDS}


def exchange_instance(connection: Connection, sop_instance_uid: str, now: float) -> None:
    """An instance has other bytes."""
    connection.execute(_EXCHANGED, (sop_instance_uid,))
    for (series_pk,) in connection.execute(_SERIES_OF, (sop_instance_uid,)).fetchall():
        change_series(connection, series_pk, now)


def series_of_study_due(connection: Connection, study_instance_uid: str, now: float) -> None:
    """A study is complete: nothing more is waited for."""
    connection.execute(_COMPLETE, {"study": study_instance_uid, "now": now})
