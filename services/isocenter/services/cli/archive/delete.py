"""``isocenter delete``: studies, series or instances leave the archive, for the trash first."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Plan
from isocenter.services.archive.index.query import Query
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.deletion_output import (
    counted,
    opened_trash,
    requester_of,
    shown_until,
)
from isocenter.services.cli.support.options import (
    add_archive_options,
    add_output_options,
    add_reason,
)
from isocenter.services.cli.support.selection_options import (
    add_selection_options,
    counts_of,
    query_of,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Delete from the archive.  What is deleted is not found, sent or promised any more, at once; its
files lie in the trash for storage.trash_days days, from where isocenter trash restores them as
they were.  May run while the server does.  What is to be deleted is counted and asked for first."""
EXAMPLES: Final = """\
examples:
  isocenter delete --study 1.2.840.113619.2.55.3 --reason "wrong patient" --dry-run
  isocenter delete --study 1.2.840.113619.2.55.3 --reason "wrong patient"
  isocenter delete --series 1.2.3.4 --reason "test scan" --yes
  isocenter delete -k PatientID=TEST-* -k Modality=US --reason "phantoms of the service"
  isocenter delete -k StudyDate=-20051231 --reason "past retention" --yes

All keys that are given have to match, as in a relational C-FIND.  Instances that are not to go
(somebody was promised to keep them, or a destination has yet to get them) keep everything where it
is, unless --force says otherwise; studies that are held (isocenter hold) stay in any case.

exit codes: 0 deleted, 1 refused, or nothing matches, 2 arguments or
settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of delete."""
    add_selection_options(parser)
    add_reason(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="count what would go, and change nothing"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force",
        action="store_true",
        help="delete also what was promised to be kept, or has yet to be sent on",
    )
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Delete; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        query = query_of(arguments, settings, "deleted")
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            async with opened_trash(
                settings, "isocenter delete", changes=not arguments.dry_run
            ) as trash:
                code = await _delete(arguments, settings, trash, query, terminal)
        return code

    return run_task(terminal, work)


async def _delete(
    arguments: argparse.Namespace,
    settings: Settings,
    trash: Trash,
    query: Query,
    terminal: Terminal,
) -> int:
    plan = await trash.plan(query)
    if not plan.instances:
        terminal.error("nothing in the archive matches; nothing was deleted")
        return EXIT_FAILED
    print(f"{counts_of(plan)}")
    for text in plan.obstacles.texts():
        print(f"of them, instances {text}")
    is_forbidden = plan.obstacles.forbid(overrule=arguments.force)
    if arguments.dry_run:
        is_or_not = "would be refused" if is_forbidden else "nothing stands against it"
        print(f"nothing was changed; {is_or_not}")
        return EXIT_FAILED if is_forbidden else EXIT_OK
    if is_forbidden:
        terminal.error(_why(plan))
        return EXIT_FAILED
    if not await is_confirmed(arguments, terminal, f"delete {counts_of(plan)}"):
        return EXIT_FAILED
    requester = requester_of(settings, "isocenter delete")
    with terminal.progress("deleting") as advance:
        try:
            done = await trash.delete(
                plan,
                requester,
                arguments.reason,
                overrule=arguments.force,
                progress=lambda count: advance(count, plan.instances),
            )
        except DeletionRefusedError as error:
            terminal.error(f"{error} since they were counted; studies before these are deleted")
            return EXIT_FAILED
    if done.changed:
        terminal.note(f"{counted(done.changed, 'instance')} changed after the count, and stay")
    if not done.deletion_id:
        terminal.error("nothing was deleted")
        return EXIT_FAILED
    print(f"deleted {counted(done.instances, 'instance')}: {done.deletion_id}")
    print(shown_until(settings, done.deletion_id))
    return EXIT_OK


def _why(plan: Plan) -> str:
    """What stands against it, and the cure."""
    obstacles = plan.obstacles
    if obstacles.held:
        return "nothing was deleted: a study is held; isocenter hold list says why"
    if obstacles.asked:
        return (
            "nothing was deleted: a peer has asked for storage commitment and has no answer yet; "
            "try again when isocenter commitments list names none that is pending"
        )
    return (
        "nothing was deleted: see the lines above; --force deletes it all the same, and breaks "
        "promises that were given, or gives up what has yet to be sent"
    )
