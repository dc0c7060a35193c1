"""``isocenter quarantine``: objects that are kept, and withheld until somebody releases them."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.archive.deletion.ports import (
    DeletionRefusedError,
    DeletionSummary,
    TrashChoice,
    TrashedInstance,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.deletion_output import (
    counted,
    opened_trash,
    requester_of,
    shown_until,
)
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_reason,
    uid,
)
from isocenter.services.cli.support.selection_options import (
    add_selection_options,
    counts_of,
    query_of,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Quarantine: objects that are kept byte for byte, but not found, sent or forwarded until somebody
releases them.  A rule with quarantine = "why" puts there what arrives; this command does it with
what the archive has.  What is forwarded by rule is sent on when it is released."""
EXAMPLES: Final = """\
examples:
  isocenter quarantine list
  isocenter quarantine show 5f3a9c12
  isocenter quarantine add --study 1.2.840.113619.2.55.3 --reason "whose is it?"
  isocenter quarantine release 5f3a9c12
  isocenter quarantine release --study 1.2.840.113619.2.55.3
  isocenter quarantine delete 5f3a9c12 --reason "a test scan"

All of them may run while the server does.

exit codes: 0 done, 1 refused, or there is no such quarantine, 2 arguments or
settings"""

_HEAD: Final = ("quarantine", "since", "studies", "series", "instances", "size", "by", "reason")
_SHOWN: Final = ("SOP Instance UID", "SOP Class UID", "Study Instance UID", "size")
_CAUSES: Final = (DeletionCause.QUARANTINED,)
#: Objects that are shown at once.
_AT_ONCE: Final = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of quarantine."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list what is quarantined, the latest first"),
            ("show", "list the objects of a quarantine"),
            ("add", "quarantine studies, series or instances"),
            ("release", "let them be found, sent and forwarded"),
            ("delete", "delete them, into the trash"),
        ),
    ):
        add_archive_options(action)
        match name:
            case "list" | "show":
                action.add_argument("--json", action="store_true", help="for programs")
            case "add":
                add_selection_options(action)
                add_reason(action)
                action.add_argument("--yes", action="store_true", help="do not ask")
            case "delete":
                add_reason(action)
                action.add_argument("--yes", action="store_true", help="do not ask")
        if name in ("show", "delete"):
            action.add_argument("quarantine", metavar="QUARANTINE", help="as list names it")
        elif name == "release":
            action.add_argument("quarantines", nargs="*", metavar="QUARANTINE", help="as in list")
            for option, what in (("--study", "study"), ("--instance", "instance")):
                action.add_argument(
                    option,
                    type=uid,
                    action="append",
                    default=[],
                    metavar="UID",
                    help=f"only this {what}; without QUARANTINE from all of them (repeatable)",
                )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)
    changes = arguments.action not in ("list", "show")

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            name = f"isocenter quarantine {arguments.action}"
            async with opened_trash(settings, name, changes=changes) as trash:
                if changes:
                    # What a rule has quarantined just now is on its way there.
                    await trash.finish()
                act = _ACTIONS[arguments.action]
                code = await act(settings, arguments, terminal, trash)
        return code

    return run_task(terminal, work)


async def _list(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, trash: Trash
) -> int:
    rows = await trash.book.rows(_CAUSES)
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


async def _show(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, trash: Trash
) -> int:
    choice = TrashChoice(deletion_ids=(arguments.quarantine,), causes=_CAUSES)
    found: list[TrashedInstance] = []
    while some := await trash.book.chosen(
        choice, after=found[-1].number if found else 0, limit=_AT_ONCE
    ):
        found += some
    if not found:
        return _none(terminal)
    print_rows(found, as_json=arguments.json, head=_SHOWN, line=_object_line, members=_object_json)
    return EXIT_OK


