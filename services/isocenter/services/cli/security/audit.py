"""``isocenter audit``: check the audit trail, read it, and give it to others."""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import orjson
import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import UsageError, add_archive_options, point_in_time
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import (
    active_process_of,
    audit_folder,
    key_of,
    record_now,
    removal_recorder,
)
from isocenter.services.diagnostics.doctor.audit_trail import growth_facts, growth_lines
from isocenter.services.security.audit.hash_chain import Position, Record
from isocenter.services.security.audit.message_builder import audit_log_used
from isocenter.services.security.audit.messages import Outcome
from isocenter.services.security.audit.trail import read_key
from isocenter.services.security.audit.trail_growth import growth_of
from isocenter.services.security.audit.trail_reader import Cursor, Selection, TrailReader, summarize
from isocenter.services.security.audit.trail_removal import (
    RemovalRefusedError,
    plan_removal,
    remove,
)
from isocenter.services.security.audit.trail_segments import segments_of
from isocenter.services.security.audit.trail_verification import TrailVerification, verify
from isocenter.services.settings.settings import Settings
from isocenter.services.system.log_format import escape

DESCRIPTION: Final = """\
Look after the audit trail of the archive (PS3.15 A.5): who stored, asked and fetched what, and
who was turned away.  Each record holds the digest of the one before it; verify shows whether
anything was changed since.  That somebody reads the trail is recorded, too."""
EXAMPLES: Final = """\
examples:
  isocenter audit verify
  isocenter audit verify --checkpoint 952:DIGEST
  isocenter audit verify --others /mnt/node-two/audit /mnt/node-three/audit
  isocenter audit show --since 2026-11-21 --event query --ae CT1
  isocenter audit show --event 110113 --json
  isocenter audit show --patient 4711 --since yesterday
  isocenter audit tail -f
  isocenter audit size
  isocenter audit remove --keep-days 3650 --yes
  isocenter audit export --until 2026-12-01 -o november.jsonl

exit codes: 0 all is well, 1 something was changed, or cannot be removed, 2 arguments or settings"""

