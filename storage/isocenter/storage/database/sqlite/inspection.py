"""Inspection of an SQLite index, read only: soundness, rows, sizes.

It may run beside a server, and on an index of any version.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from isocenter.services.archive.index_figures import IndexInspection, RoomUsage
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.storage.database.index.totals import ALL_TOTALS
from isocenter.storage.database.retention import find_candidates
from isocenter.storage.database.sqlite.functions import MatchingConnection
from isocenter.storage.database.sqlite.schema import LATEST_VERSION, WrongFileError, schema_version

#: SQLite asks us whether to go on after about so many steps of its machine: some milliseconds.
_STEPS: Final = 100_000
#: Damage that is named.
_MOST_LINES: Final = 20
_WEEK_SECONDS: Final = 7 * 86_400.0
_MOST_CANDIDATES: Final = 1_000_000
_SIZE: Final = f"SELECT sum(size) FROM {ALL_TOTALS}"  # noqa: S608  (a constant)
#: Of objects that rules have sent on: those that are wanted nowhere any more.
#: What can be purged, and what is withheld.
_OUT_OF_INDEX: Final = """
    SELECT coalesce(sum(CASE WHEN cause IN ('quarantined', 'rejected') THEN 0 ELSE t.size END), 0),
        coalesce(sum(CASE WHEN cause IN ('quarantined', 'rejected') THEN t.size ELSE 0 END), 0)
    FROM trash t JOIN deletion USING (deletion_id)
"""
_COMMITTED: Final = """
    SELECT coalesce(sum(size), 0) FROM instance WHERE sop_instance_uid IN (
        SELECT sop_instance_uid FROM forward GROUP BY sop_instance_uid
        HAVING count(*) = count(CASE WHEN state = 'done' AND wants_commitment = 1 THEN 1 END))
"""


class SampledRow(NamedTuple):
    """An instance of the index, to be compared with its file."""

    sop_instance_uid: str
    object_key: str
    size: int
    data_set_offset: int
    digest: str


def inspect_index(
    index: Path, *, seconds: float, sample: int
) -> tuple[IndexInspection, Sequence[SampledRow]]:
    """What *index* looks like, and some of its instances, chosen at random.

    Args:
        index: a file that exists.
        seconds: for checking it; what is left then is not checked.
    """
    try:
        connection = _open(index)
    except sqlite3.Error as error:
        return IndexInspection(
            fault=f"cannot open {index} ({error}); check its owner and its mode"
        ), ()
    try:
        version = schema_version(connection)
        damage, was_checked = _check(connection, seconds)
        look = IndexInspection(
            schema_version=version,
            latest_version=LATEST_VERSION,
            damage=damage,
            was_checked=was_checked,
        )
        if damage:
            return look, ()
        (instances,) = connection.execute("SELECT count(*) FROM instance").fetchone()
        rows = list(_choose(connection, sample))
        return replace(look, instances=instances, sampled=len(rows)), rows
    except WrongFileError as error:
        return IndexInspection(fault=f"cannot use {index}: {error}"), ()
    except sqlite3.Error as error:
        return IndexInspection(
            schema_version=0, latest_version=0, damage=(str(error),), was_checked=False
        ), ()
    finally:
        connection.close()


def _open(index: Path) -> MatchingConnection:
    uri = f"file:{quote(str(index.absolute()))}?mode=ro"
    return MatchingConnection(uri, uri=True, isolation_level=None)


def _check(connection: sqlite3.Connection, seconds: float) -> tuple[tuple[str, ...], bool]:
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    lines: list[str] = []
    try:
        for (line,) in connection.execute(f"PRAGMA quick_check({_MOST_LINES})"):
            if line != "ok":
                lines.append(line)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return tuple(lines), False
    finally:
        connection.set_progress_handler(None, 0)
    return tuple(lines), True


def _choose(connection: sqlite3.Connection, sample: int) -> Iterator[SampledRow]:
    """Rows at random: near random row numbers, so that no more is read than is wanted."""
    (last,) = connection.execute("SELECT coalesce(max(instance_pk), 0) FROM instance").fetchone()
    seen: set[str] = set()
    for _ in range(sample if last else 0):
        found = connection.execute(
            "SELECT sop_instance_uid, object_key, size, data_set_offset, digest FROM instance "
            "WHERE instance_pk >= ? ORDER BY instance_pk LIMIT 1",
            (random.randint(1, last),),  # noqa: S311 - a sample, no secret
        ).fetchone()
        if found is not None and found[0] not in seen:
            seen.add(found[0])
            yield SampledRow(*found)


def inspect_room(
    index: Path, rules: Sequence[RetentionRule], *, seconds: float, now: float
) -> RoomUsage | None:
    """What takes room and what could go; None: the index cannot say, or not in time.

    Args:
        index: of this version.
        now: seconds since 1970.
    """
    try:
        connection = _open(index)
    except sqlite3.Error:
        return None
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        (size,) = connection.execute(_SIZE).fetchone()
        trash, withheld = connection.execute(_OUT_OF_INDEX).fetchone()
        (committed,) = connection.execute(_COMMITTED).fetchone()
        past: dict[str, int] = {}
        for rule in rules:
            for each in find_candidates(connection, rule, now, _MOST_CANDIDATES):
                past[each.study_instance_uid] = each.size
        week_ago = datetime.fromtimestamp(now - _WEEK_SECONDS, UTC)
        return RoomUsage(
            size=size,
            bytes_a_day=_size_since(connection, week_ago) / 7,
            trash_size=trash,
            withheld_size=withheld,
            retention_size=sum(past.values()),
            committed_size=committed,
        )
    except (sqlite3.Error, TypeError):
        return None
    finally:
        connection.close()


def _size_since(connection: sqlite3.Connection, since: datetime) -> int:
    """Bytes of the objects that came since then: rows are numbered as they come."""
    text = since.isoformat(timespec="milliseconds")
    low, high = connection.execute(
        "SELECT coalesce(min(instance_pk), 0), coalesce(max(instance_pk), -1) + 1 FROM instance"
    ).fetchone()
    while low < high:
        middle = (low + high) // 2
        number, created_at = connection.execute(
            "SELECT instance_pk, created_at FROM instance WHERE instance_pk >= ? "
            "ORDER BY instance_pk LIMIT 1",
            (middle,),
        ).fetchone()
        if created_at >= text:
            high = middle
        else:
            low = number + 1
    (size,) = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM instance WHERE instance_pk >= ?", (low,)
    ).fetchone()
    return int(size)
