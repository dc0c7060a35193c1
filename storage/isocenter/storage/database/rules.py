"""Rules in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any, Final

from isocenter.services.archive.rules.ports import RuleSet, StoredRule
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.expiry import rule_gone
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_COLUMNS: Final = (
    "name, definition, is_enabled, priority, position, version, changed_by, changed_at"
)
_ALL: Final = f"SELECT {_COLUMNS} FROM routing_rule ORDER BY priority DESC, position, name"  # noqa: S608
_ADD: Final = """
    INSERT INTO routing_rule
        (name, definition, is_enabled, priority, position, version, changed_by, changed_at)
    SELECT :name, :definition, :is_enabled, :priority,
        (SELECT coalesce(max(position), 0) + 1 FROM routing_rule), 1, :changed_by, :now
    WHERE (SELECT count(*) FROM routing_rule) < :most
    ON CONFLICT (name) DO NOTHING
"""
_UPDATE: Final = """
    UPDATE routing_rule SET definition = :definition, is_enabled = :is_enabled,
        priority = :priority, version = version + 1, changed_by = :changed_by, changed_at = :now
    WHERE name = :name AND version = :version
"""
_PLACE: Final = """
    UPDATE routing_rule SET priority = :priority, position = :position, version = version + 1,
        changed_by = :changed_by, changed_at = :now
    WHERE name = :name AND (priority <> :priority OR position <> :position)
"""


class DatabaseRules:
    """See `isocenter.services.archive.rules.ports.RuleStore`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Clock = time) -> None:
        self._database = database
        self._now = now

    async def revision(self) -> int:
        """See `RuleStore.revision`."""
        return await self._database.read(_revision)

    async def all(self) -> RuleSet:
        """See `RuleStore.all`."""
        return await self._database.read(_all)

    async def add(self, rule: StoredRule, most: int) -> bool:
        """See `RuleStore.add`."""
        values = _values(rule) | {"now": self._now(), "most": most}
        return await self._database.write(_change, _ADD, values)

    async def update(self, rule: StoredRule) -> bool:
        """See `RuleStore.update`."""
        return await self._database.write(_change, _UPDATE, _values(rule) | {"now": self._now()})

    async def remove(self, name: str) -> bool:
        """See `RuleStore.remove`."""
        values = {"name": replace_surrogates(name)}
        is_removed = await self._database.write(
            _change, "DELETE FROM routing_rule WHERE name = :name", values
        )
        is_marked = is_removed
        while is_marked:
            is_marked = await self._database.write(rule_gone, values["name"])
        return is_removed

    async def reorder(self, names: Sequence[str], changed_by: str) -> bool:
        """See `RuleStore.reorder`."""
        return await self._database.write(
            _reorder, [replace_surrogates(name) for name in names], changed_by, self._now()
        )

    async def switch(self, *, is_on: bool) -> None:
        """See `RuleStore.switch`."""
        await self._database.write(
            _change,
            "UPDATE routing_state SET is_on = :is_on WHERE is_on <> :is_on",
            {"is_on": int(is_on)},
        )


def _revision(connection: Connection) -> int:
    (revision,) = connection.execute("SELECT revision FROM routing_state").fetchone()
    return int(revision)


def _all(connection: Connection) -> RuleSet:
    revision, is_on = connection.execute("SELECT revision, is_on FROM routing_state").fetchone()
    rules = rows_as(StoredRule, connection.execute(_ALL), is_enabled=bool)
    return RuleSet(revision=revision, is_on=bool(is_on), rules=tuple(rules))


def _change(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    is_done = bool(connection.execute(statement, values).rowcount)
    if is_done:
        _advance(connection)
    return is_done


def _advance(connection: Connection) -> None:
    connection.execute("UPDATE routing_state SET revision = revision + 1")


def _reorder(connection: Connection, names: Sequence[str], changed_by: str, now: float) -> bool:
    rules = rows_as(StoredRule, connection.execute(_ALL), is_enabled=bool)
    if sorted(names) != sorted(rule.name for rule in rules):
        return False
    for place, (name, rule) in enumerate(zip(names, rules, strict=True), 1):
        values = {"name": name, "priority": rule.priority, "position": place}
        values |= {"changed_by": replace_surrogates(changed_by), "now": now}
        connection.execute(_PLACE, values)
    _advance(connection)
    return True


def _values(rule: StoredRule) -> dict[str, Any]:
    return {
        "name": replace_surrogates(rule.name),
        "definition": replace_surrogates(rule.definition),
        "is_enabled": int(rule.is_enabled),
        "priority": rule.priority,
        "version": rule.version,
        "changed_by": replace_surrogates(rule.changed_by),
    }
