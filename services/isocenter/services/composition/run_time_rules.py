"""Rules in use by a running server, of its settings and of its database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from time import time
from typing import Any, Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.rules.counting import RuleCounter
from isocenter.services.archive.rules.evaluation import Rule, Rules, in_order
from isocenter.services.archive.rules.ports import (
    RuleHistory,
    RuleSet,
    RuleStore,
    StoredRule,
)
from isocenter.services.concurrency import Latch
from isocenter.services.errors import StorageError
from isocenter.services.settings.rules import RuleFault, parse_rule, table_of

log = logging.getLogger("isocenter.rules")

#: What has changed in the database is in use everywhere after so long, if nobody says it sooner.
LOOK_SECONDS: Final = 2.0
#: Keys of a rule that have columns of their own in the database.
COLUMNS: Final = frozenset({"name", "enabled", "priority"})
#: How often what rules matched is written down, and how often what is old is forgotten.
_COUNT_SECONDS: Final = 1.0
_FORGET_SECONDS: Final = 3_600.0
#: How long that may take when the server stops.
_GOODBYE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedRule:
    """A rule, and where it stands.

    Attributes:
        table: as ``[[rules]]`` would have it.
        rule: None: it cannot be used; *fault* says why.
        stored: None: it stands in the settings.
    """

    name: str
    table: dict[str, Any]
    rule: Rule | None
    stored: StoredRule | None
    fault: str = ""

    @property
    def is_enabled(self) -> bool:
        """Whether it is looked at; the switch of all rules is another matter."""
        return bool(self.table.get("enabled", True))


def booked_rules(of_settings: Sequence[Rule], stored: Sequence[StoredRule]) -> list[BookedRule]:
    """All rules, in the order in which they are looked at: of one priority those of the settings
    come first."""
    booked = [
        BookedRule(name=rule.name, table=table_of(rule), rule=rule, stored=None)
        for rule in in_order(of_settings)
    ]
    names = {rule.name for rule in of_settings}
    booked += [_booked(one, names) for one in stored]
    return sorted(booked, key=lambda one: -one.table.get("priority", 0))


def _booked(stored: StoredRule, names: set[str]) -> BookedRule:
    table = table_of_stored(stored)
    rule: Rule | None = None
    fault = ""
    if stored.name in names:
        fault = f"rule {stored.name!r}: one of the settings has that name; rename one"
    else:
        try:
            rule = parse_rule(table)
        except RuleFault as error:
            # It was made by a newer program, or by hand.
            fault = str(error)
    return BookedRule(name=stored.name, table=table, rule=rule, stored=stored, fault=fault)


def table_of_stored(stored: StoredRule) -> dict[str, Any]:
    """As ``[[rules]]`` would have it."""
    definition: dict[str, Any]
    try:
        definition = dict(orjson.loads(stored.definition))
    except (ValueError, TypeError):
        definition = {"unreadable": True}
    table: dict[str, Any] = {"name": stored.name}
    if not stored.is_enabled:
        table["enabled"] = False
    if stored.priority:
        table["priority"] = stored.priority
    return table | definition


class RunTimeRules:
    """Has the rules of now in use, in one process of a server.

    Args:
        of_settings: those of the settings when it starts.
        use: has these for what is stored from now on.
        ae_title_of: as of `Rules`.
    """

    def __init__(
        self,
        store: RuleStore,
        of_settings: Sequence[Rule],
        use: Callable[[Rules], None],
        ae_title_of: Callable[[str], str],
    ) -> None:
        self._store = store
        self._of_settings = of_settings
        self._use = use
        self._ae_title_of = ae_title_of
        self._set = RuleSet(revision=-1)
        self._told: set[str] = set()
        self._changed = Latch()

    @property
    def is_on(self) -> bool:
        """Whether rules are looked at."""
        return self._set.is_on

    def take(self, of_settings: Sequence[Rule]) -> None:
        """Others stand in the settings; and those of the database may have changed as well."""
        self._of_settings = of_settings
        self._exchange()
        self._changed.set()

    async def look(self) -> None:
        """Take up what has changed in the database.

        Raises:
            StorageError: it cannot be read.
        """
        if await self._store.revision() != self._set.revision:
            self._set = await self._store.all()
            self._exchange()
            log.info("rules of the database, revision %d: in use", self._set.revision)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.look()
            except StorageError as error:
                log.error("rules stay as they were: %s", error)
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("rules stay as they were: internal error (%s)", type(error).__name__)
            with trio.move_on_after(LOOK_SECONDS):
                await self._changed.wait()

    def _exchange(self) -> None:
        booked = booked_rules(self._of_settings, self._set.rules)
        faults = {one.fault for one in booked if one.fault}
        for fault in sorted(faults - self._told):
            log.error("a rule is not in use: %s", fault)
        self._told = faults
        usable = [one.rule for one in booked if one.rule is not None] if self._set.is_on else []
        self._use(Rules(usable, self._ae_title_of))


async def keep_counts(counter: RuleCounter, history: RuleHistory, keep_seconds: float) -> None:
    """Write down again and again what rules matched, until cancelled; what is older than
    *keep_seconds* is forgotten, but for its number."""
    forget_at = -inf
    try:
        while True:
            await trio.sleep(_COUNT_SECONDS)
            await write_counts(counter, history)
            if trio.current_time() >= forget_at:
                forget_at = trio.current_time() + _FORGET_SECONDS
                try:
                    await history.forget(time() - keep_seconds)
                except Exception as error:
                    log.error("what rules did is kept for longer (%s)", type(error).__name__)
    finally:
        with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
            await write_counts(counter, history)


async def write_counts(counter: RuleCounter, history: RuleHistory) -> None:
    """Write down what rules matched since that was done last."""
    firings = counter.take()
    if counter.lost:
        log.warning("%d objects that rules matched are not in their history", counter.lost)
        counter.lost = 0
    if not firings:
        return
    try:
        await history.note(firings)
    except StorageError as error:
        counter.put_back(firings)
        log.error("what rules did is written down later: %s", error)
    except Exception as error:
        # A fault of ours, and no reason for the server to end.
        log.error("what rules did is not remembered: internal error (%s)", type(error).__name__)
