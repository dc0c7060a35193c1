"""Rules of a running server as pages and API show, change and try them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.rules.conditions import FIELDS, Sender
from isocenter.services.archive.rules.evaluation import Rule, Rules, as_named
from isocenter.services.archive.rules.explanation import explain
from isocenter.services.archive.rules.ports import RuleCount, RuleFiring, RuleHistory
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.composition.rule_changes import RuleChanges
from isocenter.services.composition.rule_trial import cells_of, decide, words_of
from isocenter.services.composition.run_time_rules import COLUMNS, BookedRule
from isocenter.services.dicom.attribute_path import (
    KeySyntaxError,
    TagOrPath,
    parse_attribute_path,
)
from isocenter.services.errors import OperationError
from isocenter.services.notices import Caller, Notices, RulesChanged
from isocenter.services.settings.rules import text_of_table
from isocenter.services.settings.settings import Settings
from isocenter.services.web.rule_book import InvalidRuleError, ShownRule, Trial
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.storage.stores import Stores

#: Objects of a study that rules are tried on: each is read.
MOST_TRIED: Final = 100

_Words = tuple[tuple[str, str], ...]


class RunningRules:
    """The `RuleBook` of a server.

    Args:
        settings: those of the moment.
        ae_title_of: as of `Rules`.
    """

    def __init__(
        self,
        archive: Archive,
        settings: Callable[[], Settings],
        changes: RuleChanges,
        history: RuleHistory,
        ae_title_of: Callable[[str], str] = as_named,
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._changes = changes
        self._history = history
        self._ae_title_of = ae_title_of

    async def rules(self) -> Sequence[ShownRule]:
        """Those that there are, in the order in which they are looked at."""
        counts = await self._history.counts()
        return [_shown(one, counts.get(one.name)) for one in await self._changes.all()]

    async def is_on(self) -> bool:
        """See `RuleBook.is_on`."""
        return await self._changes.is_on()

    async def add(self, table: Mapping[str, Any], by: Caller) -> None:
        """See `RuleBook.add`."""
        await self._changes.add(table, by)

    async def change(
        self, name: str, table: Mapping[str, Any], by: Caller, *, version: int | None = None
    ) -> None:
        """See `RuleBook.change`."""
        await self._changes.change(name, table, by, version=version)

    async def enable(self, name: str, by: Caller, *, is_enabled: bool) -> None:
        """See `RuleBook.enable`."""
        await self._changes.enable(name, by, is_enabled=is_enabled)

    async def remove(self, name: str, by: Caller) -> None:
        """See `RuleBook.remove`."""
        await self._changes.remove(name, by)

    async def reorder(self, names: Sequence[str], by: Caller) -> None:
        """See `RuleBook.reorder`."""
        await self._changes.reorder(names, by)

    async def switch(self, by: Caller, *, is_on: bool) -> None:
        """See `RuleBook.switch`."""
        await self._changes.switch(by, is_on=is_on)

    async def try_on(self, study: str, calling: str, called: str) -> tuple[Sequence[Trial], bool]:
        """What they would do with a study, were it to come now."""
        rules = await self._usable()
        found = await instances_of(self._archive, study)
        outcomes: Counter[tuple[_Words, str, _Words]] = Counter()
        for stored in found[:MOST_TRIED]:
            outcomes[await self._outcome(stored, rules, self._sender(calling, called))] += 1
        trials = [
            Trial(instances=count, words=words, fault=fault, reasons=reasons)
            for (words, fault, reasons), count in outcomes.most_common()
        ]
        return trials, len(found) > MOST_TRIED

    async def try_values(self, values: Mapping[str, str], calling: str, called: str) -> Trial:
        """See `RuleBook.try_values`."""
        rules = await self._usable()
        sender = self._sender(calling, called)
        attributes: dict[TagOrPath, str] = {}
        for name, value in values.items():
            try:
                place: TagOrPath = FIELDS[name] if name in FIELDS else _place(name)
            except KeySyntaxError as error:
                raise InvalidRuleError(str(error)) from error
            attributes[place] = value
        decision = Rules(rules, self._ae_title_of).evaluate(sender, attributes)
        reasons = [(one.rule, one.why) for one in explain(rules, sender, attributes)]
        return Trial(instances=1, words=tuple(words_of(decision)), reasons=reasons)

    async def firings(self, *, study: str = "", rule: str = "", limit: int) -> Sequence[RuleFiring]:
        """See `RuleBook.firings`."""
        return await self._history.firings(study=study, rule=rule, limit=limit)

    async def _usable(self) -> list[Rule]:
        return [one.rule for one in await self._changes.all() if one.rule is not None]

    def _sender(self, calling: str, called: str) -> Sender:
        return Sender(
            calling_ae_title=calling,
            called_ae_title=called or self._settings().server.ae_title,
        )

    async def _outcome(
        self, stored: StoredInstance, rules: Sequence[Rule], sender: Sender
    ) -> tuple[_Words, str, _Words]:
        item = stored_object(stored, self._archive.open)
        try:
            verdict = await decide(item, rules, sender, self._settings(), self._ae_title_of)
        except OperationError as error:
            return (), f"they would be refused with {error}", ()
        except KeyError:
            return (), "they went while the rules were tried", ()
        reasons = tuple((one.rule, one.why) for one in verdict.reasons)
        return tuple(words_of(verdict.decision, verdict.unsent)), "", reasons


async def instances_of(archive: Archive, study: str) -> list[StoredInstance]:
    """The first objects of a study: one more than are tried, if it has so many."""
    criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study))
    found: list[StoredInstance] = []
    query = Query(level=Level.STUDY, criteria=(criterion,))
    async with archive.index.instances(query) as blocks:
        async for block in blocks:
            found += block
            if len(found) > MOST_TRIED:
                break
    return found[: MOST_TRIED + 1]


def _place(name: str) -> TagOrPath:
    sequences, tag = path = parse_attribute_path(name)
    return path if sequences else tag


def _shown(booked: BookedRule, count: RuleCount | None) -> ShownRule:
    if booked.rule is not None:
        _, _, looks_at, forward, area, coerces, compress, quarantine, stop = cells_of(booked.rule)
    else:
        looks_at = forward = area = coerces = compress = quarantine = stop = ""
    stored = booked.stored
    return ShownRule(
        name=booked.name,
        enabled=booked.is_enabled,
        looks_at=looks_at,
        forward=forward,
        area=area,
        coerces=coerces,
        compress=compress,
        quarantine=quarantine,
        stop=stop,
        priority=booked.table.get("priority", 0),
        table=booked.table,
        text=text_of_table(
            {key: value for key, value in booked.table.items() if key not in COLUMNS}
        ),
        is_of_settings=stored is None,
        fault=booked.fault,
        version=0 if stored is None else stored.version,
        changed_by="" if stored is None else stored.changed_by,
        changed_at=None if stored is None else stored.changed_at,
        count=count or RuleCount(),
    )


def running_rules(
    archive: Archive,
    stores: Stores,
    destinations: NodeDestinations,
    settings: Callable[[], Settings],
    notices: Notices,
    *,
    has_changed: Callable[[], Awaitable[None]],
) -> RunningRules:
    """Rules of a server, whose changes its audit trail is told of.

    Args:
        has_changed: as of `RuleChanges`.
    """

    async def tell(by: Caller, what: str) -> None:
        notices.publish(RulesChanged(caller=by, what=what))

    changes = RuleChanges(stores.rules, settings, destinations, tell=tell, has_changed=has_changed)
    return RunningRules(archive, settings, changes, stores.rule_history, destinations.ae_title_of)
