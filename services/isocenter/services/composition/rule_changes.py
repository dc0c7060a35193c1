"""Rules in the database as people change them, beside those of the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from isocenter.services.archive.rules.ports import RuleStore, StoredRule
from isocenter.services.composition.run_time_rules import (
    COLUMNS,
    BookedRule,
    booked_rules,
    table_of_stored,
)
from isocenter.services.notices import Caller
from isocenter.services.settings.rule_conflicts import conflicts_of_rule
from isocenter.services.settings.rules import MAX_RULES, RuleFault, parse_rule, table_of
from isocenter.services.settings.settings import Settings
from isocenter.services.web.principal import caller_name
from isocenter.services.web.rule_book import (
    InvalidRuleError,
    RuleConflictError,
    UnknownRuleError,
)
from isocenter.services.workflow.nodes.destinations import NodeDestinations


class RuleChanges:
    """Makes, changes, orders and removes rules.

    Args:
        settings: those of the moment.
        destinations: to which rules may send, beside the peers.
        tell: told of each change: who made it, and what it is.
        has_changed: called after each, to have it in use at once.
    """

    def __init__(
        self,
        store: RuleStore,
        settings: Callable[[], Settings],
        destinations: NodeDestinations,
        *,
        tell: Callable[[Caller, str], Awaitable[None]],
        has_changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._settings = settings
        self._destinations = destinations
        self._tell = tell
        self._has_changed = has_changed

    async def all(self) -> Sequence[BookedRule]:
        """Also those of the settings, in the order in which they are looked at."""
        found = await self._store.all()
        return booked_rules(self._settings().rules, found.rules)

    async def is_on(self) -> bool:
        """Whether rules are looked at."""
        return (await self._store.all()).is_on

    async def get(self, name: str) -> BookedRule:
        """One of them.

        Raises:
            UnknownRuleError: there is none of that name.
        """
        for one in await self.all():
            if one.name == name:
                return one
        raise UnknownRuleError(f"there is no rule {name!r}")

    async def add(self, table: Mapping[str, Any], by: Caller) -> None:
        """Make a rule of a table as ``[[rules]]`` has it.

        Raises:
            InvalidRuleError: it cannot be.
            RuleConflictError: there is one of its name.
        """
        rule = await self._checked(table)
        of_settings = self._settings().rules
        if rule.name in {one.name for one in of_settings}:
            raise RuleConflictError(f"the settings have a rule {rule.name!r}; take another name")
        if not await self._store.add(_by(rule, by), MAX_RULES - len(of_settings)):
            if rule.name in {one.name for one in (await self._store.all()).rules}:
                raise RuleConflictError(f"there is a rule {rule.name!r} already; change that one")
            raise InvalidRuleError(f"there may be {MAX_RULES} rules, with those of the settings")
        await self._done(by, f"rule {rule.name!r} was added")

    async def change(
        self, name: str, table: Mapping[str, Any], by: Caller, *, version: int | None = None
    ) -> None:
        """Put another rule of the same name in the place of one.

        Args:
            version: of the one that is meant; None: that of the moment.

        Raises:
            InvalidRuleError: it cannot be.
            UnknownRuleError: there is none in the database.
            RuleConflictError: it was changed meanwhile.
        """
        before = await self._stored(name)
        rule = await self._checked({**table, "name": name})
        wanted = replace(rule, version=before.version if version is None else version)
        if not await self._store.update(_by(wanted, by)):
            raise RuleConflictError(f"rule {name!r} was changed meanwhile; look at it again")
        await self._done(by, f"rule {name!r} was changed")

    async def enable(self, name: str, by: Caller, *, is_enabled: bool) -> None:
        """Have a rule looked at, or not any more; raises as `change`."""
        before = await self._stored(name)
        if before.is_enabled == is_enabled:
            return
        if is_enabled:
            await self._checked(table_of_stored(before) | {"enabled": True})
        if not await self._store.update(_by(replace(before, is_enabled=is_enabled), by)):
            raise RuleConflictError(f"rule {name!r} was changed meanwhile; look at it again")
        await self._done(by, f"rule {name!r} was switched {'on' if is_enabled else 'off'}")

    async def remove(self, name: str, by: Caller) -> None:
        """Forget a rule; what it has queued is sent all the same.

        Raises:
            UnknownRuleError: there is none in the database.
        """
        await self._stored(name)
        if await self._store.remove(name):
            await self._done(by, f"rule {name!r} was removed")

    async def reorder(self, names: Sequence[str], by: Caller) -> None:
        """Have the rules of the database looked at in that order.

        Raises:
            InvalidRuleError: these are not all of them, or others.
        """
        if not await self._store.reorder(names, caller_name(by)):
            raise InvalidRuleError(
                "an order names each rule of the database once, and none of the settings"
            )
        await self._done(by, f"rules were put in order: {', '.join(map(repr, names))}")

    async def switch(self, by: Caller, *, is_on: bool) -> None:
        """Have rules looked at, also those of the settings, or none."""
        await self._store.switch(is_on=is_on)
        await self._done(by, f"all rules were switched {'on' if is_on else 'off'}")

    async def _done(self, by: Caller, what: str) -> None:
        await self._tell(by, what)
        await self._has_changed()

    async def _stored(self, name: str) -> StoredRule:
        found = (await self.get(name)).stored
        if found is None:
            raise UnknownRuleError(f"rule {name!r} stands in the settings, and is changed there")
        return found

    async def _checked(self, table: Mapping[str, Any]) -> StoredRule:
        try:
            rule = parse_rule(dict(table))
        except RuleFault as error:
            raise InvalidRuleError(str(error)) from error
        settings = self._settings()
        destinations = {peer.ae_title for peer in settings.peers}
        routes = []
        for route in rule.routes:
            name: str | None = route.destination
            if name not in destinations:
                name = await self._destinations.find_name(route.destination)
            if name is None:
                raise InvalidRuleError(
                    f"rule {rule.name!r}: {route.destination} is neither a node nor one of the "
                    "peers; add it with isocenter node add, or on the page of nodes"
                )
            node = self._destinations.named(name)
            if route.commit and name not in destinations and node is not None and node.is_web:
                raise InvalidRuleError(
                    f"rule {rule.name!r}: {name} speaks DICOMweb, which has no storage commitment; "
                    "leave out commit, or forward to it by a rule of its own"
                )
            destinations.add(name)
            routes.append(replace(route, destination=name))
        rule = replace(rule, routes=tuple(routes))
        for conflict in conflicts_of_rule(
            rule, settings, destinations, self._destinations.ae_title_of
        ):
            raise InvalidRuleError(conflict.fault)
        written = table_of(rule)
        definition = {key: value for key, value in written.items() if key not in COLUMNS}
        return StoredRule(
            name=rule.name,
            definition=orjson.dumps(definition).decode(),
            is_enabled=rule.enabled,
            priority=rule.priority,
        )


def _by(rule: StoredRule, by: Caller) -> StoredRule:
    return replace(rule, changed_by=caller_name(by))
