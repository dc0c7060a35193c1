"""``isocenter worklist``: what is scheduled; fed and tended by hand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, whole_number
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_key
from isocenter.services.service_classes.query_retrieve.identifier_builder import (
    build_identifier,
)
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryKey,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.entry_files import read_entries
from isocenter.services.service_classes.worklist.order_changes import changed_entry
from isocenter.services.service_classes.worklist.order_fields import (
    ATTRIBUTES,
    CODES,
    DATE_TIME,
    FIELDS,
    STEP_STATUS,
    entry_fields,
    entry_of_fields,
    state_of,
)
from isocenter.services.service_classes.worklist.ports import StoredEntry
from isocenter.services.service_classes.worklist.query_keys import (
    parse_keys,
)
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = "The modality worklist: list, add, import, update and remove its entries."
EXAMPLES: Final = """\
examples:
  isocenter worklist add step_id=SPS1 accession_no=A1 patient_id=12345 patient_name=DOE^JOHN \\
      modality=CT station_ae=CT_01 scheduled_datetime=20261124093000 procedure_desc="CT CHEST"
  isocenter worklist import orders.json planned/*.wl
  isocenter worklist list
  isocenter worklist list -k ScheduledProcedureStepSequence[0].Modality=CT --format json
  isocenter worklist update SPS1 A1 station_ae=CT_02
  isocenter worklist update SPS1 A1 step_status=COMPLETED
  isocenter worklist remove SPS1 A1

An entry is called by its Scheduled Procedure Step ID and its Accession Number (which may be empty).
All of it may run while the server does, and counts at once.

exit codes: 0 done, 1 an entry is faulty or there is none (then nothing was changed), 2
arguments or settings"""

_SOURCE: Final = "command"
_MOST: Final = 1_000_000
_STATES: Final = {state.value.lower(): state for state in EntryState}
#: No name, no date of birth: a list is looked at over shoulders.
_HEAD: Final = (
    "step", "accession", "state", "when", "station", "modality", "patient ID", "description",
    "from",
)  # fmt: skip
_DATE_LENGTH: Final = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of worklist."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list entries, the earliest first"),
            ("show", "print all attributes of an entry"),
            ("add", "add an entry, or put it in the place of the one with its key"),
            ("import", "add the entries of files: JSON, DICOM, or DCMTK's text dumps"),
            ("update", "change fields of an entry"),
            ("remove", "take entries off the list"),
        ),
    ):
        add_archive_options(action)
        match name:
            case "list":
                _add_list_options(action)
            case "add":
                _add_fields(action)
            case "import":
                action.add_argument(
                    "files", nargs="+", type=Path, metavar="FILE", help="files with entries"
                )
            case _:
                action.add_argument("step_id", metavar="STEP", help="Scheduled Procedure Step ID")
                action.add_argument(
                    "accession_number", nargs="?" if name != "update" else None, default="",
                    metavar="ACCESSION", help='Accession Number; empty (""): none',
                )  # fmt: skip
                if name == "update":
                    _add_fields(action)


def _add_list_options(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--state",
        choices=(*_STATES, "all"),
        default="scheduled",
        help="only those in this state (default: %(default)s)",
    )
    action.add_argument(
        "-k",
        "--key",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what has to match, as findscu -W takes it (repeatable)",
    )
    action.add_argument(
        "--limit",
        type=whole_number(1, _MOST),
        default=1000,
        metavar="N",
        help="at most so many (default: %(default)s)",
    )
    action.add_argument(
        "--format", choices=("table", "json"), default="table", help="(default: table)"
    )


def _add_fields(action: argparse.ArgumentParser) -> None:
    names = ", ".join(sorted((*FIELDS, *CODES, DATE_TIME, STEP_STATUS)))
    action.add_argument(
        "fields",
        nargs="+",
        metavar="FIELD=VALUE",
        help=f"fields: {names}; any other attribute by its keyword, tag or path",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=arguments.action not in ("add", "import"))
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            try:
                code = await _act(settings, arguments, terminal)
            except InvalidEntryError as fault:
                terminal.error(f"{fault}; nothing was changed")
                code = EXIT_FAILED
        return code

    return run_task(terminal, work)


async def _act(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    match arguments.action:
        case "list":
            return await _list(settings, arguments)
        case "import":
            entries = []
            for path in arguments.files:
                entries += read_entries(path, str(path))
            return await _put(settings, entries, terminal)
        case "add":
            order = _order(arguments.fields)
            return await _put(settings, [entry_of_fields(order, "the entry")], terminal)
        case _:
            key = EntryKey(arguments.step_id, arguments.accession_number)
            return await _act_on(settings, key, arguments, terminal)


async def _act_on(
    settings: Settings, key: EntryKey, arguments: argparse.Namespace, terminal: Terminal
) -> int:
    async with composition.open_stores(settings) as stores:
        worklist = stores.worklist
        stored = await worklist.get(key)
        if stored is None:
            terminal.error("there is no such entry; isocenter worklist list --state all names them")
            return EXIT_FAILED
        match arguments.action:
            case "show":
                out = prepare_stdout("table")
                out.write(f"{stored.entry.attributes.to_dataset()}\n")
            case "update":
                order = _order(arguments.fields)
                state = (
                    state_of(str(order[STEP_STATUS]), "the entry") if STEP_STATUS in order else None
                )
                await worklist.change(key, partial(changed_entry, order), state)
            case _:
                await worklist.remove([key])
    return EXIT_OK


async def _put(
    settings: Settings, entries: Sequence[tuple[Entry, EntryState]], terminal: Terminal
) -> int:
    async with composition.open_stores(settings) as stores:
        worklist = stores.worklist
        done = await worklist.put(
            [entry for entry, _ in entries],
            source=_SOURCE,
            states={
                entry.key: state for entry, state in entries if state is not EntryState.SCHEDULED
            },
        )
    terminal.note(f"{done.added} added, {done.changed} changed, {done.unchanged} as they were")
    return EXIT_OK


def _order(pairs: Sequence[str]) -> dict[str, object]:
    order: dict[str, object] = {}
    more: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is no FIELD=VALUE")
        if name in (*FIELDS, *CODES, DATE_TIME, STEP_STATUS):
            order[name] = value
        else:
            try:
                more.update([parse_key(pair)])
            except KeySyntaxError as error:
                raise UsageError(f"{name!r} is no field, and no attribute: {error}") from error
    if more:
        order[ATTRIBUTES] = more
    return order


async def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    try:
        identifier = build_identifier(
            map(parse_key, arguments.key), None, EXPLICIT_VR_LITTLE_ENDIAN
        )
        keys = parse_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
    except KeySyntaxError as error:
        raise UsageError(str(error)) from error
    except IdentifierError as error:
        raise UsageError(error.comment) from error
    states = tuple(EntryState) if arguments.state == "all" else (_STATES[arguments.state],)
    found: list[StoredEntry] = []
    async with (
        composition.open_stores(settings) as stores,
        stores.worklist.find(keys, states) as blocks,
    ):
        async for block in blocks:
            found += block
            if len(found) >= arguments.limit:
                break
    out = prepare_stdout(arguments.format)
    del found[arguments.limit :]
    if arguments.format == "json":
        out.write(orjson.dumps([_json(stored) for stored in found]).decode() + "\n")
    elif found:
        print_table(out, _HEAD, [_line(stored) for stored in found])
    return EXIT_OK


def _line(stored: StoredEntry) -> tuple[str, ...]:
    order = entry_fields(stored.entry)
    get = order.get
    when = order[DATE_TIME]
    texts = (
        get("step_id", ""), get("accession_no", ""), stored.state.value.lower(),
        f"{when[:_DATE_LENGTH]} {when[_DATE_LENGTH:]}", get("station_ae", ""),
        get("modality", ""), get("patient_id", ""), get("procedure_desc", ""), stored.source,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(stored: StoredEntry) -> dict[str, object]:
    return {
        "pk": stored.number,
        STEP_STATUS: stored.state.value,
        **entry_fields(stored.entry),
        "source": stored.source,
        "created_at": local_time(stored.created_at),
        "updated_at": local_time(stored.changed_at),
    }
