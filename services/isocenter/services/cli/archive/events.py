"""``isocenter events``: what happened, who has heard of it, and which studies are complete."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TextIO

import orjson
import trio

from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    ae_title,
    point_in_time,
    uid,
    whole_number,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.event import Kind, StoredEvent
from isocenter.services.workflow.events.ports import (
    BlockedDelivery,
    ConsumerStatus,
    EventSelection,
    OpenStudyStatus,
)

DESCRIPTION: Final = """\
The events of the archive: what was stored, which studies are complete, what modalities said;
who gets them (events.consumers in the configuration), and how far each consumer has got."""
EXAMPLES: Final = """\
examples:
  isocenter events tail --follow
  isocenter events tail --kind study.complete --json -n 100
  isocenter events tail --kind series.opened --ae CT1 --since today
  isocenter events tail --kind retrieve.failed --since yesterday
  isocenter events consumers --config /etc/isocenter.toml
  isocenter events replay --config /etc/isocenter.toml --consumer ris --from 1200
  isocenter events replay --consumer ris --since 2026-11-21T08:00 --study 1.2.3
  isocenter events studies --state receiving

All of them may run while the server does; what replay asks for, the server delivers within
seconds, or when it is started.

exit codes: 0 done, 1 replay found no such consumer or no such event, 2 arguments or settings"""

_MOST: Final = 100_000
_LAST: Final = 20
_POLL_SECONDS: Final = 0.5
_BLOCK: Final = 1_000
_STATES: Final = ("receiving", "complete")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of events."""
    for name, action in add_actions(
        parser,
        (
            ("tail", "print the last events, and go on with --follow"),
            ("replay", "have events delivered to a consumer once more"),
            ("consumers", "print how far each consumer has got, and what it cannot take"),
            ("studies", "print which studies are being received, and which are complete"),
        ),
    ):
        add_archive_options(action)
        if name in ("tail", "replay"):
            action.add_argument("--study", type=uid, metavar="UID", help="only those of a study")
        if name != "replay":
            action.add_argument("--json", action="store_true", help="JSON, an object a line")
        match name:
            case "tail":
                _add_tail_options(action)
            case "replay":
                _add_replay_options(action)
            case "studies":
                action.add_argument("--state", choices=_STATES, help="only those in this state")
                add_limit(action, text="at most so many lines")
            case _:
                add_limit(action, text="at most so many lines")


def _add_tail_options(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=[kind.value for kind in Kind],
        metavar="KIND",
        help=f"only events of this kind (repeatable): {', '.join(kind.value for kind in Kind)}",
    )
    action.add_argument(
        "--ae",
        type=ae_title,
        metavar="AET",
        help="only those in which this AE title took part: who sent, asked, was turned away, or "
        "was to get something",
    )
    action.add_argument(
        "--modality", type=_modality, metavar="CS", help="only those of this modality"
    )
    action.add_argument(
        "--since",
        type=point_in_time,
        metavar="TIME",
        help="only from then on: today, yesterday, 2026-11-21, 2026-11-21T14:30",
    )
    action.add_argument("--until", type=point_in_time, metavar="TIME", help="only before then")
    action.add_argument(
        "-n",
        "--lines",
        type=whole_number(1, _MOST),
        default=_LAST,
        metavar="N",
        help="how many (default: %(default)s)",
    )
    action.add_argument("-f", "--follow", action="store_true", help="wait for more")


