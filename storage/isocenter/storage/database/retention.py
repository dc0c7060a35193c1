"""Times of arrival and use of studies, and their holds."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.retention.ports import Candidate, Unproven
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
#: Nobody deletes what somebody is about to look at beside new images.
_NOT_SCHEDULED: Final = """
    NOT EXISTS (SELECT 1 FROM study_statement s
                JOIN patient_statement p ON p.patient_statement_pk = s.patient_statement_pk
                JOIN worklist w ON w.patient_id = p.patient_id
                WHERE s.study_pk = study.study_pk AND p.patient_id <> ''
                  AND w.state IN ('SCHEDULED', 'STARTED') AND w.start_date >= ?)
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
#: A rule for what comes has matched all of it, and so it has come.  By other conditions it was
#: another rule, though it had the name.
_ROUTED: Final = """
    study_pk IN (SELECT series.study_pk FROM instance_expiry e
                 JOIN instance i ON i.sop_instance_uid = e.sop_instance_uid
                 JOIN series ON series.series_pk = i.series_pk WHERE e.rule = ?)
    AND NOT EXISTS (SELECT 1 FROM series JOIN instance i ON i.series_pk = series.series_pk
                    WHERE series.study_pk = study.study_pk
                      AND NOT EXISTS (SELECT 1 FROM instance_expiry e
                                      WHERE e.sop_instance_uid = i.sop_instance_uid
                                        AND e.rule = ? AND e.conditions IN ('', ?)))
"""
#: Each object is at as many destinations as rules named when it came.
_FORWARDED: Final = """
    NOT EXISTS (SELECT 1 FROM series JOIN instance i ON i.series_pk = series.series_pk
                JOIN instance_expiry e ON e.sop_instance_uid = i.sop_instance_uid
                WHERE series.study_pk = study.study_pk
                  AND (SELECT count(*) FROM forward f
                       WHERE f.sop_instance_uid = i.sop_instance_uid AND f.state = 'done'
                         AND f.ended_at < ?) < e.destinations)
"""
#: Nobody was sent one that came from its only destination, or whose rule did not send it then.
_UNSENT: Final = "e.destinations = 0"
#: Who gives back what it is sent may have it no more, or be this archive, unless it has committed.
_CAME_AGAIN: Final = """
    e.destinations > 0 AND e.came_back = 1 AND NOT EXISTS (
        SELECT 1 FROM forward f WHERE f.sop_instance_uid = i.sop_instance_uid
          AND f.state = 'done' AND f.wants_commitment = 1)
"""
_MARKED: Final = """
    FROM series JOIN instance i ON i.series_pk = series.series_pk
    JOIN instance_expiry e ON e.sop_instance_uid = i.sop_instance_uid
    WHERE series.study_pk = study.study_pk
"""
_NOT_SENT: Final = f"EXISTS (SELECT 1 {_MARKED} AND ({_UNSENT} OR ({_CAME_AGAIN})))"
_WAS_SENT: Final = f"NOT {_NOT_SENT}"
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
_SHOWN: Final = """
    SELECT study_instance_uid, num_instances AS instances,
        (SELECT coalesce(sum(i.size), 0) FROM series JOIN instance i USING (series_pk)
         WHERE series.study_pk = study.study_pk) AS size
"""
_CANDIDATES: Final = _SHOWN + " FROM study WHERE {conditions} {order}LIMIT ?"
_UNPROVEN: Final = (
    f"{_SHOWN}, (SELECT count(*) {_MARKED} AND {_CAME_AGAIN}) AS came_again, "
    f"(SELECT count(*) {_MARKED} AND {_UNSENT}) AS unsent "
    "FROM study WHERE {conditions} ORDER BY study_pk LIMIT ?"
)
#: What was not used for the longest first, and of what never was that which came first.
_UNUSED_FIRST: Final = """
    ORDER BY coalesce((SELECT last_day FROM study_access a
                       WHERE a.study_instance_uid = study.study_instance_uid), 0), study_pk
"""


