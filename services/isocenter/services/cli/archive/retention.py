"""``isocenter retention``: what rules of retention would delete now."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Final

import orjson

from isocenter.services import composition
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.retention.service import look
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.run_time_rules import booked_rules
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Rules of retention ([[retention]] in the configuration): which studies are past their time now,
and would be deleted by a server that runs with these settings.  Nothing is changed."""
EXAMPLES: Final = """\
examples:
  isocenter retention check --config /etc/isocenter.toml
  isocenter retention check --config /etc/isocenter.toml -v
  isocenter retention check --config /etc/isocenter.toml --json

exit codes: 0 done, 2 arguments or settings, or there are no rules"""

_MOST: Final = 1_000_000
_HEAD: Final = ("rule", "studies", "instances", "size", "studies that stay")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The action of retention."""
    checks = (("check", "count what each rule would delete; -v names the studies"),)
    for _, action in add_actions(parser, checks):
        add_archive_options(action)
        action.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"check": _check})


async def _check(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    rules = (*settings.retention, *await _of_rules(settings))
    if not rules:
        raise UsageError(
            "there are no rules of retention: nothing is deleted by age; add [[retention]] to "
            "the configuration, and name it with --config; or delete_after_days to a rule"
        )
    rows = [await _look(settings, rule, terminal) for rule in rules]
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        out.write(orjson.dumps(rows).decode() + "\n")
    else:
        print_table(out, _HEAD, [_line(row) for row in rows])
    return EXIT_OK


async def _of_rules(settings: Settings) -> Sequence[RetentionRule]:
    """What rules for what comes say of what they match."""
    async with composition.open_stores(settings) as stores:
        found = await stores.rules.all()
    booked = booked_rules(settings.rules, found.rules if found.is_on else ())
    return Rules([one.rule for one in booked if one.rule is not None]).retention


async def _look(settings: Settings, rule: RetentionRule, terminal: Terminal) -> dict[str, object]:
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        trash = composition.trash_of(settings, parts, "isocenter retention")
        if trash is None:
            raise UsageError("this archive has no trash")
        fullness = composition.fullness_of(settings, parts)
        found = await look(
            rule, parts.stores.retention, trash, fullness.excess, time.time(), limit=_MOST
        )
    for each, reasons in found.kept:
        terminal.detail(f"{rule.name}: {each.study_instance_uid} stays: {'; '.join(reasons)}")
    for each in found.going:
        terminal.detail(f"{rule.name}: {each.study_instance_uid}")
    return {
        "rule": rule.name,
        "studies": len(found.going),
        "instances": found.instances,
        "bytes": found.size,
        "studies_that_stay": len(found.kept),
    }


def _line(row: dict[str, object]) -> tuple[str, ...]:
    size = row["bytes"]
    assert isinstance(size, int)
    texts = (
        str(row["rule"]), str(row["studies"]), str(row["instances"]), size_text(size),
        str(row["studies_that_stay"]),
    )  # fmt: skip
    return tuple(map(shown, texts))
