"""``isocenter rules``: show and change rules, try them, and tell what they did."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services import composition
from isocenter.services.archive.orders import CompressionOrder
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import Rule
from isocenter.services.archive.rules.explanation import RuleExplanation
from isocenter.services.archive.rules.ports import RuleCount, RuleFiring
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.rule_changes import (
    CHANGES,
    add_change_arguments,
    change,
)
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, ae_title
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.examination import has_index_of_today
from isocenter.services.composition.rule_book import MOST_TRIED, instances_of
from isocenter.services.composition.rule_trial import (
    Verdict,
    cells_of,
    decide,
    keyword_of,
    words_of,
)
from isocenter.services.composition.run_time_rules import BookedRule, booked_rules
from isocenter.services.dicom.objects import DicomObject, NotDicomFileError
from isocenter.services.errors import OperationError, text_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import overrides_from
from isocenter.services.settings.rules import keyword_of_syntax, tables_of
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.nodes.destinations import NodeDestinations

DESCRIPTION: Final = """\
Rules for what is stored: those of the settings, and those that are made here while the server
runs.  Show and change them, try them without storing anything, and tell what they did."""
EXAMPLES: Final = """\
examples:
  isocenter rules list
  isocenter rules add "CT to the PACS" --when modality=CT --when 'calling_ae=!PACS' --forward PACS
  isocenter rules add "research" --toml rule.toml
  isocenter rules change "CT to the PACS" --forward PACS --forward ARCHIVE --delay-minutes 10
  isocenter rules disable research
  isocenter rules order research "CT to the PACS"
  isocenter rules test --calling-ae CT1 image.dcm
  isocenter rules explain 1.2.840.113619.2.55.3
  isocenter rules explain image.dcm --calling-ae CT1
  isocenter rules off

All of them may run while the server does; a change is in use within two seconds.

