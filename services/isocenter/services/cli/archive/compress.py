"""``isocenter compress``: objects that were compressed, are to be, or stay."""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from isocenter.services import composition
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    uid,
    whole_number,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.dicom.pixels.errors import CodecUnavailableError
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    BY_KEYWORD,
    LOSSLESS_TARGETS,
    PIXEL_SYNTAXES,
    encodable,
)
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.compression.ports import CompressionState, CompressionSummary

DESCRIPTION: Final = """\
Objects that rules have compressed (compress = "jpeg-ls" in [[rules]]) or signed (sign = true),
and those that the archive has already.  Nothing of the pixels is lost: what is made is read back
and compared with what came before it takes its place."""
EXAMPLES: Final = """\
examples:
  isocenter compress status
  isocenter compress list --state failed --json
  isocenter compress retry
  isocenter compress retry 17 18
  isocenter compress add --to jpeg-ls --study 1.2.840.113619.2.55.3
  isocenter compress add --to htj2k-rpcl --all

All of them may run while the server does; it is the server that compresses.  retry has what was
given up tried again, and what stays as it came looked at again if it is named by its number.

exit codes: 0 done, 1 there is no such record or study, 2 arguments or settings"""

_MOST_NUMBER: Final = 2**63 - 1
_STUDY_INSTANCE_UID: Final = 0x0020000D
_STATES: Final = {state.value: state for state in CompressionState}
_HEAD: Final = (
    "number", "state", "to", "sign", "attempts", "queued", "next attempt", "ended",
    "before", "after", "SOP Instance UID", "rule", "reason",
)  # fmt: skip
_BY_HAND: Final = "isocenter compress add"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of compress."""
    for name, action in add_actions(
        parser,
        (
            ("status", "count objects by state, with the room that was won, and reasons"),
            ("list", "list records, the latest first"),
            ("retry", "have what was given up tried again"),
            ("add", "have objects compressed that the archive has already"),
        ),
    ):
        add_archive_options(action)
        if name in ("status", "list"):
            action.add_argument("--json", action="store_true", help="for programs")
        match name:
            case "list":
                action.add_argument("--state", choices=tuple(_STATES), help="only in this state")
                add_limit(action)
            case "retry":
                action.add_argument(
                    "numbers",
                    nargs="*",
                    type=whole_number(1, _MOST_NUMBER),
                    metavar="NUMBER",
                    help="only these records",
                )
            case "add":
                action.add_argument(
                    "--to", required=True, choices=LOSSLESS_TARGETS, help="transfer syntax"
                )
                which = action.add_mutually_exclusive_group(required=True)
                which.add_argument(
                    "--study", type=uid, action="append", metavar="UID", help="(repeatable)"
                )
                which.add_argument("--all", action="store_true", help="everything")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"status": _status, "list": _list, "retry": _retry, "add": _add})


async def _status(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        totals = await stores.compressions.totals()
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        whole = {
            "counts": {state.value: totals.counts.get(state, 0) for state in CompressionState},
            "size_before": totals.received_size,
            "size": totals.size,
            "reasons": [
                {"state": state.value, "reason": reason, "objects": count}
                for state, reason, count in totals.reasons
            ],
        }
        out.write(orjson.dumps(whole).decode() + "\n")
        return EXIT_OK
    counts = [f"{totals.counts.get(state, 0)} {state.value}" for state in CompressionState]
    out.write(", ".join(counts) + "\n")
    if totals.received_size:
        part = 100 * totals.size / totals.received_size
        out.write(
            f"compressed: {size_text(totals.received_size)} have become {size_text(totals.size)} "
            f"({part:.0f} %)\n"
        )
    for state, reason, count in totals.reasons:
        out.write(f"{state.value}: {count} because: {shown(reason)}\n")
    return EXIT_OK


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.compressions.rows(
            state=_STATES.get(arguments.state), limit=arguments.limit
        )
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _keyword(row: CompressionSummary) -> str:
    if not row.transfer_syntax_uid:
        return ""
    known = PIXEL_SYNTAXES.get(row.transfer_syntax_uid)
    return row.transfer_syntax_uid if known is None else known.keyword


def _line(row: CompressionSummary) -> tuple[str, ...]:
    is_done = row.state is CompressionState.DONE
    texts = (
        str(row.number), row.state.value, _keyword(row), "yes" if row.signs else "",
        str(row.attempts),
        local_time(row.created_at),
        local_time(row.due_at) if row.state is CompressionState.DUE else "",
        local_time(row.ended_at),
        size_text(row.received_size) if is_done else "", size_text(row.size) if is_done else "",
        row.sop_instance_uid, row.rule, row.last_fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: CompressionSummary) -> dict[str, object]:
    return {
        "number": row.number,
        "state": row.state.value,
        "to": _keyword(row),
        "sign": row.signs,
        "attempts": row.attempts,
        "created_at": local_time(row.created_at),
        "due_at": local_time(row.due_at),
        "ended_at": local_time(row.ended_at),
        "size_before": row.received_size,
        "size": row.size,
        "sop_instance_uid": row.sop_instance_uid,
        "study_instance_uid": row.study_instance_uid,
        "rule": row.rule,
        "reason": row.last_fault,
    }


async def _retry(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        count = await stores.compressions.retry(arguments.numbers)
    if not count and arguments.numbers:
        terminal.error("there is no such record; isocenter compress list shows what there is")
        return EXIT_FAILED
    terminal.note(f"{count} to be tried by the server")
    return EXIT_OK


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    syntax = BY_KEYWORD[arguments.to]
    try:
        encodable(syntax.uid)
    except CodecUnavailableError as error:
        raise UsageError(str(error)) from error
    query = None
    if arguments.study:
        studies = Criterion(_STUDY_INSTANCE_UID, ValueList(tuple(arguments.study)))
        query = Query(level=Level.STUDY, criteria=(studies,))
    count = 0
    async with (
        composition.open_stores(settings) as stores,
        stores.index.instances(query) as blocks,
    ):
        async for block in blocks:
            some = [each for each in block if each.transfer_syntax_uid != syntax.uid]
            count += await stores.compressions.order(some, syntax.uid, _BY_HAND)
    if not count:
        terminal.error("the archive has nothing of that in another transfer syntax")
        return EXIT_FAILED
    terminal.note(f"{count} objects are queued for the server")
    return EXIT_OK