class Ages(Protocol):
    """How old what is, for a rule; 0: it does not matter."""

    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def study_days(self) -> int: ...
    @property
    def arrived_days(self) -> int: ...
    @property
    def unused_days(self) -> int: ...


class DatabaseRetention:
    """See `isocenter.services.archive.retention.ports.RetentionBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def candidates(
        self, rule: RetentionRule, now: float, *, limit: int
    ) -> Sequence[Candidate]:
        """See `RetentionBook.candidates`."""
        return await self._database.read(find_candidates, rule, now, limit)

    async def unproven(self, rule: RetentionRule, now: float, *, limit: int) -> Sequence[Unproven]:
        """See `RetentionBook.unproven`."""
        if not rule.forwarded_days:
            return ()
        return await self._database.read(_find_unproven, rule, now, limit)

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
    conditions, values = _past_its_time(rule, now, _WAS_SENT)
    rows = connection.execute(
        _CANDIDATES.format(conditions=conditions, order=_UNUSED_FIRST if rule.disk_percent else ""),
        (*values, limit),
    )
    return rows_as(Candidate, rows)


def _find_unproven(
    connection: Connection, rule: RetentionRule, now: float, limit: int
) -> list[Unproven]:
    conditions, values = _past_its_time(rule, now, _NOT_SENT)
    rows = connection.execute(_UNPROVEN.format(conditions=conditions), (*values, limit))
    return rows_as(Unproven, rows)


def _past_its_time(rule: RetentionRule, now: float, sent: str) -> tuple[str, list[object]]:
    """The condition on rows of `study`, and what is bound to it; *sent*: what is so of its having
    been sent, where the rule asks for that."""
    aged, values = conditions_of(rule, now, is_dated=bool(rule.keep_newest))
    yesterday = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    conditions = [_NOT_HELD, _NOT_SCHEDULED, *aged]
    values = [yesterday.strftime("%Y%m%d"), *values]
    if rule.routed_by:
        conditions.append(_ROUTED)
        name = replace_surrogates(rule.routed_by)
        values += [name, name, rule.conditions]
        conditions.append(_FORWARDED)
        values.append(now - rule.forwarded_days * _DAY_SECONDS)
    if rule.forwarded_days:
        conditions += [sent, _ARRIVED]
        values.append(_days_ago(now, rule.forwarded_days))
    if rule.keep_newest:
        concerned = _all_of(rule.modalities) if rule.modalities else "1 = 1"
        conditions.append(_NEWEST.format(concerned=concerned))
        values += [*rule.modalities, rule.keep_newest]
    return " AND ".join(f"({each})" for each in conditions), values


def conditions_of(
    rule: Ages, now: float, *, is_dated: bool = False
) -> tuple[list[str], list[object]]:
    """Conditions on rows of `study`, and what is bound to them.

    Args:
        is_dated: a study without a date is none of them.
    """
    today = datetime.fromtimestamp(now, UTC)
    conditions: list[str] = []
    values: list[object] = []
    if rule.modalities:
        conditions.append(_all_of(rule.modalities))
        values += rule.modalities
    if rule.study_days or is_dated:
        conditions.append(_DATED)
        before = today - timedelta(days=rule.study_days + 1)
        values += [_EARLIEST, before.strftime("%Y%m%d") if rule.study_days else _LATEST]
    quiet = max(rule.arrived_days, rule.unused_days)
    if quiet:
        conditions.append(_ARRIVED)
        values.append(_days_ago(now, quiet))
    if rule.unused_days:
        conditions.append(_UNUSED)
        day = int(now // _DAY_SECONDS) - rule.unused_days
        values += [day, day]
    return conditions, values


def _days_ago(now: float, days: int) -> str:
    """As the index writes when something came."""
    moment = datetime.fromtimestamp(now, UTC) - timedelta(days=days)
    return moment.isoformat(timespec="milliseconds")


def _all_of(modalities: Sequence[str]) -> str:
    return _MODALITIES.format(marks=", ".join("?" * len(modalities)))