async def _add(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, trash: Trash
) -> int:
    plan = await trash.plan(query_of(arguments, settings, "quarantined"))
    if not plan.instances:
        terminal.error("nothing in the archive matches; nothing was quarantined")
        return EXIT_FAILED
    print(counts_of(plan))
    if not await is_confirmed(arguments, terminal, f"quarantine {counts_of(plan)}"):
        return EXIT_FAILED
    try:
        done = await trash.delete(
            plan,
            requester_of(settings, "isocenter quarantine add"),
            arguments.reason,
            cause=DeletionCause.QUARANTINED,
        )
    except DeletionRefusedError as error:
        terminal.error(f"{error}; try again in a minute. Studies before these are quarantined")
        return EXIT_FAILED
    if done.changed:
        terminal.note(f"{counted(done.changed, 'instance')} changed after the count, and stay")
    if not done.deletion_id:
        terminal.error("nothing was quarantined")
        return EXIT_FAILED
    print(f"quarantined {counted(done.instances, 'instance')}: {done.deletion_id}")
    print(f"isocenter quarantine release {done.deletion_id} lets them be found again")
    return EXIT_OK


async def _release(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, trash: Trash
) -> int:
    if not (arguments.quarantines or arguments.study or arguments.instance):
        raise UsageError(
            "which? Give a QUARANTINE of isocenter quarantine list, --study or --instance"
        )
    choice = TrashChoice(
        deletion_ids=tuple(arguments.quarantines),
        study_instance_uids=tuple(arguments.study),
        sop_instance_uids=tuple(arguments.instance),
        causes=_CAUSES,
    )
    with terminal.progress("releasing") as advance:
        done = await trash.restore(
            choice,
            requester_of(settings, "isocenter quarantine release"),
            progress=lambda count: advance(count, None),
        )
    print_findings(terminal, {"not released": done.there, "damaged": done.damaged})
    if not (done.instances or done.there.count or done.damaged.count):
        return _none(terminal)
    print(f"released {counted(done.instances, 'instance')}")
    if done.there.count or done.damaged.count:
        terminal.error("not everything was released; the rest stays in quarantine")
        return EXIT_FAILED
    return EXIT_OK


async def _delete(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, trash: Trash
) -> int:
    if not await is_confirmed(arguments, terminal, f"delete {arguments.quarantine}"):
        return EXIT_FAILED
    if not await trash.book.chosen(
        TrashChoice(deletion_ids=(arguments.quarantine,), causes=_CAUSES), limit=1
    ):
        return _none(terminal)
    requester = requester_of(settings, "isocenter quarantine delete")
    try:
        done = await trash.discard(arguments.quarantine, requester, arguments.reason)
    except DeletionRefusedError as error:
        terminal.error(f"nothing was deleted: {error}")
        return EXIT_FAILED
    print(f"deleted {counted(done, 'instance')}: {arguments.quarantine}")
    print(shown_until(settings, arguments.quarantine))
    return EXIT_OK


_ACTIONS: Final = {
    "list": _list,
    "show": _show,
    "add": _add,
    "release": _release,
    "delete": _delete,
}


def _none(terminal: Terminal) -> int:
    terminal.error(
        "nothing that is quarantined is meant by that; isocenter quarantine list says what there is"
    )
    return EXIT_FAILED


def _line(row: DeletionSummary) -> tuple[str, ...]:
    deletion = row.deletion
    texts = (
        deletion.deletion_id, local_time(deletion.at), str(row.studies), str(row.series),
        str(row.instances), size_text(row.size), deletion.actor or "a rule", deletion.reason,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: DeletionSummary) -> dict[str, object]:
    deletion = row.deletion
    return {
        "quarantine": deletion.deletion_id,
        "since": local_time(deletion.at),
        "studies": row.studies,
        "series": row.series,
        "instances": row.instances,
        "bytes": row.size,
        "by": deletion.actor,
        "reason": deletion.reason,
    }


def _object_line(row: TrashedInstance) -> tuple[str, ...]:
    stored = row.stored
    texts = (
        stored.sop_instance_uid, stored.sop_class_uid, stored.study_instance_uid,
        size_text(stored.size),
    )  # fmt: skip
    return tuple(map(shown, texts))


def _object_json(row: TrashedInstance) -> dict[str, object]:
    stored = row.stored
    return {
        "sop_instance_uid": stored.sop_instance_uid,
        "sop_class_uid": stored.sop_class_uid,
        "study_instance_uid": stored.study_instance_uid,
        "series_instance_uid": stored.series_instance_uid,
        "transfer_syntax_uid": stored.transfer_syntax_uid,
        "bytes": stored.size,
        "sha256": stored.digest,
    }