def _add_replay_options(action: argparse.ArgumentParser) -> None:
    action.add_argument("--consumer", required=True, metavar="NAME", help="who gets them")
    start = action.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--from",
        dest="from_event",
        type=whole_number(1, sys.maxsize),
        metavar="EVENT",
        help="from this number on, as tail prints it",
    )
    start.add_argument(
        "--since",
        type=point_in_time,
        metavar="TIME",
        help="from then on: 2026-11-21, 2026-11-21T14:30",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(
        arguments, {"tail": _tail, "replay": _replay, "consumers": _consumers, "studies": _studies}
    )


# -- tail --------------------------------------------------------------------------------


async def _tail(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.follow and arguments.until is not None:
        raise UsageError("--follow waits for what is to come, and --until ends it; leave one out")
    selection = EventSelection(
        kinds=arguments.kind,
        study_instance_uid=arguments.study,
        ae_title=arguments.ae,
        modality=arguments.modality,
        since=arguments.since and arguments.since.timestamp(),
        until=arguments.until and arguments.until.timestamp(),
        limit=arguments.lines,
    )
    async with composition.open_stores(settings) as stores:
        desk = stores.event_log
        while True:
            reached = await desk.last_number()
            events = await desk.events(selection)
            if events and (events[-1].number > reached or len(events) == selection.limit):
                reached = events[-1].number
            for event in events:
                out.write(_line(event, as_json=arguments.json) + "\n")
            if not arguments.follow:
                return EXIT_OK
            out.flush()
            await trio.sleep(_POLL_SECONDS)
            selection = replace(selection, after=reached, limit=_BLOCK)


def _line(event: StoredEvent, *, as_json: bool) -> str:
    if as_json:
        return event.json().decode()
    members = event.members()
    # Whose it is is for consumers; a terminal has onlookers.
    rest = (
        f"{name}={_text(value)}"
        for name, value in members.items()
        if name not in ("id", "kind", "at", "patient") and value not in ("", None, [])
    )
    return f"{event.number:>8} {local_time(event.at)} {event.kind:<18} {shown(' '.join(rest))}"


def _text(value: object) -> str:
    match value:
        case list():
            return ",".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


# -- replay ------------------------------------------------------------------------------


async def _replay(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    consumers = {consumer.name: consumer for consumer in settings.events.consumers}
    consumer = consumers.get(arguments.consumer)
    if consumer is None:
        names = ", ".join(consumers) or "none; name the server's configuration with --config"
        terminal.error(f"there is no consumer {arguments.consumer}; there are: {names}")
        return EXIT_FAILED
    async with composition.open_stores(settings) as stores:
        try:
            studies = await stores.event_log.replay(
                consumer.name,
                consumer.kinds,
                from_event=arguments.from_event or 0,
                since=arguments.since.timestamp() if arguments.since else 0.0,
                study_instance_uid=arguments.study,
            )
        except KeyError:
            terminal.error(f"{consumer.name} is new: no server has run with it; start one first")
            return EXIT_FAILED
    if not studies:
        terminal.error("no event that is kept is one of those; isocenter events tail names them")
        return EXIT_FAILED
    what = "1 study" if studies == 1 else f"{studies} studies"
    terminal.note(f"events of {what} are delivered to {consumer.name} once more")
    return EXIT_OK


# -- consumers, studies ------------------------------------------------------------------


async def _consumers(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    configured = {each.name: each.kinds for each in settings.events.consumers}
    if not configured:
        terminal.error(
            "no consumer is configured; name the server's configuration with --config, or add "
            "[[events.consumers]] to it"
        )
        return EXIT_OK
    async with composition.open_stores(settings) as stores:
        desk = stores.event_log
        rows = await desk.consumers(configured)
        held = await desk.held(configured, arguments.limit)
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        for row in rows:
            own = [_held_json(each) for each in held if each.consumer == row.name]
            out.write(orjson.dumps(_consumer_json(row) | {"held_studies": own}).decode() + "\n")
        return EXIT_OK
    print_table(
        out,
        ("consumer", "position", "delivered", "waiting", "held", "dead", "last fault"),
        [
            (
                row.name,
                str(row.position),
                str(row.delivered),
                str(row.waiting),
                str(row.held),
                str(row.dead),
                shown(f"{local_time(row.last_fault_at)} {row.last_fault}".strip()),
            )
            for row in rows
        ],
    )
    _print_held(out, held)
    for name in configured.keys() - {row.name for row in rows}:
        terminal.note(f"{name} is new: no server has run with it yet")
    return EXIT_OK


def _print_held(out: TextIO, held: Sequence[BlockedDelivery]) -> None:
    if not held:
        return
    print_table(
        out,
        ("consumer", "study", "event", "attempts", "", "fault"),
        [
            (
                each.consumer,
                shown(each.study_instance_uid),
                str(each.event),
                str(each.attempts),
                f"given up {local_time(each.at)}"
                if each.is_dead
                else f"again {local_time(each.at)}",
                shown(each.fault),
            )
            for each in held
        ],
    )


def _consumer_json(row: ConsumerStatus) -> dict[str, object]:
    return {
        "consumer": row.name,
        "position": row.position,
        "delivered": row.delivered,
        "delivered_at": local_time(row.delivered_at),
        "waiting": row.waiting,
        "held": row.held,
        "dead": row.dead,
        "last_fault": row.last_fault,
        "last_fault_at": local_time(row.last_fault_at),
    }


def _held_json(row: BlockedDelivery) -> dict[str, object]:
    return {
        "study_instance_uid": row.study_instance_uid,
        "event": row.event,
        "attempts": row.attempts,
        "state": "dead" if row.is_dead else "held",
        "at": local_time(row.at),
        "fault": row.fault,
    }


async def _studies(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.event_log.studies(state=arguments.state, limit=arguments.limit)
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        for row in rows:
            out.write(orjson.dumps(_study_json(row)).decode() + "\n")
    elif rows:
        print_table(
            out,
            ("Study Instance UID", "state", "received", "last", "complete", "by", "times"),
            [
                (
                    shown(row.study_instance_uid),
                    row.state,
                    str(row.received),
                    local_time(row.last_at),
                    local_time(row.completed_at),
                    row.reason,
                    str(row.times),
                )
                for row in rows
            ],
        )
    return EXIT_OK


def _study_json(row: OpenStudyStatus) -> dict[str, object]:
    return {
        "study_instance_uid": row.study_instance_uid,
        "state": row.state,
        "received": row.received,
        "first_at": local_time(row.first_at),
        "last_at": local_time(row.last_at),
        "due_at": local_time(row.due_at) if row.state == "receiving" else "",
        "completed_at": local_time(row.completed_at),
        "reason": row.reason,
        "times": row.times,
    }


# -- Arguments ---------------------------------------------------------------------------


def _modality(text: str) -> str:
    if re.fullmatch(r"[A-Z0-9_]{1,16}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no modality; write CT, MR, US …")
    return text
