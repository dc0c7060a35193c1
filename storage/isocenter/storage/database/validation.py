"""Marks of validation in the database: adapter of the port `ValidationBook`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Any, Final

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.archive.validation.mark import RefusedObject
from isocenter.services.archive.validation.ports import (
    RefusalRow,
    RuleCount,
    StudyValidation,
    ValidationTotals,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_FORGET_RULES: Final = f"DELETE FROM broken_rule WHERE sop_instance_uid IN {TEXTS}"  # noqa: S608
_FORGET: Final = f"DELETE FROM validation WHERE sop_instance_uid IN {TEXTS}"  # noqa: S608
_ADD: Final = (
    "INSERT INTO validation (sop_instance_uid, sender, device, errors, warnings, at) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_ADD_RULE: Final = (
    "INSERT INTO broken_rule (sop_instance_uid, code, severity, path, places) "
    "VALUES (?, ?, ?, ?, ?) ON CONFLICT (sop_instance_uid, code, path) DO NOTHING"
)
_OF_STUDY: Final = """
    FROM validation JOIN instance ON instance.sop_instance_uid = validation.sop_instance_uid
         JOIN series ON series.series_pk = instance.series_pk
         JOIN study ON study.study_pk = series.study_pk
"""
_STUDY_TOTALS: Final = (
    "SELECT count(*), coalesce(sum(CASE WHEN errors > 0 THEN 1 ELSE 0 END), 0) "
    f"{_OF_STUDY} WHERE study_instance_uid = ?"
)
_STUDY_RULES: Final = f"""
    SELECT code, count(DISTINCT broken_rule.sop_instance_uid) AS objects
    {_OF_STUDY} JOIN broken_rule ON broken_rule.sop_instance_uid = validation.sop_instance_uid
    WHERE study_instance_uid = ?
    GROUP BY code, severity
    ORDER BY CASE severity WHEN 'error' THEN 0 ELSE 1 END, objects DESC, code LIMIT ?
"""
#: Only of what the index has: what has left it counts no more.
_COUNT_RULES: Final = """
    SELECT sender, device, code, severity,
           count(DISTINCT broken_rule.sop_instance_uid) AS objects,
           max(at) AS last_at, max(broken_rule.sop_instance_uid) AS example
    FROM broken_rule
         JOIN validation ON validation.sop_instance_uid = broken_rule.sop_instance_uid
         JOIN instance ON instance.sop_instance_uid = broken_rule.sop_instance_uid
    GROUP BY sender, device, code, severity
"""
_COUNT_TOTALS: Final = """
    SELECT count(*), coalesce(sum(CASE WHEN errors > 0 THEN 1 ELSE 0 END), 0)
    FROM validation JOIN instance ON instance.sop_instance_uid = validation.sop_instance_uid
"""
_FORGET_COUNTS: Final = "DELETE FROM validation_count"
_ADD_COUNT: Final = """
    INSERT INTO validation_count (sender, device, code, severity, objects, last_at, example)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_SET_TOTALS: Final = """
    INSERT INTO validation_total (number, objects, not_valid, counted_at) VALUES (1, ?, ?, ?)
    ON CONFLICT (number) DO UPDATE SET
        objects = excluded.objects, not_valid = excluded.not_valid,
        counted_at = excluded.counted_at
"""
_TOTALS: Final = "SELECT objects, not_valid, counted_at FROM validation_total WHERE number = 1"
_RULES: Final = """
    SELECT sender, device, code, severity, objects, last_at, example
    FROM validation_count
    WHERE (CAST(? AS TEXT) = '' OR sender = ?) AND (CAST(? AS TEXT) = '' OR code = ?)
    ORDER BY objects DESC, sender, device, code LIMIT ? OFFSET ?
"""
_REFUSED: Final = """
    INSERT INTO refused_object (
        sop_instance_uid, sop_class_uid, sender, device, why, times, first_at, last_at
    ) VALUES (?, ?, ?, ?, ?, 1, ?, ?)
    ON CONFLICT (sop_instance_uid, sender) DO UPDATE SET
        sop_class_uid = excluded.sop_class_uid, device = excluded.device, why = excluded.why,
        times = refused_object.times + 1, last_at = excluded.last_at
"""
#: One that is as old as the one too many.
_FORGET_REFUSED: Final = """
    DELETE FROM refused_object WHERE last_at < (
        SELECT last_at FROM refused_object ORDER BY last_at DESC LIMIT 1 OFFSET ?
    )
"""
_REFUSALS: Final = """
    SELECT sop_instance_uid, sop_class_uid, sender, device, why, times, first_at, last_at
    FROM refused_object WHERE (CAST(? AS TEXT) = '' OR sender = ?)
    ORDER BY last_at DESC, sop_instance_uid LIMIT ? OFFSET ?
"""
#: Records of what was refused.
MOST_REFUSALS: Final = 10_000
#: Rules that are named of a study.
_MOST_RULES: Final = 200
_KEPT: Final = frozenset((AddOutcome.ADDED, AddOutcome.REPLACED))


