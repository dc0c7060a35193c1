"""``isocenter hold``: studies that nobody deletes."""

from __future__ import annotations

import argparse
import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.ports import Index
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import add_archive_options, reason, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, patients_of, record_now
from isocenter.services.security.audit.alert_messages import hold_changed
from isocenter.services.security.audit.participants import ActiveProcess, Patient
from isocenter.services.settings.sections.monitoring import OnAuditFailure
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
            action.add_argument(
                "--reason",
                required=True,
                type=reason,
                metavar="TEXT",
                help="why; it stands in the audit trail",
            )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"add": _add, "remove": _remove, "list": _list})


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    here = active_process_of(settings, "isocenter hold")
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        holds = stores.holds
        for study in arguments.studies:
            hold = StudyHold(
                study_instance_uid=study,
                reason=arguments.reason,
                actor=f"{here.user}@{here.machine}",
                at=time.time(),
            )
            if not await holds.add(hold):
                terminal.error(f"{study} is held already; isocenter hold list says why")
                code = EXIT_FAILED
            elif not await _record(settings, stores.index, here, hold, terminal, is_held=True):
                await holds.remove(study)
                return EXIT_FAILED
            else:
                print(f"{study} is held")
        absent = {
            each.study_instance_uid for each in await holds.all() if not each.is_here
        }.intersection(arguments.studies)
    for study in sorted(absent):
        terminal.note(f"nothing of {study} is here now; it is held as soon as something comes")
    return code


async def _remove(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    here = active_process_of(settings, "isocenter hold")
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        holds = stores.holds
        before = {hold.study_instance_uid: hold for hold in await holds.all()}
        for study in arguments.studies:
            hold = before.get(study)
            if hold is None or not await holds.remove(study):
                terminal.error(f"{study} is not held; isocenter hold list names those that are")
                code = EXIT_FAILED
            elif not await _record(settings, stores.index, here, hold, terminal, is_held=False):
                await holds.add(hold)
                return EXIT_FAILED
            else:
                print(f"{study} is held no more")
    return code


async def _record(
    settings: Settings,
    index: Index,
    here: ActiveProcess,
    hold: StudyHold,
    terminal: Terminal,
    *,
    is_held: bool,
) -> bool:
    """Whether it may stay as it is now: it was recorded, or need not be."""
    study = hold.study_instance_uid
    patients = await patients_of(index)([study])
    message = hold_changed(
        here, study, hold.reason, patients.get(study, Patient()), is_held=is_held
    )
    try:
        await trio.to_thread.run_sync(record_now, settings, here, [message])
    except (OSError, IsocenterError) as error:
        may_stay = settings.audit.on_failure is not OnAuditFailure.STOP
        what = "it was done all the same" if may_stay else "nothing was changed"
        terminal.error(f"the audit trail cannot be written: {error}; {what} ({study})")
        return may_stay
    return True


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
