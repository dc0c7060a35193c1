"""Rows of deleted objects in the database: what is written of each, and read."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from isocenter.services.archive.deletion.ports import (
    DeletionRecord,
    DeletionSummary,
    TrashChoice,
    TrashedInstance,
    TrashState,
    TrashStatistics,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.ports import StoredInstance
from isocenter.storage.database.database import Connection
from isocenter.storage.database.rows import named_rows
from isocenter.storage.database.text import replace_surrogates

#: Values in one statement.
_BOUND_AT_ONCE: Final = 500

_COLUMNS: Final = (
    "sop_instance_uid, sop_class_uid, study_instance_uid, series_instance_uid, "
    "transfer_syntax_uid, object_key, size, data_set_offset, digest"
)
#: Of records of objects, as `rows` reads them.
SELECT: Final = (
    "SELECT trash_pk AS number, deletion_id, state, remaining, target_key, "
    "trash.actor AS actor, reason, "
    "patient_id, patient_name, cause, at, purge_at, "
    f"{', '.join(f'trash.{name} AS {name}' for name in _COLUMNS.split(', '))} "
    "FROM trash JOIN deletion USING (deletion_id)"
)
#: Fields of a `DeletionRecord` that are columns as they are.
_OF_DELETION: Final = ("deletion_id", "at", "purge_at", "actor", "reason")
_INSERT: Final = (
    f"INSERT INTO trash (deletion_id, state, remaining, actor, patient_id, patient_name, "
    f"{_COLUMNS}) VALUES ({', '.join('?' * 15)}) ON CONFLICT (deletion_id, object_key) DO NOTHING"
)
_INSERT_DELETION: Final = """
    INSERT INTO deletion (deletion_id, cause, at, purge_at, actor, reason, num_instances, size)
    VALUES (?, ?, ?, ?, ?, ?, 0, 0) ON CONFLICT (deletion_id) DO NOTHING
"""


def selected(connection: Connection, statement: str, values: Sequence[Any]) -> list[Any]:
    """The first column of *statement*, which ends with IN, for all of *values*."""
    found: list[Any] = []
    for some in in_parts(values):
        rows = connection.execute(f"{statement} ({marks(some)})", some)
        found += [row[0] for row in rows]
    return found


def in_parts(values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """*values*, as many at once as a statement takes."""
    for start in range(0, len(values), _BOUND_AT_ONCE):
        yield tuple(values[start : start + _BOUND_AT_ONCE])


def marks(values: Sequence[object]) -> str:
    """As many parameters as *values* are."""
    return ", ".join("?" * len(values))


def insert_trash(
    connection: Connection,
    deletion: DeletionRecord,
    state: str,
    rows: Sequence[tuple[StoredInstance, int, str, str]],
) -> int:
    """Write records of instances, with what remains of the study, patient ID and name; how many
    are new."""
    connection.execute(
        _INSERT_DELETION,
        (
            deletion.deletion_id,
            deletion.cause.value,
            deletion.at,
            deletion.purge_at,
            replace_surrogates(deletion.actor),
            replace_surrogates(deletion.reason),
        ),
    )
    new = size = 0
    for stored, remaining, patient_id, patient_name in rows:
        values = (
            deletion.deletion_id, state, remaining, replace_surrogates(deletion.actor),
            replace_surrogates(patient_id), replace_surrogates(patient_name),
            stored.sop_instance_uid, stored.sop_class_uid,
            stored.study_instance_uid, stored.series_instance_uid, stored.transfer_syntax_uid,
            stored.object_key, stored.size, stored.data_set_offset, stored.digest,
        )  # fmt: skip
        if connection.execute(_INSERT, values).rowcount:
            new += 1
            size += stored.size
    connection.execute(
        "UPDATE deletion SET num_instances = num_instances + ?, size = size + ? "
        "WHERE deletion_id = ?",
        (new, size, deletion.deletion_id),
    )
    return new


def rows(
    connection: Connection, statement: str, values: tuple[object, ...]
) -> list[TrashedInstance]:
    """What *statement*, which begins with `SELECT`, finds."""
    return [
        TrashedInstance(
            state=TrashState(row.pop("state")),
            cause=DeletionCause(row.pop("cause")),
            stored=StoredInstance(**{name: row.pop(name) for name in _COLUMNS.split(", ")}),
            **row,
        )
        for row in named_rows(connection.execute(statement, values))
    ]


def condition(choice: TrashChoice) -> tuple[str, list[object]]:
    """What has to be true of a record beside others, and the values of it."""
    text, values = "", list[object]()
    for column, chosen in (
        ("trash.deletion_id", choice.deletion_ids),
        ("study_instance_uid", choice.study_instance_uids),
        ("sop_instance_uid", choice.sop_instance_uids),
        ("cause", [cause.value for cause in choice.causes]),
    ):
        if chosen:
            text += f" AND {column} IN ({marks(chosen)})"
            values += chosen
    if choice.expired_at is not None:
        text += " AND purge_at <= ?"
        values.append(choice.expired_at)
    if choice.unless_held:
        text += (
            " AND NOT EXISTS (SELECT 1 FROM study_hold "
            "WHERE study_hold.study_instance_uid = trash.study_instance_uid)"
        )
    return text, values


def deletion_rows(connection: Connection, causes: Sequence[DeletionCause]) -> list[DeletionSummary]:
    """The deletions of these causes of which something is kept, the latest first."""
    return [
        DeletionSummary(
            deletion=DeletionRecord(
                cause=DeletionCause(row.pop("cause")),
                **{name: row.pop(name) for name in _OF_DELETION},
            ),
            **row,
        )
        for row in named_rows(
            connection.execute(
                "SELECT deletion_id, at, purge_at, d.actor AS actor, reason, "
                "count(DISTINCT study_instance_uid) AS studies, "
                "count(DISTINCT series_instance_uid) AS series, count(*) AS instances, "
                "sum(t.size) AS size, cause FROM trash t JOIN deletion d USING (deletion_id) "
                f"WHERE cause IN ({marks(causes)}) "
                "GROUP BY deletion_id, at, purge_at, d.actor, reason, cause "
                "ORDER BY at DESC, deletion_id",
                tuple(cause.value for cause in causes),
            )
        )
    ]


def statistics(connection: Connection) -> TrashStatistics:
    """See `TrashBook.statistics`."""
    instances, size = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM trash"
    ).fetchone()
    deleted, deleted_size = connection.execute(
        "SELECT coalesce(sum(num_instances), 0), coalesce(sum(size), 0) FROM deletion "
        "WHERE cause NOT IN ('quarantined', 'rejected')"
    ).fetchone()
    withheld, kept_size = dict[str, int](), 0
    for cause, count, of_cause in connection.execute(
        "SELECT cause, count(*), sum(trash.size) FROM deletion JOIN trash USING (deletion_id) "
        "WHERE cause IN ('quarantined', 'rejected') GROUP BY cause"
    ):
        withheld[cause] = count
        kept_size += of_cause
    return TrashStatistics(
        instances=instances,
        size=size,
        deleted=deleted,
        deleted_size=deleted_size,
        quarantined=withheld.get("quarantined", 0),
        rejected=withheld.get("rejected", 0),
        purgeable_size=size - kept_size,
    )
