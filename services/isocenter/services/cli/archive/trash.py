"""``isocenter trash``: what was deleted, and can be restored."""

from __future__ import annotations

import argparse
import time
from typing import Final

from isocenter.services.archive.deletion.ports import DeletionSummary, TrashChoice
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Restored
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.deletion_output import counted, opened_trash, requester_of
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
What was deleted and is not gone yet: list it, put it back as it was, or remove it for good.
The server does the last by itself when storage.trash_days are over."""
EXAMPLES: Final = """\
examples:
  isocenter trash list
  isocenter trash restore 5f3a9c12
  isocenter trash restore --study 1.2.840.113619.2.55.3
  isocenter trash purge 5f3a9c12
  isocenter trash purge --all --yes

All of them may run while the server does.

exit codes: 0 done, 1 something could not be restored, or there is no such deletion, 2 arguments or
settings"""

_HEAD: Final = (
    "deletion", "deleted", "until", "studies", "series", "instances", "size", "by", "reason",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of trash."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list deletions, the latest first"),
            ("restore", "put deleted objects back, as they were"),
            ("purge", "remove deleted objects for good, and make room"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
            continue
        action.add_argument("deletions", nargs="*", metavar="DELETION", help="as list names it")
        for option, what in (("--study", "study"), ("--instance", "instance")):
            action.add_argument(
                option,
                type=uid,
                action="append",
                default=[],
                metavar="UID",
                help=f"only this {what}; without DELETION from all of them (repeatable)",
            )
        if name == "purge":
            action.add_argument("--all", action="store_true", help="empty the trash")
            action.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        choice = TrashChoice() if arguments.action == "list" else choice_of(arguments)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            async with opened_trash(
                settings,
                f"isocenter trash {arguments.action}",
                changes=arguments.action != "list",
            ) as trash:
                match arguments.action:
                    case "list":
                        code = await _list(arguments, trash)
                    case "restore":
                        code = await _restore(settings, trash, choice, terminal)
                    case _:
                        code = await _purge(arguments, settings, trash, choice, terminal)
        return code

    return run_task(terminal, work)


def choice_of(arguments: argparse.Namespace) -> TrashChoice:
    """Which objects are meant.

    Raises:
        UsageError: nobody says.
    """
    choice = TrashChoice(
        deletion_ids=tuple(arguments.deletions),
        study_instance_uids=tuple(arguments.study),
        sop_instance_uids=tuple(arguments.instance),
    )
    is_all = getattr(arguments, "all", False)
    if is_all == (choice != TrashChoice()):
        everything = ", or --all alone" if arguments.action == "purge" else ""
        raise UsageError(f"which? Give a DELETION of isocenter trash list, --study{everything}")
    return choice


async def _list(arguments: argparse.Namespace, trash: Trash) -> int:
    rows = await trash.book.rows()
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(row: DeletionSummary) -> tuple[str, ...]:
    deletion = row.deletion
    texts = (
        deletion.deletion_id, local_time(deletion.at), local_time(deletion.purge_at),
        str(row.studies), str(row.series), str(row.instances), size_text(row.size),
        deletion.actor, deletion.reason,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: DeletionSummary) -> dict[str, object]:
    deletion = row.deletion
    return {
        "deletion": deletion.deletion_id,
        "deleted": local_time(deletion.at),
        "until": local_time(deletion.purge_at),
        "studies": row.studies,
        "series": row.series,
        "instances": row.instances,
        "bytes": row.size,
        "by": deletion.actor,
        "reason": deletion.reason,
    }


async def _is_there(trash: Trash, choice: TrashChoice, terminal: Terminal) -> bool:
    if await trash.book.chosen(choice, limit=1):
        return True
    terminal.error("nothing in the trash is meant by that; isocenter trash list says what is there")
    return False


async def _restore(
    settings: Settings, trash: Trash, choice: TrashChoice, terminal: Terminal
) -> int:
    if not await _is_there(trash, choice, terminal):
        return EXIT_FAILED
    with terminal.progress("restoring") as advance:
        report = await trash.restore(
            choice,
            requester_of(settings, "isocenter trash restore"),
            progress=lambda done: advance(done, None),
        )
    return _report(report, terminal)


def _report(report: Restored, terminal: Terminal) -> int:
    print_findings(terminal, {"not restored": report.there, "damaged": report.damaged})
    print(
        f"restored {counted(report.instances, 'instance')}; {report.there.count} the archive has "
        f"already, {report.damaged.count} are damaged"
    )
    if report.there.count or report.damaged.count:
        terminal.error("not everything was restored; the rest stays in the trash")
        return EXIT_FAILED
    return EXIT_OK


async def _purge(
    arguments: argparse.Namespace,
    settings: Settings,
    trash: Trash,
    choice: TrashChoice,
    terminal: Terminal,
) -> int:
    if arguments.all:
        # What is deleted from now on was not meant.
        rows = await trash.book.rows()
        if not rows:
            print("the trash is empty")
            return EXIT_OK
        choice = TrashChoice(deletion_ids=tuple(row.deletion.deletion_id for row in rows))
    elif not await _is_there(trash, choice, terminal):
        return EXIT_FAILED
    what = "remove all of the trash for good" if arguments.all else "remove that for good"
    if not await is_confirmed(arguments, terminal, what):
        return EXIT_FAILED
    began = time.monotonic()
    with terminal.progress("purging") as advance:
        done = await trash.purge(
            choice,
            requester_of(settings, "isocenter trash purge"),
            progress=lambda count: advance(count, None),
        )
    terminal.detail(f"in {time.monotonic() - began:.1f} s")
    print(f"removed {counted(done, 'instance')} for good")
    if await trash.book.chosen(choice, limit=1):
        terminal.error("what is left is of studies that are held; isocenter hold list says why")
        return EXIT_FAILED
    return EXIT_OK