class DatabaseValidation:
    """See `isocenter.services.archive.validation.ports.ValidationBook`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    def added(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Objects were added (`isocenter.storage.database.index.records.AddHook`): their marks take
        the place of those of the objects before them."""
        kept = [(record, result) for record, result in added if result.outcome in _KEPT]
        marked = [(record, record.validation) for record, _ in kept if record.validation]
        uids = [
            record.sop_instance_uid
            for record, result in kept
            if record.validation or result.outcome is AddOutcome.REPLACED
        ]
        if not uids:
            return
        forget_validation(connection, uids)
        now = self._now()
        connection.executemany(
            _ADD,
            [
                (
                    record.sop_instance_uid, replace_surrogates(mark.sender),
                    replace_surrogates(mark.device), mark.errors, mark.warnings, now,
                )
                for record, mark in marked
            ],
        )  # fmt: skip
        connection.executemany(
            _ADD_RULE,
            [
                (record.sop_instance_uid, rule.code, rule.severity, rule.path, rule.count)
                for record, mark in marked
                for rule in mark.rules
            ],
        )

    async def of_study(self, study_instance_uid: str) -> StudyValidation:
        """See `ValidationBook.of_study`."""
        return await self._database.read(_of_study, study_instance_uid)

    async def rules_broken(
        self, *, sender: str = "", code: str = "", limit: int, offset: int = 0
    ) -> Sequence[RuleCount]:
        """See `ValidationBook.rules_broken`."""
        return await self._database.read(_rules_broken, sender, code, limit, offset)

    async def totals(self) -> ValidationTotals:
        """See `ValidationBook.totals`."""
        found = await self._database.read(_totals)
        if found is None:
            await self.count()
            found = await self._database.read(_totals)
        return found or ValidationTotals(objects=0, not_valid=0, counted_at=self._now())

    async def count(self) -> None:
        """See `ValidationBook.count`."""
        now = self._now()
        rules, totals = await self._database.read(_counted)
        await self._database.write(_keep_counts, rules, totals, now)

    async def refused(self, refused: RefusedObject) -> None:
        """See `ValidationBook.refused`."""
        now = self._now()
        values = (
            refused.sop_instance_uid, refused.sop_class_uid, replace_surrogates(refused.sender),
            replace_surrogates(refused.device), replace_surrogates(refused.why), now, now,
        )  # fmt: skip
        await self._database.write(_refused, values)

    async def refusals(
        self, *, sender: str = "", limit: int, offset: int = 0
    ) -> Sequence[RefusalRow]:
        """See `ValidationBook.refusals`."""
        return await self._database.read(_refusals, sender, limit, offset)


def forget_validation(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Their marks are no longer theirs."""
    uids = json_list(sop_instance_uids)
    connection.execute(_FORGET_RULES, (uids,))
    connection.execute(_FORGET, (uids,))


def forget_validation_of_gone(
    connection: Connection, sop_instance_uids: Sequence[str], studies: Sequence[str]
) -> None:
    """Objects are gone for good, or back: the former lose their marks (a `ForgetHook`)."""
    gone = [
        uid
        for uid in sop_instance_uids
        if connection.execute(
            "SELECT 1 FROM instance WHERE sop_instance_uid = ? UNION ALL "
            "SELECT 1 FROM trash WHERE sop_instance_uid = ? LIMIT 1",
            (uid, uid),
        ).fetchone()
        is None
    ]
    forget_validation(connection, gone)


def _of_study(connection: Connection, study_instance_uid: str) -> StudyValidation:
    row = connection.execute(_STUDY_TOTALS, (study_instance_uid,)).fetchone()
    assert row is not None
    objects, not_valid = row
    if not objects:
        return StudyValidation()
    rules = connection.execute(_STUDY_RULES, (study_instance_uid, _MOST_RULES)).fetchall()
    return StudyValidation(
        objects=int(objects),
        not_valid=int(not_valid),
        rules=[(str(code), int(count)) for code, count in rules],
    )


def _rules_broken(
    connection: Connection, sender: str, code: str, limit: int, offset: int
) -> Sequence[RuleCount]:
    return rows_as(
        RuleCount, connection.execute(_RULES, (sender, sender, code, code, limit, offset))
    )


def _totals(connection: Connection) -> ValidationTotals | None:
    row = connection.execute(_TOTALS).fetchone()
    if row is None:
        return None
    return ValidationTotals(objects=int(row[0]), not_valid=int(row[1]), counted_at=float(row[2]))


def _counted(connection: Connection) -> tuple[list[tuple[Any, ...]], tuple[int, int]]:
    rules = [tuple(row) for row in connection.execute(_COUNT_RULES)]
    row = connection.execute(_COUNT_TOTALS).fetchone()
    assert row is not None
    return rules, (int(row[0]), int(row[1]))


def _keep_counts(
    connection: Connection, rules: list[tuple[Any, ...]], totals: tuple[int, int], now: float
) -> None:
    connection.execute(_FORGET_COUNTS)
    connection.executemany(_ADD_COUNT, rules)
    connection.execute(_SET_TOTALS, (*totals, now))


def _refused(connection: Connection, values: tuple[object, ...]) -> None:
    connection.execute(_REFUSED, values)
    connection.execute(_FORGET_REFUSED, (MOST_REFUSALS - 1,))


def _refusals(connection: Connection, sender: str, limit: int, offset: int) -> Sequence[RefusalRow]:
    return rows_as(RefusalRow, connection.execute(_REFUSALS, (sender, sender, limit, offset)))
