"""``isocenter reject``: rejection notes (IHE RAD IOCM), made, listed and taken back."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from isocenter.services import composition
from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.rejection.ports import NoteRow
from isocenter.services.archive.rejection.reasons import RejectionReason
from isocenter.services.archive.rejection.service import NoSuchNoteError, Rejections
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.deletion_output import counted, ready_for_changes, requester_of
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, reason, uid
from isocenter.services.cli.support.selection_options import (
    add_selection_options,
    counts_of,
    query_of,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Rejection notes (IHE RAD Imaging Object Change Management): Key Object Selections that say which
objects nobody is to use, and why.  The archive obeys those that it receives; this command makes
one for each study, stores it as a received one (so that rules send it on), and takes them back.
What is rejected is kept, and neither found nor sent until its note is taken back."""
EXAMPLES: Final = """\
examples:
  isocenter reject add --series 1.2.3.4 --for quality --reason "motion"
  isocenter reject add --study 1.2.3 --for worklist --reason "wrong patient chosen"
  isocenter reject list
  isocenter reject revoke 2.25.1234 --reason "it was the right patient"
  isocenter reject delete 2.25.1234 --reason "not needed any more"

All of them may run while the server does.

exit codes: 0 done, 1 refused, or there is no such note, 2 arguments or
settings"""

_HEAD: Final = ("note", "at", "state", "rejects", "for", "by", "text")
#: Notes that are listed.
_MOST_ROWS: Final = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of reject."""
    for name, action in add_actions(
        parser,
        (
            ("add", "reject studies, series or instances"),
            ("list", "list rejection notes, the latest first"),
            ("revoke", "take a note back: what it rejects is found again"),
            ("delete", "delete what a note hides, into the trash; the note stays"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
            continue
        if name == "add":
            add_selection_options(action)
            action.add_argument(
                "--for",
                dest="cause",
                required=True,
                choices=[each.value for each in RejectionReason],
                help="quality (113001), patient-safety (113037), worklist (113038: incorrect "
                "worklist entry) or retention (113039: data retention policy expired)",
            )
        else:
            action.add_argument("note", type=uid, metavar="NOTE", help="as list names it")
        action.add_argument(
            "--reason",
            required=True,
            type=reason,
            metavar="TEXT",
            help="why; it stands in the note and in the audit trail",
        )
        action.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"add": _add, "list": _list, "revoke": _revoke, "delete": _delete})


@asynccontextmanager
async def _opened(settings: Settings, name: str) -> AsyncIterator[tuple[Trash, Rejections]]:
    """The archive, owned where no server does; where one does, that one stores the notes."""
    await ready_for_changes(settings)
    async with AsyncExitStack() as stack:
        owns = True
        try:
            parts = await stack.enter_async_context(
                composition.open_archive_parts(settings, recover=False)
            )
        except StorageError:
            owns = False
            parts = await stack.enter_async_context(
                composition.open_archive_parts(settings, lock=False, recover=False)
            )
        trash = composition.trash_of(settings, parts, name)
        rejections = composition.rejections_of(settings, parts, name, can_store=owns)
        if trash is None or rejections is None:
            raise UsageError("this archive has no trash")
        yield trash, rejections


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    name = "isocenter reject add"
    query = query_of(arguments, settings, "rejected")
    async with _opened(settings, name) as (trash, rejections):
        plan = await trash.plan(query)
        if not plan.instances:
            terminal.error("nothing in the archive matches; nothing was rejected")
            return EXIT_FAILED
        print(counts_of(plan))
        if not await is_confirmed(arguments, terminal, f"reject {counts_of(plan)}"):
            return EXIT_FAILED
        made = await rejections.reject(
            plan, RejectionReason(arguments.cause), requester_of(settings, name), arguments.reason
        )
        due = {row.sop_instance_uid for row in await rejections.book.unfinished(_MOST_ROWS)}
    for note in made:
        print(f"rejected by {note}")
    if due.intersection(made):
        terminal.note("the running server stores the notes within half a minute")
    return EXIT_OK


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.rejections.rows(limit=_MOST_ROWS)
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


async def _revoke(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    name = "isocenter reject revoke"
    if not await is_confirmed(arguments, terminal, f"take the note {arguments.note} back"):
        return EXIT_FAILED
    async with _opened(settings, name) as (_, rejections):
        try:
            done = await rejections.revoke(
                arguments.note, requester_of(settings, name), arguments.reason
            )
        except NoSuchNoteError as error:
            terminal.error(f"{error}; isocenter reject list names those that there are")
            return EXIT_FAILED
        except DeletionRefusedError as error:
            terminal.error(f"{error}; try again in a minute")
            return EXIT_FAILED
    print_findings(terminal, {"not found again": done.there, "damaged": done.damaged})
    print(f"{counted(done.instances, 'instance')} can be found again; the note is in the trash")
    return EXIT_FAILED if done.there.count or done.damaged.count else EXIT_OK


async def _delete(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    name = "isocenter reject delete"
    if not await is_confirmed(arguments, terminal, f"delete what {arguments.note} hides"):
        return EXIT_FAILED
    async with _opened(settings, name) as (_, rejections):
        try:
            done = await rejections.delete(
                arguments.note, requester_of(settings, name), arguments.reason
            )
        except NoSuchNoteError as error:
            terminal.error(f"{error}; isocenter reject list names those that there are")
            return EXIT_FAILED
        except DeletionRefusedError as error:
            terminal.error(f"not deleted: {error}")
            return EXIT_FAILED
    print(
        f"deleted {counted(done, 'instance')}; isocenter trash list says until when they are kept"
    )
    return EXIT_OK


def _line(row: NoteRow) -> tuple[str, ...]:
    texts = (
        row.sop_instance_uid, local_time(row.at), row.state.value, str(row.instances),
        "" if row.reason is None else row.reason.value, row.actor, row.text or row.fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: NoteRow) -> dict[str, object]:
    return {
        "note": row.sop_instance_uid,
        "study_instance_uid": row.study_instance_uid,
        "at": local_time(row.at),
        "state": row.state.value,
        "instances": row.instances,
        "for": None if row.reason is None else row.reason.value,
        "code": None if row.reason is None else row.reason.code,
        "by": row.actor,
        "text": row.text,
        "fault": row.fault,
    }