exit codes: 0 done, 1 there is no such rule or study, or a file is no DICOM object, 2 arguments or
settings, or a rule that cannot be"""

_HEAD: Final = (
    "order", "rule", "enabled", "looks at", "forward", "area", "coerces", "kept as", "quarantine",
    "stop", "from", "matched", "sent", "failed", "deleted",
)  # fmt: skip
_FIRINGS_HEAD: Final = ("last", "first", "rule", "from", "objects")
_MOST_FIRINGS: Final = 100
_LOOKS_LIKE_UID: Final = re.compile(r"[0-9.]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of rules."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list the rules in the order in which they are looked at"),
            ("test", "say which rules match a file, and what they would do"),
            ("explain", "say of each rule whether it matches a study or a file, and why not"),
            *CHANGES,
        ),
    ):
        add_archive_options(action)
        if name not in ("list", "test", "explain"):
            add_change_arguments(name, action)
            continue
        action.add_argument("--json", action="store_true", help="for programs")
        if name != "list":
            for flag, text in (
                ("--calling-ae", "as if it came from this AE title"),
                ("--called-ae", "as if it was sent to this AE title (default: ours)"),
            ):
                action.add_argument(flag, type=ae_title, metavar="AET", help=text)
        if name == "test":
            action.add_argument("paths", nargs="+", metavar="FILE", help="files and folders")
        elif name == "explain":
            action.add_argument(
                "target", metavar="STUDY|FILE", help="Study Instance UID, or a file"
            )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        try:
            settings = load_settings(arguments.config, overrides=overrides_from(arguments))
        except SettingsError as error:
            raise UsageError(str(error)) from error
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            code = await _act(settings, arguments, terminal)
        return code  # noqa: RET504 - when interrupted, the one from before

    return run_task(terminal, work)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    """The rules of the settings, and of the archive if there is one.

    Attributes:
        parts: the archive; None: there is none yet.
    """

    settings: Settings
    rules: Sequence[BookedRule]
    parts: composition.ArchiveParts | None
    destinations: NodeDestinations | None

    def usable(self) -> list[Rule]:
        return [one.rule for one in self.rules if one.rule is not None]

    def ae_title_of(self, destination: str) -> str:
        if self.destinations is None:
            return destination
        return self.destinations.ae_title_of(destination)


async def _act(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with AsyncExitStack() as stack:
        parts = destinations = None
        is_change = arguments.action not in ("list", "test", "explain")
        has_archive = not settings.storage.is_in_memory and composition.has_index(settings)
        if has_archive and not is_change:
            # Who only looks migrates nothing.
            has_archive = await trio.to_thread.run_sync(has_index_of_today, settings)
            if not has_archive:
                terminal.note(
                    f"{settings.storage.data_dir}: the index is damaged, or of another version; "
                    "rules of the database are left out"
                )
        if has_archive:
            parts = await stack.enter_async_context(
                composition.open_archive_parts(settings, lock=False, recover=False)
            )
            destinations = NodeDestinations(
                parts.stores.nodes,
                parts.stores.limits,
                is_peer={peer.ae_title for peer in settings.peers}.__contains__,
            )
            await destinations.look()
        if is_change:
            if parts is None or destinations is None:
                raise UsageError(
                    f"{settings.storage.data_dir}: no archive is there; give its directory with "
                    "--data-dir"
                )
            return await change(settings, parts.stores.rules, destinations, arguments, terminal)
        stored = () if parts is None else (await parts.stores.rules.all()).rules
        book = _Book(
            settings=settings,
            rules=booked_rules(settings.rules, stored),
            parts=parts,
            destinations=destinations,
        )
        if not book.rules and arguments.action != "explain":
            raise UsageError(
                "there are no rules; isocenter rules add makes one, or add [[rules]] to the "
                "configuration, see docs/how-to/rules"
            )
        match arguments.action:
            case "list":
                return await _list(book, arguments, terminal)
            case "test":
                return await _test(book, arguments, terminal)
            case _:
                return await _explain(book, arguments, terminal)


async def _list(book: _Book, arguments: argparse.Namespace, terminal: Terminal) -> int:
    counts = {} if book.parts is None else await book.parts.stores.rule_history.counts()
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        rows = [_described_rule(one, counts.get(one.name, RuleCount())) for one in book.rules]
        out.write(orjson.dumps(rows).decode() + "\n")
        return EXIT_OK
    cells = []
    for number, one in enumerate(book.rules, 1):
        count = counts.get(one.name, RuleCount())
        rule = cells_of(one.rule) if one.rule is not None else (one.name, "FAULT", *[""] * 7)
        source = "settings" if one.stored is None else "database"
        figures = tuple(map(str, (count.matched, count.sent, count.failed, count.deleted)))
        cells.append(tuple(map(shown, (str(number), *rule, source, *figures))))
    print_table(out, _HEAD, cells)
    for one in book.rules:
        if one.fault:
            terminal.error(f"not in use: {one.fault}")
    if book.parts is not None and not (await book.parts.stores.rules.all()).is_on:
        terminal.note("rules are switched off; isocenter rules on")
    return EXIT_OK


def _described_rule(one: BookedRule, count: RuleCount) -> dict[str, object]:
    return {
        **one.table,
        "enabled": one.is_enabled,
        "source": "settings" if one.stored is None else "database",
        "fault": one.fault,
        "matched": count.matched,
        "sent": count.sent,
        "failed": count.failed,
        "deleted": count.deleted,
        "last": local_time(count.last_at),
    }


def _sender(book: _Book, arguments: argparse.Namespace) -> Sender:
    return Sender(
        calling_ae_title=arguments.calling_ae or "",
        called_ae_title=arguments.called_ae or book.settings.server.ae_title,
    )


async def _test(book: _Book, arguments: argparse.Namespace, terminal: Terminal) -> int:
    sender = _sender(book, arguments)
    out = prepare_stdout("json" if arguments.json else "table")
    results = []
    code = EXIT_OK
    for path in _files(arguments.paths):
        try:
            item = await DicomObject.from_file(path)
            verdict = await decide(item, book.usable(), sender, book.settings, book.ae_title_of)
        except (NotDicomFileError, OperationError, OSError) as error:
            terminal.error(_fault(path, error))
            code = EXIT_FAILED
            continue
        if arguments.json:
            results.append({"file": str(path)} | _described(verdict))
        else:
            out.write("\n".join((shown(str(path)), *_lines(verdict))) + "\n")
    if arguments.json:
        out.write(orjson.dumps(results).decode() + "\n")
    return code


async def _explain(book: _Book, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Of a study: each kind of objects by itself, and what rules did when it came."""
    path = Path(arguments.target)
    is_study = _LOOKS_LIKE_UID.fullmatch(arguments.target) is not None
    is_study = is_study and not await trio.Path(path).exists()
    if is_study and not is_uid(arguments.target):
        raise UsageError(f"{arguments.target} is neither a file nor a UID")
    firings: Sequence[RuleFiring] = ()
    items: list[DicomObject] = []
    try:
        if not is_study:
            items = [await DicomObject.from_file(path)]
        elif book.parts is None:
            raise UsageError("no archive is there; give its directory with --data-dir")
        else:
            archive = book.parts.archive
            found = (await instances_of(archive, arguments.target))[:MOST_TRIED]
            items = [stored_object(one, archive.open) for one in found]
            firings = await book.parts.stores.rule_history.firings(
                study=arguments.target, limit=_MOST_FIRINGS
            )
        sender = _sender(book, arguments)
        explained: dict[tuple[RuleExplanation, ...], tuple[int, Verdict]] = {}
        for item in items:
            verdict = await decide(item, book.usable(), sender, book.settings, book.ae_title_of)
            key = tuple(verdict.reasons)
            count, _ = explained.get(key, (0, verdict))
            explained[key] = count + 1, verdict
    except (NotDicomFileError, OperationError, OSError) as error:
        terminal.error(_fault(path, error))
        return EXIT_FAILED
    except KeyError:
        terminal.error("objects of the study went while the rules were tried; try again")
        return EXIT_FAILED
    if is_study and not items:
        terminal.error("the archive has no such study")
        return EXIT_FAILED
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        document = {
            "objects": [
                {
                    "count": count,
                    "reasons": [
                        {"rule": one.rule, "matches": one.matches, "why": one.why}
                        for one in reasons
                    ],
                    **_described(verdict),
                }
                for reasons, (count, verdict) in explained.items()
            ],
            "firings": [_described_firing(one) for one in firings],
        }
        out.write(orjson.dumps(document).decode() + "\n")
        return EXIT_OK
    for reasons, (count, verdict) in explained.items():
        out.write(f"{count} {'object' if count == 1 else 'objects'}, were they to come now:\n")
        for one in reasons:
            what = f"does not match: {one.why}" if one.why else "matches"
            out.write(f"  {shown(one.rule)}: {shown(what)}\n")
        out.write("".join(line + "\n" for line in _lines(verdict)))
    if firings:
        out.write("what rules did with it when it came:\n")
        print_table(out, _FIRINGS_HEAD, [_firing_cells(one) for one in firings])
    return EXIT_OK