_POLL_SECONDS: Final = 0.5
_LAST: Final = 20
_BEGINNING: Final = Cursor()
_OUTCOMES: Final = {
    Outcome.SUCCESS.value: "ok",
    Outcome.MINOR_FAILURE.value: "minor",
    Outcome.SERIOUS_FAILURE.value: "serious",
    Outcome.MAJOR_FAILURE.value: "MAJOR",
}
#: Writes one record.
_Write = Callable[[Record], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of audit."""
    for name, action in add_actions(
        parser,
        (
            ("verify", "check that nothing was changed, left out, put in or cut off"),
            ("show", "print records, a line each, without patients"),
            ("tail", "print the last records, and go on with -f"),
            ("size", "how large it is, how much comes a day, and when the disk is full"),
            (
                "remove",
                "remove the oldest files of the trail, sealed, so that the rest is verified on",
            ),
            ("export", "write whole records, with patient IDs and names, for other programs"),
        ),
    ):
        add_archive_options(action)
        action.set_defaults(trail=None)
        if name == "remove":
            _add_remove_options(action)
            continue
        action.add_argument(
            "--trail",
            type=Path,
            metavar="DIR",
            help="a copy of the folder, instead of the one of the archive",
        )
        if name == "verify":
            _add_verify_options(action)
        elif name == "size":
            action.add_argument("--json", action="store_true", help="one JSON object")
        else:
            _add_reading_options(action, name)


def _add_verify_options(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--key-file", type=Path, metavar="FILE", help="key of the HMAC (default: as serve has it)"
    )
    action.add_argument(
        "--begins-at",
        type=_positive,
        default=1,
        metavar="N",
        help="number of the first record, when files before it were removed on purpose",
    )
    action.add_argument(
        "--checkpoint",
        type=_checkpoint,
        metavar="N:DIGEST",
        help="a record that verify named before and that must still be there",
    )
    action.add_argument(
        "--others",
        nargs="+",
        default=(),
        type=Path,
        metavar="DIR",
        help="trails of other nodes of the archive, or copies of them, to be verified as well",
    )
    action.add_argument(
        "--json", action="store_true", help="the result as one JSON object, of each trail on a line"
    )


def _add_remove_options(action: argparse.ArgumentParser) -> None:
    age = action.add_mutually_exclusive_group(required=True)
    age.add_argument(
        "--before", type=point_in_time, metavar="TIME", help="files with older records only"
    )
    age.add_argument(
        "--keep-days", type=_positive, metavar="N", help="the same, so many days before now"
    )
    action.add_argument("--yes", action="store_true", help="yes, remove them")


def _add_reading_options(action: argparse.ArgumentParser, name: str) -> None:
    action.add_argument("--since", type=point_in_time, metavar="TIME", help="records from then on")
    action.add_argument("--until", type=point_in_time, metavar="TIME", help="records before then")
    action.add_argument(
        "--event",
        default="",
        metavar="NAME|CODE",
        help="event or type: a part of its name, or its code (110112)",
    )
    action.add_argument(
        "--ae", dest="ae_title", default="", metavar="AET", help="an AE title that took part"
    )
    action.add_argument(
        "--patient",
        default="",
        metavar="ID",
        help="a Patient ID: what was stored, sent, deleted and asked of this patient",
    )
    if name == "export":
        action.add_argument(
            "--format",
            choices=("jsonl", "xml"),
            default="jsonl",
            help="jsonl: the lines of the trail; xml: the messages, a line each",
        )
        action.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")
        return
    action.add_argument("--json", action="store_true", help="one JSON object a line")
    action.add_argument(
        "--show-phi", action="store_true", help="whole messages, with patient IDs and names"
    )
    if name == "tail":
        action.add_argument(
            "-n",
            "--lines",
            type=_positive,
            default=_LAST,
            metavar="N",
            help="how many (default: %(default)s)",
        )
        action.add_argument("-f", "--follow", action="store_true", help="wait for more")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=False)
        folder = arguments.trail or audit_folder(settings)
        if not segments_of(folder):
            raise UsageError(
                f"no audit trail is in {folder}; give the data directory with --data-dir, or its "
                "folder with --trail"
            )
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            if arguments.action == "verify":
                code = await _verify_all(arguments, settings, folder, terminal)
            elif arguments.action == "size":
                code = await trio.to_thread.run_sync(_show_growth, arguments, settings, folder)
            elif arguments.action == "remove":
                code = await trio.to_thread.run_sync(_remove, arguments, settings, folder, terminal)
            else:
                if arguments.trail is None:
                    await _record_use(settings, folder, terminal)
                await _read(arguments, folder)
                code = EXIT_OK
        return code

    return run_task(terminal, work)


async def _record_use(settings: Settings, folder: Path, terminal: Terminal) -> None:
    """Audit Log Used (A.5.3.2), before anything is shown."""
    here = active_process_of(settings, "isocenter audit")
    try:
        await trio.to_thread.run_sync(record_now, settings, here, [audit_log_used(here, folder)])
    except (OSError, IsocenterError) as error:
        terminal.error(f"that the trail is read could not be recorded in it: {error}")


# -- Verify ------------------------------------------------------------------------------


async def _verify_all(
    arguments: argparse.Namespace, settings: Settings, folder: Path, terminal: Terminal
) -> int:
    """Each node has a chain of its own; all of them are good, or the archive's trail is not."""
    for other in arguments.others:
        if not segments_of(other):
            raise UsageError(f"no audit trail is in {other}")
    code = await _verify(arguments, settings, folder, arguments.checkpoint, terminal)
    for other in arguments.others:
        code = max(code, await _verify(arguments, settings, other, None, terminal))
    return code


async def _verify(
    arguments: argparse.Namespace,
    settings: Settings,
    folder: Path,
    checkpoint: Position | None,
    terminal: Terminal,
) -> int:
    key_file = arguments.key_file or settings.audit.hmac_key_file
    key = None if key_file is None else read_key(key_file)
    with terminal.progress("verifying") as advance:
        verdict = await trio.to_thread.run_sync(
            lambda: verify(
                folder,
                key=key,
                begins_at=arguments.begins_at,
                checkpoint=checkpoint,
                progress=lambda records: advance(records, None),
            ),
            abandon_on_cancel=True,
        )
    if arguments.json:
        print(_verdict_as_json(verdict))
    else:
        _print_verdict(verdict, folder, terminal, is_keyed=key is not None)
    return EXIT_OK if verdict.is_good else EXIT_FAILED


# -- Removing ----------------------------------------------------------------------------


def _remove(
    arguments: argparse.Namespace, settings: Settings, folder: Path, terminal: Terminal
) -> int:
    before = arguments.before or datetime.now(UTC) - timedelta(days=arguments.keep_days)
    key = key_of(settings)
    try:
        plan = plan_removal(folder, before, key=key, collectors=settings.audit.collectors)
    except RemovalRefusedError as error:
        terminal.error(f"{error}; nothing is removed (see isocenter audit verify)")
        return EXIT_FAILED
    if plan is None:
        terminal.note("no file of the trail has older records only; nothing is removed")
        return EXIT_OK
    if not arguments.yes:
        raise UsageError(f"this removes {plan.files} for good ({plan.removal}); say so with --yes")
    removal_recorder(settings, "isocenter audit")(plan)
    remove(folder, plan, key=key)
    terminal.note(f"{plan.files} removed; gone are now {plan.removal}")
    return EXIT_OK


# -- Size --------------------------------------------------------------------------------


def _show_growth(arguments: argparse.Namespace, settings: Settings, folder: Path) -> int:
    audit = settings.audit
    growth = growth_of(
        folder, compress=audit.compress, keep_days=audit.keep_days, now=datetime.now(UTC)
    )
    if arguments.json:
        print(orjson.dumps(growth_facts(growth)).decode())
    else:
        for line in growth_lines(growth):
            print(line)
    return EXIT_OK


def _print_verdict(
    verdict: TrailVerification, folder: Path, terminal: Terminal, *, is_keyed: bool
) -> None:
    for fault in verdict.faults:
        terminal.note(str(fault))
    if verdict.faults_found > len(verdict.faults):
        terminal.note(f"{verdict.faults_found - len(verdict.faults)} more")
    files = "1 file" if verdict.files == 1 else f"{verdict.files} files"
    found = f"{folder}: {verdict.records} records ({verdict.first} to {verdict.last}) in {files}"
    if not verdict.is_good:
        first = verdict.faults[0]
        where = first.place if first.record is None else f"record {first.record} ({first.place})"
        print(f"{found}: BROKEN, first at {where}")
        return
    print(f"{found}: unbroken")
    if verdict.removed is not None:
        terminal.note(f"removed on purpose, and sealed: {verdict.removed}")
    if is_keyed and verdict.unkeyed:
        terminal.note(f"{verdict.unkeyed} of them are from before there was a key")
    if not is_keyed:
        terminal.note(
            "without a key (audit.hmac_key_file) whoever may write these files could have made "
            "all digests anew"
        )
    print(f"checkpoint {verdict.end.sequence}:{verdict.end.digest}")


def _verdict_as_json(verdict: TrailVerification) -> str:
    return orjson.dumps(
        {
            "good": verdict.is_good,
            "first": verdict.first,
            "last": verdict.last,
            "records": verdict.records,
            "files": verdict.files,
            "unkeyed": verdict.unkeyed,
            "removed_to": verdict.removed.last.sequence if verdict.removed else 0,
            "checkpoint": f"{verdict.end.sequence}:{verdict.end.digest}",
            "faults_found": verdict.faults_found,
            "faults": [
                {"place": fault.place, "record": fault.record, "text": fault.text}
                for fault in verdict.faults
            ],
        }
    ).decode()


# -- Reading -----------------------------------------------------------------------------


async def _read(arguments: argparse.Namespace, folder: Path) -> None:
    selection = Selection(
        since=arguments.since,
        until=arguments.until,
        event=arguments.event,
        ae_title=arguments.ae_title,
        patient_id=arguments.patient,
    )
    with closing(TrailReader(folder)) as reader:
        if arguments.action == "export":
            with _output(arguments.output) as file:
                await _each(reader, selection, _exporter(arguments.format, file))
            return
        write = _shower(as_json=arguments.json, show_phi=arguments.show_phi)
        if arguments.action == "show":
            await _each(reader, selection, write)
            return
        last: deque[Record] = deque(maxlen=arguments.lines)
        cursor = await _each(reader, selection, last.append)
        for record in last:
            write(record)
        while arguments.follow:
            sys.stdout.flush()
            await trio.sleep(_POLL_SECONDS)
            cursor = await _each(reader, selection, write, cursor)


async def _each(
    reader: TrailReader, selection: Selection, write: _Write, cursor: Cursor = _BEGINNING
) -> Cursor:
    """*write* every record behind *cursor* that is wanted; the place behind the last."""
    while True:
        records, cursor = await trio.to_thread.run_sync(reader.read_on, cursor)
        if not records:
            return cursor
        for record in records:
            if selection.admits(record):
                write(record)


def _shower(*, as_json: bool, show_phi: bool) -> _Write:
    def show(record: Record) -> None:
        summary = summarize(record)
        entry = record.entry
        if as_json:
            members: dict[str, object] = {
                "sequence": record.sequence,
                "time": entry.time,
                "event": entry.event,
                "type": entry.type,
                "outcome": entry.outcome,
                "ae_titles": entry.ae_titles,
                "participants": summary.participants,
                "objects": summary.objects,
                "description": summary.description,
            }
            if show_phi:
                members["message"] = entry.message
            print(orjson.dumps(members, default=tuple).decode())
            return
        what = f"{entry.event}: {entry.type}" if entry.type else entry.event
        parts = [what, ", ".join(summary.participants), "; ".join(summary.objects)]
        if summary.description:
            parts.append(summary.description)
        outcome = _OUTCOMES.get(entry.outcome, entry.outcome)
        text = " | ".join(part for part in parts if part)
        print(escape(f"{record.sequence:>8} {entry.time} {outcome:<7} {text}"))
        if show_phi:
            print(f"         {_whole(entry.message)}")

    return show


def _whole(text: str) -> str:
    """A message is longer than a line of the log may be; it is ASCII, as we write it."""
    return text.encode("ascii", "backslashreplace").decode("ascii").replace("\n", "\\x0a")


def _exporter(kind: str, file: IO[bytes]) -> _Write:
    def export(record: Record) -> None:
        entry = record.entry
        if kind == "xml":
            file.write(_whole(entry.message).encode("ascii") + b"\n")
        else:
            members = {"sequence": record.sequence, "time": entry.time, "event": entry.event}
            members |= {"type": entry.type, "outcome": entry.outcome, "message": entry.message}
            file.write(orjson.dumps(members) + b"\n")

    return export


def _output(path: Path | None) -> nullcontext[IO[bytes]] | IO[bytes]:
    if path is None:
        return nullcontext(sys.stdout.buffer)
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError as error:
        raise UsageError(f"{path} is there already; name another file") from error


# -- Arguments ---------------------------------------------------------------------------


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _checkpoint(text: str) -> Position:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise argparse.ArgumentTypeError(
            "a checkpoint is N:DIGEST, with 64 hexadecimal digits, as verify prints it"
        )
    return Position(int(number), digest.lower())
