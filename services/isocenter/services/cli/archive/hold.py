"""``isocenter hold``: studies that nobody deletes."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services import composition
from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.retention.holding import Holding, NotRecordedError
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.deletion_output import requester_of
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import add_archive_options, add_reason, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import hold_recorder
from isocenter.services.settings.settings import Settings

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

_HEAD: Final = ("Study Instance UID", "since", "by", "in the archive", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of hold."""
    for name, action in add_actions(
        parser,
        (
            ("add", "hold studies"),
            ("remove", "take holds away"),
            ("list", "list the studies that are held"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
        else:
            action.add_argument(
                "studies", nargs="+", type=uid, metavar="UID", help="Study Instance UID"
            )
        if name == "add":
            add_reason(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"add": _add, "remove": _remove, "list": _list})


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        holding = Holding(stores.holds, hold_recorder(settings, stores.index, "isocenter hold"))
        requester = requester_of(settings, "isocenter hold")
        for study in arguments.studies:
            try:
                is_new = await holding.hold(study, requester, arguments.reason)
            except NotRecordedError as error:
                terminal.error(f"{error} ({study})")
                return EXIT_FAILED
            if is_new:
                print(f"{study} is held")
            else:
                terminal.error(f"{study} is held already; isocenter hold list says why")
                code = EXIT_FAILED
        absent = {
            each.study_instance_uid for each in await holding.all() if not each.is_here
        }.intersection(arguments.studies)
    for study in sorted(absent):
        terminal.note(f"nothing of {study} is here now; it is held as soon as something comes")
    return code


async def _remove(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        holding = Holding(stores.holds, hold_recorder(settings, stores.index, "isocenter hold"))
        requester = requester_of(settings, "isocenter hold")
        for study in arguments.studies:
            try:
                was_held = await holding.release(study, requester)
            except NotRecordedError as error:
                terminal.error(f"{error} ({study})")
                return EXIT_FAILED
            if was_held:
                print(f"{study} is held no more")
            else:
                terminal.error(f"{study} is not held; isocenter hold list names those that are")
                code = EXIT_FAILED
    return code


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        holds = await stores.holds.all()
    print_rows(holds, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(hold: StudyHold) -> tuple[str, ...]:
    is_here = "yes" if hold.is_here else "no"
    texts = (hold.study_instance_uid, local_time(hold.at), hold.actor, is_here, hold.reason)
    return tuple(map(shown, texts))


def _json(hold: StudyHold) -> dict[str, object]:
    return {
        "study_instance_uid": hold.study_instance_uid,
        "since": local_time(hold.at),
        "by": hold.actor,
        "in_the_archive": hold.is_here,
        "reason": hold.reason,
    }
