"""``isocenter corrections``: what was corrected, merged, moved or split; taking it back."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.archive.corrections.ports import (
    CorrectionRefusedError,
    CorrectionSummary,
)
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.correction_output import (
    opened_corrections,
    state_of,
    worked_off,
)
from isocenter.services.cli.support.deletion_output import counted, requester_of
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import add_archive_options, add_reason, whole_number
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Corrections of what the archive has: list them, take one back, try again what could not be
corrected, and bring to an end what was interrupted (a server does that by itself)."""
EXAMPLES: Final = """\
examples:
  isocenter corrections list
  isocenter corrections undo 17 --reason "it was right before"
  isocenter corrections retry 17
  isocenter corrections resume

All of them may run while the server does.  When a correction is undone, what other corrections say
of the same objects still holds; without any, the archive has them again as they came.

exit codes: 0 done, 1 there is no such correction, or something cannot be corrected, 2 arguments or
settings"""

_HEAD: Final = ("number", "kind", "ordered", "by", "state", "undone", "reason")
_MOST_NUMBER: Final = 2**63 - 1
_COMMAND: Final = "isocenter corrections"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of corrections."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list corrections, the latest first"),
            ("undo", "have a correction hold no more"),
            ("retry", "try again what could not be corrected"),
            ("resume", "bring to an end what was interrupted"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
            add_limit(action)
        elif name in ("undo", "retry"):
            action.add_argument(
                "number", type=whole_number(1, _MOST_NUMBER), metavar="NUMBER", help="as in list"
            )
        if name == "undo":
            add_reason(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "undo": _undo, "retry": _retry, "resume": _resume})


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with opened_corrections(settings, _COMMAND, changes=False) as corrections:
        rows = await corrections.book.rows(limit=arguments.limit)
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(row: CorrectionSummary) -> tuple[str, ...]:
    correction = row.correction
    texts = (
        str(correction.number), correction.kind.value, local_time(correction.at),
        correction.actor, state_of(row), local_time(row.undone_at), correction.reason,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: CorrectionSummary) -> dict[str, object]:
    correction = row.correction
    return {
        "number": correction.number,
        "kind": correction.kind.value,
        "ordered_at": local_time(correction.at),
        "by": correction.actor,
        "reason": correction.reason,
        "studies": sorted(
            {scope.study_instance_uid for scope in correction.scopes if scope.patient is None}
        ),
        "instances": row.instances,
        "corrected": row.done,
        "failed": row.failed,
        "fault": row.fault,
        "undone_at": local_time(row.undone_at),
        "undone_by": row.undone_by,
        "undo_reason": row.undo_reason,
    }


async def _undo(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with opened_corrections(settings, _COMMAND) as corrections:
        try:
            instances = await corrections.undo(
                arguments.number, requester_of(settings, _COMMAND), arguments.reason
            )
        except CorrectionRefusedError as error:
            terminal.error(str(error))
            return EXIT_FAILED
        return await worked_off(corrections, arguments.number, instances, terminal)


async def _retry(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with opened_corrections(settings, _COMMAND) as corrections:
        instances = await corrections.book.retry(arguments.number)
        if not instances:
            terminal.error("nothing of that correction has failed")
            return EXIT_FAILED
        return await worked_off(corrections, arguments.number, instances, terminal)


async def _resume(settings: Settings, _: argparse.Namespace, terminal: Terminal) -> int:
    async with opened_corrections(settings, _COMMAND) as corrections:
        with terminal.progress("correcting") as advance:
            done = await corrections.work(lambda count: advance(count, None))
        await corrections.sweep()
    print(f"{counted(done, 'instance')} corrected")
    return EXIT_OK
