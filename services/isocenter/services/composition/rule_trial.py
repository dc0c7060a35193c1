"""Rules as people read them, and a trial of them on an object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.coercion.edits import Edit
from isocenter.services.archive.leaving_changes import NotChangedError, changed
from isocenter.services.archive.object_scan import ObjectScan
from isocenter.services.archive.orders import CompressionOrder
from isocenter.services.archive.rules.arrival_coercion import Coercion
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import (
    Decision,
    Rule,
    Rules,
    as_named,
    places_of,
)
from isocenter.services.archive.rules.explanation import RuleExplanation, explain
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.settings.rules import keyword_of_syntax, tables_of
from isocenter.services.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What would be done with an object, and why.

    Attributes:
        unsent: destinations that would not get it, and why; no values of attributes.
    """

    decision: Decision
    reasons: Sequence[RuleExplanation]
    unsent: Sequence[tuple[str, str]] = ()


def cells_of(rule: Rule) -> tuple[str, ...]:
    """A rule as a row of a table: name, enabled, looks at, forward, area, coerces, kept as,
    quarantine, stop."""
    return (
        rule.name,
        "yes" if rule.enabled else "no",
        ", ".join(condition.field for condition in rule.conditions) or "everything",
        ", ".join(
            (
                *(route.destination for route in rule.routes),
                *(f"{name} (AI)" for name in rule.analyses),
            )
        ),
        rule.area,
        str(len(rule.edits) or ""),
        ", ".join(filter(None, (keyword_of(rule.compression), "signed" if rule.signs else ""))),
        rule.quarantine,
        "yes" if rule.stop else "",
    )


def keyword_of(order: CompressionOrder | None) -> str:
    """What an object is kept in; empty: nothing says so."""
    if order is None or not order.transfer_syntax_uid:
        return ""
    return PIXEL_SYNTAXES[order.transfer_syntax_uid].keyword


async def decide(
    item: DicomObject,
    rules: Sequence[Rule],
    sender: Sender,
    settings: Settings,
    ae_title_of: Callable[[str], str] = as_named,
) -> Verdict:
    """What would be done with an object, were it to come now; nothing is done.

    Args:
        rules: also those that are switched off.

    Raises:
        OperationError: it would be refused, with what its sender would get.
        StorageError, KeyError, OSError: it cannot be read.
    """
    limits = settings.engine_limits()
    system = settings.server.ae_title
    undeclared = settings.storage.undeclared
    in_use = Rules(rules, ae_title_of)
    # Of those that are switched off, too: why they do not match is not for that alone.
    scan = ObjectScan(item.transfer_syntax_uid, limits, places_of(rules), undeclared)
    async for part, _ in item.parts():
        scan.feed(part)
    places = scan.finish().places
    decision = in_use.evaluate(sender, places)
    if decision.edits:
        # Whether an edit fits an object is seen when it is made.
        coercion = Coercion(
            in_use,
            sender,
            item.transfer_syntax_uid,
            system=system,
            limits=limits,
            undeclared=undeclared,
        )
        async for part, _ in item.parts():
            coercion.feed([part])
        coercion.finish()
    unsent = []
    for route in (one for one in decision.routes if one.form.edits):
        edits = route.form.edits
        made = changed(item, edits, system=system, limits=limits, undeclared=undeclared)
        try:
            async with await made.open():
                pass
        except NotChangedError as error:
            unsent.append((route.destination, str(error)))
    return Verdict(decision=decision, reasons=explain(rules, sender, places), unsent=tuple(unsent))


def _edits_in_words(edits: Sequence[Edit]) -> Iterator[tuple[str, str]]:
    """What is done to which attribute."""
    for table in tables_of(edits):
        ((what, tag), *_) = table.items()
        yield what, str(tag)


def words_of(
    decision: Decision, unsent: Sequence[tuple[str, str]] = ()
) -> Iterator[tuple[str, str]]:
    """What is done, a word and a text each; no values of attributes.

    Args:
        unsent: as of `Verdict`.
    """
    yield "matches", ", ".join(decision.rules) or "no rule"
    if decision.quarantine:
        yield "withheld", f"in quarantine: {decision.quarantine}"
    if decision.validation is not None:
        yield "validated", f"policy {decision.validation.value}"
    if decision.area:
        yield "area", decision.area
    for destination in decision.came_from:
        yield "not sent", f"to {destination}: it came from there"
    for destination, why in unsent:
        yield "not sent", f"to {destination}: {why}"
    for route in decision.routes:
        words = [f"to {route.destination}, priority {route.priority.name.lower()}"]
        form = route.form
        words += [f"de-identified as {form.project}"] if form.project else []
        words += [f"{what} ({tag}) there" for what, tag in _edits_in_words(form.edits)]
        syntax = keyword_of_syntax(form.transfer_syntax_uid)
        words += [f"in {syntax} where that is taken"] if syntax else []
        words += [f"after {round(route.delay / 60, 1):g} minutes"] if route.delay else []
        words += ["then ask for storage commitment"] if route.commit else []
        words += ["then delete it here"] if route.delete_after else []
        yield "forward", ", ".join([*words, f"by rule {route.rule}"])
    if decision.expires_by:
        yield "expire", f"with all of its study, by rule {decision.expires_by}"
    for name in decision.analyses:
        yield "analyse", f"by {name}, when no more of the series has come for a while"
    if decision.compression is not None:
        when = "the study is complete" if decision.compression.when_complete else "it is stored"
        keyword = keyword_of(decision.compression)
        yield "compress", f"to {keyword}, when {when}, by rule {decision.compression.rule}"
    if decision.signed_by:
        yield "sign", f"with signatures.sign_key, by rule {decision.signed_by}"
    for what, tag in _edits_in_words(decision.edits):
        yield what, f"({tag})"
