"""``isocenter queue``: what rules have queued for other peers, and what became of it."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, whole_number
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.forwarding.ports import (
    DestinationStatus,
    ForwardState,
    ForwardSummary,
)

DESCRIPTION: Final = "Objects that rules send on to other peers, and what became of them."
EXAMPLES: Final = """\
examples:
  isocenter queue list
  isocenter queue list --unsent
  isocenter queue list --state failed --destination PACS --json
  isocenter queue summary
  isocenter queue retry --destination PACS
  isocenter queue retry 17 18
  isocenter queue commit 1.2.840.113619.2.55.3 --destination PACS
  isocenter queue purge --state failed --destination OLDPACS --yes

All of them may run while the server does.  retry has what was given up, and what waits for its
next attempt, sent now.  commit has a destination asked whether it keeps what it was sent of a
study (storage commitment), and sent what it does not: isocenter retention check -v says which
studies stay without that.  purge forgets records; the objects stay in the archive.

exit codes: 0 done, 1 there is no such record, 2 arguments or settings"""

_MOST_NUMBER: Final = 2**63 - 1
_STATES: Final = {state.value: state for state in ForwardState}
_HEAD: Final = (
    "number", "destination", "state", "priority", "attempts", "queued", "next attempt",
    "SOP Instance UID", "rule", "last fault",
)  # fmt: skip
_SUMMARY_HEAD: Final = ("destination", *_STATES, "failures", "left alone until", "last fault")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of queue."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list records, the latest first"),
            ("summary", "count records by destination, and say how each destination does"),
            ("retry", "have what failed sent now"),
            ("commit", "have a destination asked whether it keeps what it has of a study"),
            ("purge", "forget records"),
        ),
    ):
        add_archive_options(action)
        if name == "commit":
            action.add_argument("study", metavar="UID", help="its Study Instance UID")
            action.add_argument("--destination", required=True, metavar="AET", help="who is asked")
        elif name != "summary":
            action.add_argument("--destination", default="", metavar="AET", help="only for this")
        match name:
            case "list":
                states = action.add_mutually_exclusive_group()
                states.add_argument("--state", choices=tuple(_STATES), help="only in this state")
                states.add_argument(
                    "--unsent",
                    action="store_true",
                    help="only what has not arrived: what is due, and what was given up",
                )
                add_limit(action)
            case "purge":
                action.add_argument(
                    "--state", choices=tuple(_STATES), required=True, help="those in this state"
                )
                action.add_argument("--yes", action="store_true", help="yes, forget them")
        if name in ("list", "summary"):
            action.add_argument("--json", action="store_true", help="for programs")
        elif name != "commit":
            action.add_argument(
                "numbers",
                nargs="*",
                type=whole_number(1, _MOST_NUMBER),
                metavar="NUMBER",
                help="only these records",
            )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    actions = {
        "list": _list,
        "summary": _summary,
        "retry": _retry,
        "commit": _commit,
        "purge": _purge,
    }
    return run_action(arguments, actions)


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.forwards.rows(
            state=_STATES.get(arguments.state),
            unsent=arguments.unsent,
            destination=arguments.destination,
            limit=arguments.limit,
        )
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(row: ForwardSummary) -> tuple[str, ...]:
    is_open = row.state in (ForwardState.DUE, ForwardState.SENT, ForwardState.COMMITTING)
    texts = (
        str(row.number), row.destination, row.state.value, row.priority.name.lower(),
        str(row.attempts), local_time(row.created_at), local_time(row.due_at) if is_open else "",
        row.sop_instance_uid, row.rule, row.last_fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: ForwardSummary) -> dict[str, object]:
    return {
        "number": row.number,
        "destination": row.destination,
        "state": row.state.value,
        "priority": row.priority.name.lower(),
        "attempts": row.attempts,
        "created_at": local_time(row.created_at),
        "due_at": local_time(row.due_at),
        "ended_at": local_time(row.ended_at),
        "sop_instance_uid": row.sop_instance_uid,
        "study_instance_uid": row.study_instance_uid,
        "rule": row.rule,
        "last_fault": row.last_fault,
    }


async def _summary(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.forwards.destinations()
    print_rows(
        rows,
        as_json=arguments.json,
        head=_SUMMARY_HEAD,
        line=_line_of_destination,
        members=_json_of_destination,
    )
    return EXIT_OK


def _line_of_destination(row: DestinationStatus) -> tuple[str, ...]:
    counts = (str(row.counts.get(state, 0)) for state in ForwardState)
    until = local_time(row.retry_at) if row.failures else ""
    texts = (row.destination, *counts, str(row.failures), until, row.last_fault)
    return tuple(map(shown, texts))


def _json_of_destination(row: DestinationStatus) -> dict[str, object]:
    return {
        "destination": row.destination,
        "counts": {state.value: row.counts.get(state, 0) for state in ForwardState},
        "failures": row.failures,
        "retry_at": local_time(row.retry_at) if row.failures else "",
        "last_fault": row.last_fault,
    }


async def _retry(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        count = await stores.forwards.retry(arguments.numbers, destination=arguments.destination)
    if not count and (arguments.numbers or arguments.destination):
        terminal.error("nothing of that failed; isocenter queue list shows what there is")
        return EXIT_FAILED
    terminal.note(f"{count} to be sent within seconds, or when the server is started")
    return EXIT_OK


async def _commit(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        count = await stores.forwards.commit(arguments.destination, arguments.study)
    if not count:
        terminal.error(
            f"{arguments.destination} was sent nothing of this study as it is that it was not "
            "asked for already; isocenter queue list --destination shows what it was sent"
        )
        return EXIT_FAILED
    terminal.note(f"{count} to be asked for within seconds, or when the server is started")
    return EXIT_OK


async def _purge(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    if not arguments.yes:
        raise UsageError(
            f"purge forgets all records that are {arguments.state}: nobody will send these "
            "objects then; say so with --yes"
        )
    async with composition.open_stores(settings) as stores:
        count = await stores.forwards.purge(
            _STATES[arguments.state], arguments.numbers, destination=arguments.destination
        )
    terminal.note(f"{count} records forgotten")
    return EXIT_OK if count or not arguments.numbers else EXIT_FAILED