def _firing_cells(one: RuleFiring) -> tuple[str, ...]:
    times = (local_time(one.last_at), local_time(one.first_at))
    return tuple(map(shown, (*times, one.rule, one.calling_ae, str(one.objects))))


def _described_firing(one: RuleFiring) -> dict[str, object]:
    return {
        "rule": one.rule,
        "calling_ae": one.calling_ae,
        "objects": one.objects,
        "first": local_time(one.first_at),
        "last": local_time(one.last_at),
    }


def _fault(path: Path, error: Exception) -> str:
    match error:
        case NotDicomFileError():
            return str(error)
        case OSError():
            return f"{path}: {text_of(error)}"
        case _:
            return f"{path}: would be refused with {error}"


def _files(paths: list[str]) -> Iterator[Path]:
    for text in paths:
        path = Path(text)
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.is_file())
        else:
            yield path


def _lines(verdict: Verdict) -> list[str]:
    """What is done, a line each; no values of attributes."""
    words = words_of(verdict.decision, verdict.unsent)
    return [f"  {what:<9} {shown(text)}" for what, text in words]


def _described_compression(order: CompressionOrder | None) -> dict[str, object] | None:
    if order is None:
        return None
    when = "complete" if order.when_complete else "arrival"
    return {"syntax": keyword_of(order), "when": when, "rule": order.rule}


def _described(verdict: Verdict) -> dict[str, object]:
    decision = verdict.decision
    return {
        "rules": decision.rules,
        "area": decision.area,
        "forward": [
            {
                "destination": route.destination,
                "rule": route.rule,
                "priority": route.priority.name.lower(),
                "delay_minutes": route.delay / 60,
                "commit": route.commit,
                "delete_after": route.delete_after,
                "deidentify": route.form.project,
                "forward_coerce": tables_of(route.form.edits),
                "forward_syntax": keyword_of_syntax(route.form.transfer_syntax_uid),
            }
            for route in decision.routes
        ],
        "came_from": decision.came_from,
        "unsent": dict(verdict.unsent),
        "coerce": tables_of(decision.edits),
        "compress": _described_compression(decision.compression),
        "sign": decision.signed_by,
        "analyse": list(decision.analyses),
        "expires_by": decision.expires_by,
        "quarantine": decision.quarantine,
        "validate": "" if decision.validation is None else decision.validation.value,
    }
