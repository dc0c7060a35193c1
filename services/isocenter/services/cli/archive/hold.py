"""``isocenter hold``: studies that nobody deletes."""

from __future__ import annotations

import argparse
import time
from typing import Final

import orjson

from isocenter.services.archive.deletion.holds import StudyHold
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.database import database, moment
from isocenter.services.cli.archive.db import add_archive_options, archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, add_output_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import here_of
from isocenter.services.dicom.uids import UidRule
from isocenter.services.settings.loading import Settings
from isocenter.storage.database.retention import SqliteHolds

DESCRIPTION: Final = """\
Hold studies: neither isocenter delete, not even with --force, nor a rule of retention deletes any
of them until the hold is taken away.  For what a court or a trial needs."""
EXAMPLES: Final = """\
examples:
  isocenter hold add 1.2.840.113619.2.55.3 --reason "case 17/2026"
  isocenter hold list
  isocenter hold remove 1.2.840.113619.2.55.3

All of them may run while the server does.

exit codes: 0 done, 1 it is held already, or it is not, 2 arguments or
settings"""

_LONGEST_REASON: Final = 500
_HEAD: Final = ("Study Instance UID", "since", "by", "in the archive", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of hold."""
    prog = parser.prog
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("add", "hold studies"),
        ("remove", "take holds away"),
        ("list", "list the studies that are held"),
    ):
        action = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        add_archive_options(action)
        add_output_options(action)
        action.set_defaults(prog=f"{prog} {name}")
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
        else:
            action.add_argument("studies", nargs="+", metavar="UID", help="Study Instance UID")
        if name == "add":
            action.add_argument("--reason", required=True, metavar="TEXT", help="why")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        for uid in getattr(arguments, "studies", ()):
            if not UidRule.SAFE.allows(uid):
                raise UsageError(f"{uid!r} is no UID")
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            match arguments.action:
                case "add":
                    code = await _add(arguments, settings, terminal)
                case "remove":
                    code = await _remove(arguments, settings, terminal)
                case _:
                    code = await _list(arguments, settings)
        return code

    return run_task(terminal, work)


async def _add(arguments: argparse.Namespace, settings: Settings, terminal: Terminal) -> int:
    reason = arguments.reason.strip()
    if not reason or len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise UsageError(f"--reason is one line of 1 to {_LONGEST_REASON} characters")
    here = here_of(settings, "isocenter hold")
    code = EXIT_OK
    async with database(settings) as index:
        holds = SqliteHolds(index)
        for uid in arguments.studies:
            hold = StudyHold(
                study_instance_uid=uid,
                reason=reason,
                actor=f"{here.user}@{here.machine}",
                at=time.time(),
            )
            if not await holds.add(hold):
                terminal.error(f"{uid} is held already; isocenter hold list says why")
                code = EXIT_FAILED
        absent = {
            each.study_instance_uid for each in await holds.all() if not each.is_here
        }.intersection(arguments.studies)
    for uid in sorted(absent):
        terminal.note(f"nothing of {uid} is here now; it is held as soon as something comes")
    return code


async def _remove(arguments: argparse.Namespace, settings: Settings, terminal: Terminal) -> int:
    code = EXIT_OK
    async with database(settings) as index:
        for uid in arguments.studies:
            if not await SqliteHolds(index).remove(uid):
                terminal.error(f"{uid} is not held; isocenter hold list names those that are")
                code = EXIT_FAILED
    return code


async def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    async with database(settings) as index:
        holds = await SqliteHolds(index).all()
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        out.write(orjson.dumps([_json(hold) for hold in holds]).decode() + "\n")
    elif holds:
        print_table(out, _HEAD, [_line(hold) for hold in holds])
    return EXIT_OK


def _line(hold: StudyHold) -> tuple[str, ...]:
    is_here = "yes" if hold.is_here else "no"
    texts = (hold.study_instance_uid, moment(hold.at), hold.actor, is_here, hold.reason)
    return tuple(map(shown, texts))


def _json(hold: StudyHold) -> dict[str, object]:
    return {
        "study_instance_uid": hold.study_instance_uid,
        "since": moment(hold.at),
        "by": hold.actor,
        "in_the_archive": hold.is_here,
        "reason": hold.reason,
    }
