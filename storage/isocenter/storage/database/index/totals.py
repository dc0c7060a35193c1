"""Totals of the index: one row, and changes yet to be added."""

# ruff: noqa: S608  (statements are made of constants, values are bound)

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Cursor

#: So many changes are added to the row at the latest.
_MOST_CHANGES: Final = 64
#: FROM: the row, and its changes.
ALL_TOTALS: Final = (
    "(SELECT patients, studies, series, instances, size FROM totals UNION ALL "
    "SELECT patients, studies, series, instances, size FROM totals_change) AS parts"
)
_COUNT: Final = (
    "SELECT (SELECT count(*) FROM totals), coalesce(sum(patients), 0), coalesce(sum(studies), 0), "
    "coalesce(sum(series), 0), coalesce(sum(instances), 0), coalesce(sum(size), 0) "
    f"FROM {ALL_TOTALS}"
)
#: Schema since which changes are noted beside the row.
_NOTED_SINCE: Final = 37
_COUNT_BEFORE: Final = "SELECT patients, studies, series, instances, size FROM totals"
_HAS_CHANGES: Final = "SELECT count(*) FROM schema_version WHERE version = ?"
_CHANGE: Final = (
    "UPDATE totals SET patients = patients + ?, studies = studies + ?, series = series + ?, "
    "instances = instances + ?, size = size + ?, last_said = coalesce(?, last_said)"
)
_NOTE: Final = (
    "INSERT INTO totals_change (patients, studies, series, instances, size, last_said) "
    "VALUES (?, ?, ?, ?, ?, coalesce(?, 0))"
)
_TAKE: Final = (
    "DELETE FROM totals_change RETURNING patients, studies, series, instances, size, last_said"
)
_SAID: Final = (
    "SELECT last_said, 0 FROM totals UNION ALL SELECT max(last_said), count(*) FROM totals_change"
)

#: Patients, studies, series, instances and bytes that came, less those that went; and when the
#: last record was added: None: none was.
Change = tuple[int, int, int, int, int, int | None]


def read_statistics(connection: Connection) -> IndexStatistics:
    """`isocenter.services.archive.ports.Index.statistics`.

    Raises:
        StorageError: the one row is gone.
    """
    rows, *counts = connection.execute(_COUNT).fetchone()
    if not rows:
        raise no_totals()
    return IndexStatistics(*map(int, counts))


def totals_of(version: int) -> str:
    """FROM: the row, and its changes, in a schema of that version."""
    return ALL_TOTALS if version >= _NOTED_SINCE else "totals"


def read_statistics_of_any_schema(connection: Connection) -> IndexStatistics:
    """The same, also of an index that an earlier version has written and nobody has migrated.

    Raises:
        StorageError: the one row is gone.
    """
    (has_changes,) = connection.execute(_HAS_CHANGES, (_NOTED_SINCE,)).fetchone()
    if has_changes:
        return read_statistics(connection)
    row = connection.execute(_COUNT_BEFORE).fetchone()
    if row is None:
        raise no_totals()
    return IndexStatistics(*map(int, row))


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of the totals at the begin of a transaction.

    Attributes:
        last_said: when the last record was added, in microseconds since 1970.
        wants_sum: there are many changes to be summed up (`sum_totals`).
    """

    last_said: int
    wants_sum: bool


def ask_said(connection: Connection) -> Cursor:
    """Ask for what is known of them now (`said_by`)."""
    return connection.execute(_SAID)


def said_by(cursor: Cursor) -> Said:
    """What is known of them, as the answer to `ask_said` tells.

    Raises:
        StorageError: the one row is gone.
    """
    found = cursor.fetchall()
    if len(found) < 2:  # the maximum of nothing is a row
        raise no_totals()
    return Said(
        last_said=max(int(said or 0) for said, _ in found),
        wants_sum=sum(number for _, number in found) >= _MOST_CHANGES,
    )


def totals_change(connection: Connection, change: Change) -> tuple[str, list[Change]]:
    """What adds a change to the totals (for `Connection.execute_all`).

    Beside others it is noted: the row would have all of them wait for each other.
    """
    return _CHANGE if connection.has_turn else _NOTE, [change]


def sum_totals(connection: Connection) -> None:
    """Add all changes to the row."""
    taken = connection.execute(_TAKE).fetchall()
    if taken:
        *counts, said = zip(*taken, strict=True)
        last = max(said_by(ask_said(connection)).last_said, *said)
        connection.execute(_CHANGE, (*map(sum, counts), last))


def no_totals() -> StorageError:
    """The one row of totals is gone."""
    return StorageError("the index has lost its totals; run `isocenter db reindex`")
