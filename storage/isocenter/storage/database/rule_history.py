"""History of rules in the database."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from isocenter.services.archive.rules.ports import RuleCount, RuleFiring
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import larger
from isocenter.storage.database.rows import named_rows, rows_as
from isocenter.storage.database.text import replace_surrogates

_NOTE: Final = f"""
    INSERT INTO rule_firing
        (study_instance_uid, rule, calling_ae, objects, first_at, last_at)
    VALUES (:study, :rule, :calling_ae, :objects, :first_at, :last_at)
    ON CONFLICT (study_instance_uid, rule, calling_ae) DO UPDATE SET
        objects = rule_firing.objects + excluded.objects,
        last_at = {larger("rule_firing.last_at", "excluded.last_at")}
"""
_COUNT: Final = f"""
    INSERT INTO rule_count (rule, matched, sent, failed, last_at)
    VALUES (:rule, :objects, 0, 0, :last_at)
    ON CONFLICT (rule) DO UPDATE SET matched = rule_count.matched + excluded.matched,
        last_at = {larger("coalesce(rule_count.last_at, 0)", "excluded.last_at")}
"""
_COUNT_SENT: Final = """
    INSERT INTO rule_count (rule, matched, sent, failed) VALUES (:rule, 0, :sent, :failed)
    ON CONFLICT (rule) DO UPDATE SET sent = rule_count.sent + excluded.sent,
        failed = rule_count.failed + excluded.failed
"""
_COUNT_DELETED: Final = """
    INSERT INTO rule_count (rule, matched, sent, failed, deleted) VALUES (:rule, 0, 0, 0, :deleted)
    ON CONFLICT (rule) DO UPDATE SET deleted = rule_count.deleted + excluded.deleted
"""
FIRINGS: Final = """
    SELECT rule, study_instance_uid, calling_ae, objects, first_at, last_at FROM rule_firing
    WHERE {condition} ORDER BY last_at DESC, study_instance_uid, rule LIMIT :limit
"""


class DatabaseRuleHistory:
    """See `isocenter.services.archive.rules.ports.RuleHistory`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, firings: Sequence[RuleFiring]) -> None:
        """See `RuleHistory.note`."""
        await self._database.write(_note, firings)

    async def counts(self) -> Mapping[str, RuleCount]:
        """See `RuleHistory.counts`."""
        return await self._database.read(_counts)

    async def firings(self, *, study: str = "", rule: str = "", limit: int) -> Sequence[RuleFiring]:
        """See `RuleHistory.firings`."""
        values = {
            "study": replace_surrogates(study),
            "rule": replace_surrogates(rule),
            "limit": limit,
        }
        conditions = [
            text
            for value, text in ((study, "study_instance_uid = :study"), (rule, "rule = :rule"))
            if value
        ]
        statement = FIRINGS.format(condition=" AND ".join(conditions) or "1 = 1")
        return await self._database.read(_firings, statement, values)

    async def forget(self, before: float) -> int:
        """See `RuleHistory.forget`."""
        return await self._database.write(_forget, before)


def count_sent(connection: Connection, sent: Mapping[str, int], failed: Mapping[str, int]) -> None:
    """Count what arrived of each rule, and what was given up, in the caller's transaction."""
    for rule in sorted({*sent, *failed}):
        values = {"rule": rule, "sent": sent.get(rule, 0), "failed": failed.get(rule, 0)}
        connection.execute(_COUNT_SENT, values)


def count_deleted(connection: Connection, deleted: Mapping[str, int]) -> None:
    """Count what was past its time, by rule, in the caller's transaction."""
    for rule in sorted(deleted):
        connection.execute(_COUNT_DELETED, {"rule": rule, "deleted": deleted[rule]})


def _note(connection: Connection, firings: Sequence[RuleFiring]) -> None:
    # In one order in all processes: two that write the same rows never wait for each other.
    for one in sorted(firings, key=lambda one: (one.rule, one.study_instance_uid, one.calling_ae)):
        values: dict[str, Any] = {
            "study": replace_surrogates(one.study_instance_uid),
            "rule": replace_surrogates(one.rule),
            "calling_ae": replace_surrogates(one.calling_ae),
            "objects": one.objects,
            "first_at": one.first_at,
            "last_at": one.last_at,
        }
        connection.execute(_NOTE, values)
        connection.execute(_COUNT, values)


def _counts(connection: Connection) -> Mapping[str, RuleCount]:
    rows = connection.execute(
        "SELECT rule, matched, sent, failed, deleted, last_at FROM rule_count"
    )
    return {row.pop("rule"): RuleCount(**row) for row in named_rows(rows)}


def _firings(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[RuleFiring]:
    return rows_as(RuleFiring, connection.execute(statement, values))


def _forget(connection: Connection, before: float) -> int:
    return connection.execute("DELETE FROM rule_firing WHERE last_at < ?", (before,)).rowcount
