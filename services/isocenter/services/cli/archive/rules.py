"""``isocenter rules``: show the rules of a configuration, and try them on a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from isocenter.services.archive.ports import CompressionOrder
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import Decision, Rules
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, ae_title
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.rule_trial import (
    cells_of,
    decide,
    in_order,
    keyword_of,
    words_of,
)
from isocenter.services.dicom.objects import DicomObject, NotDicomFileError
from isocenter.services.errors import OperationError, text_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.rules import table_of_edit
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = "Rules for what is stored: show them, and test them without storing anything."
EXAMPLES: Final = """\
examples:
  isocenter rules list --config /etc/isocenter.toml
  isocenter rules test --config /etc/isocenter.toml --calling-ae CT1 image.dcm
  isocenter rules test --config /etc/isocenter.toml --json images/

exit codes: 0 done, 1 a file is no DICOM object, 2 arguments or settings"""

_HEAD: Final = (
    "order",
    "rule",
    "enabled",
    "looks at",
    "forward",
    "area",
    "coerces",
    "compress",
    "quarantine",
    "stop",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of rules."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list the rules in the order in which they are looked at"),
            ("test", "say which rules match a file, and what they would do"),
        ),
    ):
        action.add_argument("--config", metavar="FILE", help="TOML file with settings")
        action.add_argument("--json", action="store_true", help="for programs")
        if name == "test":
            for flag, text in (
                ("--calling-ae", "as if it came from this AE title"),
                ("--called-ae", "as if it was sent to this AE title (default: ours)"),
            ):
                action.add_argument(flag, type=ae_title, metavar="AET", help=text)
            action.add_argument("paths", nargs="+", metavar="FILE", help="files and folders")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        try:
            settings = load_settings(arguments.config)
        except SettingsError as error:
            raise UsageError(str(error)) from error
        if not settings.rules:
            raise UsageError("the configuration has no rules; add [[rules]], see docs/how-to/rules")
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            if arguments.action == "list":
                code = _list(settings, arguments)
            else:
                code = await _test(settings, arguments, terminal)
        return code

    return run_task(terminal, work)


def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    rules = in_order(settings.rules)
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        out.write(orjson.dumps([rule.name for rule in rules]).decode() + "\n")
    else:
        rows = [(str(number), *cells_of(rule)) for number, rule in enumerate(rules, 1)]
        print_table(out, _HEAD, [tuple(map(shown, row)) for row in rows])
    return EXIT_OK


async def _test(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    rules = Rules(settings.rules)
    sender = Sender(
        calling_ae_title=arguments.calling_ae or "",
        called_ae_title=arguments.called_ae or settings.server.ae_title,
    )
    out = prepare_stdout("json" if arguments.json else "table")
    results = []
    code = EXIT_OK
    for path in _files(arguments.paths):
        try:
            item = await DicomObject.from_file(path)
            decision = await decide(item, rules, sender, settings)
        except (NotDicomFileError, OperationError, OSError) as error:
            terminal.error(_fault(path, error))
            code = EXIT_FAILED
            continue
        if arguments.json:
            results.append({"file": str(path)} | _described(decision))
        else:
            out.write("\n".join((shown(str(path)), *_lines(decision))) + "\n")
    if arguments.json:
        out.write(orjson.dumps(results).decode() + "\n")
    return code


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


def _lines(decision: Decision) -> list[str]:
    """What is done, a line each; no values of attributes."""
    return [f"  {what:<9} {shown(text)}" for what, text in words_of(decision)]


def _described_compression(order: CompressionOrder | None) -> dict[str, object] | None:
    if order is None:
        return None
    when = "complete" if order.when_complete else "arrival"
    return {"syntax": keyword_of(order), "when": when, "rule": order.rule}


def _described(decision: Decision) -> dict[str, object]:
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
            }
            for route in decision.routes
        ],
        "coerce": [table_of_edit(edit) for edit in decision.edits],
        "compress": _described_compression(decision.compression),
        "quarantine": decision.quarantine,
    }
