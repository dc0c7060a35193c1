"""Actions of ``isocenter rules`` that change rules."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.rules.ports import RuleStore
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.composition.rule_changes import RuleChanges
from isocenter.services.errors import text_of
from isocenter.services.notices import Caller, RulesChanged
from isocenter.services.security.audit.alert_messages import rules_changed
from isocenter.services.settings.settings import Settings
from isocenter.services.web.rule_book import (
    InvalidRuleError,
    RuleConflictError,
    UnknownRuleError,
)
from isocenter.services.workflow.nodes.destinations import NodeDestinations

CHANGES: Final = (
    ("add", "make a rule"),
    ("change", "change what is said of a rule; the rest stays"),
    ("enable", "have rules looked at"),
    ("disable", "have rules not looked at until they are enabled"),
    ("remove", "forget rules; what they have queued is sent all the same"),
    ("order", "have the rules of the database looked at in this order"),
    ("on", "have rules looked at again"),
    ("off", "have no rule looked at, also none of the settings"),
)
#: Options that are keys of a rule: flag, key, what it is, how it is shown.
_TEXTS: Final = (
    ("--forward-priority", "forward_priority", "low, normal, high or urgent", "P"),
    ("--deidentify", "deidentify", "forward them de-identified under this project", "PROJECT"),
    ("--forward-syntax", "forward_syntax", "forward them in this transfer syntax", "SYNTAX"),
    ("--delete-since", "delete_since", "days are counted since: arrived or forwarded", "WHEN"),
    ("--area", "area", "keep the objects in this area", "AREA"),
    ("--compress", "compress", "keep them in this transfer syntax", "SYNTAX"),
    ("--compress-when", "compress_when", "arrival or complete", "WHEN"),
    ("--quarantine", "quarantine", "withhold them, for this reason", "REASON"),
    ("--from", "effective_from", "look at it from then on: 2026-12-01 08:00", "TIME"),
    ("--until", "effective_until", "look at it until then", "TIME"),
    ("--hours", "hours", "look at it in these hours only: mon-fri 18:00-08:00", "HOURS"),
    ("--schedule", "schedule", "forward at the next of: daily 02:00, cron 0 2 * * *", "TEXT"),
    ("--time-zone", "time_zone", "of the schedule (default: UTC)", "ZONE"),
)
_NUMBERS: Final = (
    ("--priority", "priority", "higher ones are looked at first"),
    ("--delete-after-days", "delete_after_days", "delete studies of them here after these days"),
    ("--delay-minutes", "delay_minutes", "forward them so many minutes later"),
)
_SWITCHES: Final = (
    ("--commit", "commit", "ask the destination for storage commitment"),
    ("--delete-after", "delete_after", "delete them here when it has committed"),
    ("--sign", "sign", "sign them once they are stored (signatures.sign_key)"),
    ("--stop", "stop", "look at no rule after this one"),
    ("--case-sensitive", "case_sensitive", "patterns tell upper case from lower case"),
)


def add_change_arguments(name: str, action: argparse.ArgumentParser) -> None:
    """The arguments of one of `CHANGES`."""
    if name in ("on", "off"):
        return
    if name not in ("add", "change"):
        action.add_argument("names", nargs="+", metavar="NAME", help="of a rule")
        return
    action.add_argument("name", metavar="NAME", help="of the rule")
    action.add_argument(
        "--toml",
        metavar="FILE",
        help="read it from a file (-: standard input), as [[rules]] has it",
    )
    action.add_argument(
        "--when", action="append", metavar="FIELD=PATTERN",
        help="it applies to objects with such a value; several of one field: one has to fit",
    )  # fmt: skip
    action.add_argument(
        "--forward", action="append", metavar="NAME", help="send them to this peer or node"
    )
    action.add_argument(
        "--analyse", action="append", metavar="NAME",
        help="have series of them analysed by this AI service",
    )  # fmt: skip
    for flag, key, text, shown in _TEXTS:
        action.add_argument(flag, dest=key, metavar=shown, help=text)
    for flag, key, text in _NUMBERS:
        action.add_argument(flag, dest=key, type=int, metavar="N", help=text)
    for flag, key, text in _SWITCHES:
        action.add_argument(flag, dest=key, action=argparse.BooleanOptionalAction, help=text)
    if name == "add":
        action.add_argument(
            "--disabled", action="store_true", help="do not use it until it is enabled"
        )


async def change(
    settings: Settings,
    store: RuleStore,
    destinations: NodeDestinations,
    arguments: argparse.Namespace,
    terminal: Terminal,
) -> int:
    """Do it; the exit code."""
    here = active_process_of(settings, "isocenter rules")
    by = Caller(association="", address=here.machine, user=f"{here.user}@{here.machine}")

    async def tell(by: Caller, what: str) -> None:
        message = rules_changed(here, RulesChanged(caller=by, what=what))
        try:
            await trio.to_thread.run_sync(record_now, settings, here, [message])
        except (OSError, IsocenterError) as error:
            terminal.error(f"the change stands, and the audit trail cannot be written: {error}")

    changes = RuleChanges(
        store,
        lambda: settings,
        destinations,
        tell=tell,
        has_changed=trio.lowlevel.checkpoint,
    )
    try:
        await _do(changes, arguments, by)
    except InvalidRuleError as error:
        raise UsageError(str(error)) from error
    except (UnknownRuleError, RuleConflictError) as error:
        terminal.error(str(error))
        return EXIT_FAILED
    return EXIT_OK


async def _do(changes: RuleChanges, arguments: argparse.Namespace, by: Caller) -> None:
    match arguments.action:
        case "add":
            table = await _table(arguments)
            if arguments.disabled:
                table["enabled"] = False
            await changes.add({**table, "name": arguments.name}, by)
        case "change":
            known = await changes.get(arguments.name)
            said = await _table(arguments)
            if not said:
                raise UsageError("say what is to be changed")
            # A file says all of it; of options the rest stays.
            table = said if arguments.toml else {**known.table, **said}
            table.setdefault("enabled", known.is_enabled)
            version = None if known.stored is None else known.stored.version
            await changes.change(arguments.name, table, by, version=version)
        case "enable" | "disable":
            for name in arguments.names:
                await changes.enable(name, by, is_enabled=arguments.action == "enable")
        case "remove":
            for name in arguments.names:
                await changes.remove(name, by)
        case "order":
            await changes.reorder(arguments.names, by)
        case "on" | "off":
            await changes.switch(by, is_on=arguments.action == "on")


async def _table(arguments: argparse.Namespace) -> dict[str, Any]:
    """What options and file say."""
    table: dict[str, Any] = {}
    if arguments.toml:
        table |= await trio.to_thread.run_sync(partial(_read, arguments.toml))
    when: dict[str, list[str]] = {}
    for text in arguments.when or ():
        field, separator, pattern = text.partition("=")
        if not separator or not field:
            raise UsageError(f"--when {text!r}: say FIELD=PATTERN, as in modality=CT")
        when.setdefault(field.strip(), []).append(pattern)
    if when:
        table["when"] = when
    if arguments.forward:
        table["forward"] = arguments.forward
    if arguments.analyse:
        table["analyse"] = arguments.analyse
    for key in (each[1] for each in (*_TEXTS, *_NUMBERS, *_SWITCHES)):
        value = getattr(arguments, key)
        if value is not None:
            table[key] = value
    return table


def _read(name: str) -> Mapping[str, Any]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{name}: {text_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not TOML: {error}") from error
    match table:
        case {"rules": [dict(rule)], **rest} if not rest:
            return rule
        case {"rules": _}:
            raise UsageError(f"{name}: there must be one rule in it")
        case _:
            return table
