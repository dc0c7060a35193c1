"""Times of arrival and use of studies, and their holds."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.retention.ports import Candidate
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_DAY_SECONDS: Final = 86_400.0
#: Of `study_access`: when it began to be recorded at all.
_RECORDED: Final = ""
#: A date as it can be compared; what is none is not within these.
_DATE: Final = "replace(study_date, '.', '')"
_EARLIEST, _LATEST = "18500101", "99991231"

_NOT_HELD: Final = """
    NOT EXISTS (SELECT 1 FROM study_hold h
                WHERE h.study_instance_uid = study.study_instance_uid)
"""
_MODALITIES: Final = """
    EXISTS (SELECT 1 FROM series_statement m WHERE m.study_pk = study.study_pk)
    AND NOT EXISTS (SELECT 1 FROM series_statement m WHERE m.study_pk = study.study_pk
                    AND m.modality NOT IN ({marks}))
"""
_DATED: Final = f"""
    EXISTS (SELECT 1 FROM study_statement s WHERE s.study_pk = study.study_pk)
    AND NOT EXISTS (SELECT 1 FROM study_statement s WHERE s.study_pk = study.study_pk
                    AND NOT (length({_DATE}) = 8 AND {_DATE} BETWEEN ? AND ?))
"""
_ARRIVED: Final = """
    NOT EXISTS (SELECT 1 FROM series JOIN instance i ON i.series_pk = series.series_pk
                WHERE series.study_pk = study.study_pk AND i.created_at >= ?)
"""
_UNUSED: Final = """
    EXISTS (SELECT 1 FROM study_access WHERE study_instance_uid = '' AND last_day < ?)
    AND NOT EXISTS (SELECT 1 FROM study_access a
                    WHERE a.study_instance_uid = study.study_instance_uid AND a.last_day >= ?)
"""
#: A study of several patients is kept when it is among the newest of any of them.
_NEWEST: Final = f"""
    study_pk NOT IN (
        SELECT study_pk FROM (
            SELECT study_pk, row_number() OVER (
                PARTITION BY patient_pk ORDER BY newest DESC, study_pk DESC) AS place
            FROM (
                SELECT p.patient_pk, study.study_pk, max({_DATE}) AS newest
                FROM study JOIN study_statement s ON s.study_pk = study.study_pk
                JOIN patient_statement p USING (patient_statement_pk)
                WHERE {{concerned}} GROUP BY p.patient_pk, study.study_pk
            ) AS dated
        ) AS ranked WHERE place <= ?
    )
"""
_CANDIDATES: Final = """
    SELECT study_instance_uid, num_instances AS instances,
        (SELECT coalesce(sum(i.size), 0) FROM series JOIN instance i USING (series_pk)
         WHERE series.study_pk = study.study_pk) AS size
    FROM study WHERE {conditions} {order}LIMIT ?
"""
#: What was not used for the longest first, and of what never was that which came first.
_UNUSED_FIRST: Final = """
    ORDER BY coalesce((SELECT last_day FROM study_access a
                       WHERE a.study_instance_uid = study.study_instance_uid), 0), study_pk
"""


class DatabaseRetention:
    """See `isocenter.services.archive.retention.ports.RetentionBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def candidates(
        self, rule: RetentionRule, now: float, *, limit: int
    ) -> Sequence[Candidate]:
        """See `RetentionBook.candidates`."""
        return await self._database.read(find_candidates, rule, now, limit)

    async def note_use(self, study_instance_uids: Sequence[str], now: float) -> None:
        """See `RetentionBook.note_use`."""
        await self._database.write(_note_use, study_instance_uids, int(now // _DAY_SECONDS))


class DatabaseHolds:
    """See `isocenter.services.archive.deletion.ports.Holds`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, hold: StudyHold) -> bool:
        """See `Holds.add`."""
        return await self._database.write(
            _change,
            "INSERT INTO study_hold (study_instance_uid, reason, actor, at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (study_instance_uid) DO NOTHING",
            (
                hold.study_instance_uid,
                replace_surrogates(hold.reason),
                replace_surrogates(hold.actor),
                hold.at,
            ),
        )

    async def remove(self, study_instance_uid: str) -> bool:
        """See `Holds.remove`."""
        return await self._database.write(
            _change, "DELETE FROM study_hold WHERE study_instance_uid = ?", (study_instance_uid,)
        )

    async def all(self) -> Sequence[StudyHold]:
        """See `Holds.all`."""
        return await self._database.read(_holds)


def _change(connection: Connection, statement: str, values: tuple[object, ...]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _holds(connection: Connection) -> list[StudyHold]:
    rows = connection.execute(
        "SELECT study_instance_uid, reason, actor, at, EXISTS (SELECT 1 FROM study "
        "WHERE study.study_instance_uid = study_hold.study_instance_uid) AS is_here "
        "FROM study_hold ORDER BY at, study_instance_uid"
    )
    return rows_as(StudyHold, rows, is_here=bool)


def _note_use(connection: Connection, studies: Sequence[str], day: int) -> None:
    connection.execute(
        "INSERT INTO study_access (study_instance_uid, last_day) VALUES (?, ?) "
        "ON CONFLICT (study_instance_uid) DO NOTHING",
        (_RECORDED, day),
    )
    connection.executemany(
        "INSERT INTO study_access (study_instance_uid, last_day) VALUES (?, ?) "
        "ON CONFLICT (study_instance_uid) DO UPDATE SET last_day = excluded.last_day "
        "WHERE excluded.last_day > study_access.last_day",
        [(replace_surrogates(study), day) for study in studies if study],
    )


def find_candidates(
    connection: Connection, rule: RetentionRule, now: float, limit: int
) -> list[Candidate]:
    """`RetentionBook.candidates`."""
    today = datetime.fromtimestamp(now, UTC)
    conditions = [_NOT_HELD]
    values: list[object] = []
    concerned, concerned_values = "1 = 1", list[object]()
    if rule.modalities:
        concerned = _MODALITIES.format(marks=", ".join("?" * len(rule.modalities)))
        concerned_values += rule.modalities
        conditions.append(concerned)
        values += rule.modalities
    if rule.study_days or rule.keep_newest:
        conditions.append(_DATED)
        before = today - timedelta(days=rule.study_days + 1)
        values += [_EARLIEST, before.strftime("%Y%m%d") if rule.study_days else _LATEST]
    quiet = max(rule.arrived_days, rule.unused_days)
    if quiet:
        conditions.append(_ARRIVED)
        values.append((today - timedelta(days=quiet)).isoformat(timespec="milliseconds"))
    if rule.unused_days:
        conditions.append(_UNUSED)
        day = int(now // _DAY_SECONDS) - rule.unused_days
        values += [day, day]
    if rule.keep_newest:
        conditions.append(_NEWEST.format(concerned=concerned))
        values += [*concerned_values, rule.keep_newest]
    rows = connection.execute(
        _CANDIDATES.format(
            conditions=" AND ".join(f"({each})" for each in conditions),
            order=_UNUSED_FIRST if rule.disk_percent else "",
        ),
        (*values, limit),
    )
    return rows_as(Candidate, rows)
