"""Rules as people read them, and a trial of them on an object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.object_scan import ObjectScan
from isocenter.services.archive.ports import CompressionOrder, StoredInstance
from isocenter.services.archive.rules.arrival_coercion import Coercion
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import Decision, Rule, Rules
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.settings.rules import table_of_edit
from isocenter.services.settings.settings import Settings
from isocenter.services.web.rule_book import ShownRule, Trial

#: Objects of a study that rules are tried on: each is read.
MOST_TRIED: Final = 100


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Rules in the order in which they are looked at, with those that are switched off."""
    return sorted(rules, key=lambda rule: -rule.priority)


def cells_of(rule: Rule) -> tuple[str, ...]:
    """A rule as a row of a table: name, enabled, looks at, forward, area, coerces, compress,
    quarantine, stop."""
    return (
        rule.name,
        "yes" if rule.enabled else "no",
        ", ".join(condition.field for condition in rule.conditions) or "everything",
        ", ".join(route.destination for route in rule.routes),
        rule.area,
        str(len(rule.edits) or ""),
        keyword_of(rule.compression),
        rule.quarantine,
        "yes" if rule.stop else "",
    )


def keyword_of(order: CompressionOrder | None) -> str:
    """What an object is kept in; empty: nothing says so."""
    return "" if order is None else PIXEL_SYNTAXES[order.transfer_syntax_uid].keyword


async def decide(item: DicomObject, rules: Rules, sender: Sender, settings: Settings) -> Decision:
    """What would be done with an object, were it to come now; nothing is done.

    Raises:
        OperationError: it would be refused, with what its sender would get.
        StorageError, KeyError, OSError: it cannot be read.
    """
    limits = settings.engine_limits()
    undeclared = settings.storage.undeclared
    scan = ObjectScan(item.transfer_syntax_uid, limits, rules.places, undeclared)
    async for part, _ in item.parts():
        scan.feed(part)
    decision = rules.evaluate(sender, scan.finish().places)
    if decision.edits:
        # Whether an edit fits an object is seen when it is made.
        coercion = Coercion(
            rules,
            sender,
            item.transfer_syntax_uid,
            system=settings.server.ae_title,
            limits=limits,
            undeclared=undeclared,
        )
        async for part, _ in item.parts():
            coercion.feed([part])
        coercion.finish()
    return decision


def words_of(decision: Decision) -> Iterator[tuple[str, str]]:
    """What is done, a word and a text each; no values of attributes."""
    yield "matches", ", ".join(decision.rules) or "no rule"
    if decision.quarantine:
        yield "withheld", f"in quarantine: {decision.quarantine}"
    if decision.area:
        yield "area", decision.area
    for route in decision.routes:
        words = [f"to {route.destination}, priority {route.priority.name.lower()}"]
        words += [f"after {route.delay / 60:g} minutes"] if route.delay else []
        words += ["then ask for storage commitment"] if route.commit else []
        words += ["then delete it here"] if route.delete_after else []
        yield "forward", ", ".join([*words, f"by rule {route.rule}"])
    if decision.compression is not None:
        when = "the study is complete" if decision.compression.when_complete else "it is stored"
        keyword = keyword_of(decision.compression)
        yield "compress", f"to {keyword}, when {when}, by rule {decision.compression.rule}"
    for edit in decision.edits:
        ((what, tag), *_) = table_of_edit(edit).items()
        yield what, f"({tag})"


class RunningRules:
    """The `RuleBook` of a server.

    Args:
        settings: those of the moment.
    """

    def __init__(self, archive: Archive, settings: Callable[[], Settings]) -> None:
        self._archive = archive
        self._settings = settings

    def rules(self) -> Sequence[ShownRule]:
        """Those that are set, in the order in which they are looked at."""
        return [_shown(rule) for rule in in_order(self._settings().rules)]

    async def try_on(self, study: str, calling: str, called: str) -> tuple[Sequence[Trial], bool]:
        """What they would do with a study, were it to come now."""
        settings = self._settings()
        rules = Rules(settings.rules)
        sender = Sender(
            calling_ae_title=calling, called_ae_title=called or settings.server.ae_title
        )
        criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study))
        found: list[StoredInstance] = []
        async with self._archive.index.instances(
            Query(level=Level.STUDY, criteria=(criterion,))
        ) as blocks:
            async for block in blocks:
                found += block
                if len(found) > MOST_TRIED:
                    break
        outcomes: Counter[tuple[tuple[tuple[str, str], ...], str]] = Counter()
        for stored in found[:MOST_TRIED]:
            outcomes[await self._outcome(stored, rules, sender, settings)] += 1
        trials = [
            Trial(instances=count, words=words, fault=fault)
            for (words, fault), count in outcomes.most_common()
        ]
        return trials, len(found) > MOST_TRIED

    async def _outcome(
        self, stored: StoredInstance, rules: Rules, sender: Sender, settings: Settings
    ) -> tuple[tuple[tuple[str, str], ...], str]:
        item = stored_object(stored, self._archive.open)
        try:
            return tuple(words_of(await decide(item, rules, sender, settings))), ""
        except OperationError as error:
            return (), f"they would be refused with {error}"
        except KeyError:
            return (), "they went while the rules were tried"


def _shown(rule: Rule) -> ShownRule:
    name, _, looks_at, forward, area, coerces, compress, quarantine, stop = cells_of(rule)
    return ShownRule(
        name=name,
        enabled=rule.enabled,
        looks_at=looks_at,
        forward=forward,
        area=area,
        coerces=coerces,
        compress=compress,
        quarantine=quarantine,
        stop=stop,
    )
