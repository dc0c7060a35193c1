"""``isocenter worklistscu``: what a peer has scheduled (PS3.4 Annex K)."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import Final, Protocol, TextIO

import orjson

from isocenter.engine.dataset import DataSetError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.matching import is_range_comparable, normalize
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.match_options import (
    add_match_output,
    add_max_results,
)
from isocenter.services.cli.support.match_output import (
    Match,
    output_to,
    print_table,
    printable,
    shown,
    writer_of,
)
from isocenter.services.cli.support.network_options import (
    add_network_options,
    run_with_called_ae_title,
)
from isocenter.services.cli.support.options import UsageError, ae_title
from isocenter.services.dicom.attribute_path import parse_key
from isocenter.services.errors import NoPresentationContextError, OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.order_fields import CODES, DATE_TIME, FIELDS
from isocenter.services.service_classes.worklist.scu import (
    CONTEXTS,
    Items,
    WorklistItem,
    find_items,
    worklist_keys,
)

DESCRIPTION: Final = """\
Ask a peer what is scheduled (modality worklist).  Everything that PS3.4 Table K.6-1
names is asked for; options and -k narrow it down.  Items go to standard output as they come,
a table at the end."""
EXAMPLES: Final = """\
examples:
  isocenter worklistscu RIS@localhost:11112 --today --station CT_01
  isocenter worklistscu RIS@localhost:11112 --date 20261124-20261130 --modality MR -o csv
  isocenter worklistscu RIS@localhost:11112 --patient-name 'DOE*' -o json
  isocenter worklistscu RIS@localhost:11112 --accession A1 -o dicom --output-file entry.json
  isocenter worklistscu RIS@localhost:11112 -k '(0040,0100)[0].(0040,0006)=SMITH*'

json has the fields of isocenter worklist, which imports them; dicom is the DICOM JSON model, as
isocenter findscu -W -o json writes it and isocenter mppsscu --worklist reads it.

exit codes: 0 there are items, 1 none or the query failed, 2 arguments or no association"""

#: Rows that are held for one table.
_ROWS_PER_TABLE: Final = 1_000

#: Option → field, and help.
_FIELD_OPTIONS: Final = {
    "--modality": ("modality", "CT, MR …"),
    "--station-name": ("station_name", "Scheduled Station Name"),
    "--physician": ("performing_phys", "Scheduled Performing Physician's Name"),
    "--patient-id": ("patient_id", "Patient ID"),
    "--patient-name": ("patient_name", "Patient's Name, with * and ? as wild cards"),
    "--accession": ("accession_no", "Accession Number"),
    "--step-id": ("step_id", "Scheduled Procedure Step ID"),
    "--procedure-id": ("requested_proc_id", "Requested Procedure ID"),
}
#: Columns of a table for people.
_COLUMNS: Final = (
    "when", "station_ae", "modality", "patient_name", "patient_id", "accession_no", "step_id",
    "procedure_desc",
)  # fmt: skip
_TIME_DIGITS: Final = 6
_WHEN: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})?([0-9]{2})?.*", re.ASCII)


def add_arguments(parser: CommandParser) -> None:
    """The options of worklistscu."""
    add_network_options(parser, calling="WORKLISTSCU", timeout=30)
    group = parser.add_argument_group("what is asked for")
    days = group.add_mutually_exclusive_group()
    days.add_argument(
        "--today", action="store_true", help="steps that start today, by the clock of this machine"
    )
    days.add_argument(
        "--date",
        type=_date_range,
        metavar="RANGE",
        help="steps that start today, on YYYYMMDD, or YYYYMMDD-YYYYMMDD, YYYYMMDD-, -YYYYMMDD",
    )
    group.add_argument(
        "--time",
        type=_time_range,
        metavar="RANGE",
        help="steps that start at HHMM or HHMMSS, or HHMM-HHMM, HHMM-, -HHMM",
    )
    group.add_argument(
        "--station",
        type=ae_title,
        metavar="AET",
        help="steps for this station (Scheduled Station AE Title)",
    )
    for option, (name, text) in _FIELD_OPTIONS.items():
        group.add_argument(option, dest=f"field_{name}", metavar="VALUE", help=text)
    group.add_argument(
        "-k",
        "--key",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="any other key, as isocenter findscu takes it (repeatable)",
    )
    group.add_argument(
        "--charset",
        default="",
        metavar="TERMS",
        help="Specific Character Set of what is not ASCII (default: ISO_IR 192, UTF-8)",
    )
    group = parser.add_argument_group("items")
    add_match_output(
        group, ("table", "json", "csv", "dicom", "text", "xml"), text="how they are written"
    )
    add_max_results(group, "items")


def run(arguments: argparse.Namespace) -> int:
    """Query the peer; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        if rest:
            raise UsageError(f"what is {rest[0]!r}? Behind the peer there are options only")
        fields = _fields(arguments)
        more = [parse_key(text) for text in arguments.key]
        character_set = tuple(arguments.charset.split("\\")) if arguments.charset else ()
        # A wrong key shows before anybody is called.
        build_identifier(
            worklist_keys(fields, more),
            None,
            EXPLICIT_VR_LITTLE_ENDIAN,
            character_set=character_set,
        )
        with output_to(arguments.output_file, arguments.output) as out:
            asking = _WorklistQuery(
                client,
                partial(find_items, fields=fields, more=more, character_set=character_set),
                _writer_of(arguments.output, out),
                arguments.max_results,
            )
            return await asking.run()

    return run_with_called_ae_title(arguments, lambda given: run_client(given, work))


def _fields(arguments: argparse.Namespace) -> dict[str, str]:
    given = {
        name: value
        for name, _ in _FIELD_OPTIONS.values()
        if (value := getattr(arguments, f"field_{name}")) is not None
    }
    if arguments.station is not None:
        given["station_ae"] = arguments.station
    day = f"{datetime.now().astimezone():%Y%m%d}" if arguments.today else arguments.date or ""
    if arguments.time is not None:
        given["time"] = arguments.time
    return given | ({"date": day} if day else {})


class _WorklistQuery:
    def __init__(
        self,
        client: Client,
        find: Callable[[ClientAssociation], Items],
        writer: _Writer,
        most: int,
    ) -> None:
        self._client = client
        self._find = find
        self._writer = writer
        self._most = most
        self._count = 0

    async def run(self) -> int:
        client = self._client
        failed = True
        async with client.associate(CONTEXTS) as association:
            with client.interrupts.stoppable():
                try:
                    failed = not await self._take_items(association)
                except OperationError as error:
                    client.terminal.error(f"the peer refused the query: {error}")
                except NoPresentationContextError:
                    client.terminal.error(
                        "the peer has no worklist: it accepted no presentation context for it"
                    )
        self._writer.finish()
        client.terminal.detail(f"{self._count} items")
        if client.interrupts.were_requested():
            return EXIT_INTERRUPTED
        if not self._count and not failed:
            client.terminal.note("nothing is scheduled that matches")
        return EXIT_OK if self._count and not failed else EXIT_FAILED

    async def _take_items(self, association: ClientAssociation) -> bool:
        """Whether all of them could be read."""
        is_good = True
        async with self._find(association) as items:
            while True:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return is_good
                except DataSetError as error:
                    self._client.terminal.error(f"an item cannot be read: {error}")
                    is_good = False
                    continue
                self._count += 1
                self._writer.write(item)
                if self._most and self._count >= self._most:
                    self._client.terminal.detail(f"cancelled after {self._count} items")
                    return is_good


class _Writer(Protocol):
    """Takes items one after the other."""

    def write(self, item: WorklistItem) -> None:
        """One item."""
        ...

    def finish(self) -> None:
        """There are no more."""
        ...


class _TableWriter:
    """A table for people; a long answer makes several."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rows: list[list[str]] = []

    def write(self, item: WorklistItem) -> None:
        fields = {**item.fields, "when": _when(item.fields.get(DATE_TIME, ""))}
        self._rows.append([shown(fields.get(name, "")) for name in _COLUMNS])
        if len(self._rows) >= _ROWS_PER_TABLE:
            self.finish()

    def finish(self) -> None:
        if self._rows:
            print_table(self._out, _COLUMNS, self._rows)
            self._rows.clear()


class _CsvWriter:
    """All fields, with a line of their names before them (RFC 4180)."""

    def __init__(self, out: TextIO) -> None:
        self._rows = csv.writer(out, lineterminator="\n")
        self._names = (DATE_TIME, *FIELDS, *CODES)
        self._rows.writerow(self._names)

    def write(self, item: WorklistItem) -> None:
        self._rows.writerow([printable(item.fields.get(name, "")) for name in self._names])

    def finish(self) -> None:
        """Nothing to do."""


class _FieldsWriter:
    """A list of objects as `isocenter.services.service_classes.worklist.order_fields` has them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_first = True

    def write(self, item: WorklistItem) -> None:
        self._out.write("[\n" if self._is_first else ",\n")
        self._out.write(orjson.dumps(item.fields).decode())
        self._is_first = False

    def finish(self) -> None:
        self._out.write("[]\n" if self._is_first else "\n]\n")


class _MatchWriter:
    """All that came of each, as `isocenter findscu -W` writes it."""

    def __init__(self, output_format: str, out: TextIO) -> None:
        self._writer = writer_of(output_format, out, ())

    def write(self, item: WorklistItem) -> None:
        self._writer.write(Match.of_dataset(item.dataset))

    def finish(self) -> None:
        self._writer.finish()


def _writer_of(output_format: str, out: TextIO) -> _Writer:
    match output_format:
        case "json":
            return _FieldsWriter(out)
        case "csv":
            return _CsvWriter(out)
        case "dicom":
            return _MatchWriter("json", out)
        case "text" | "xml":
            return _MatchWriter(output_format, out)
        case _:
            return _TableWriter(out)


def _when(text: str) -> str:
    """Date and time of DICOM as people write them; what is none stays."""
    found = _WHEN.fullmatch(text)
    if found is None:
        return text
    year, month, day, hour, minute = found.groups()
    return f"{year}-{month}-{day}" + (f" {hour}:{minute or '00'}" if hour else "")


def _date_range(text: str) -> str:
    if text.lower() == "today":
        return f"{datetime.now().astimezone():%Y%m%d}"
    days = [normalize("DA", day) for day in text.split("-", 1) if day]
    try:
        is_good = bool(days) and sorted(days, key=date.fromisoformat) == days
    except ValueError:
        is_good = False
    if not is_good or not all(is_range_comparable("DA", day) for day in days):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no day YYYYMMDD, and no range of them (YYYYMMDD-YYYYMMDD)"
        )
    return text


def _time_range(text: str) -> str:
    ends = [end for end in text.split("-", 1) if end]
    padded = [end.ljust(_TIME_DIGITS, "0") for end in ends]
    try:
        is_good = bool(ends) and sorted(padded) == padded
        for end, whole in zip(ends, padded, strict=True):
            is_good &= end.isdecimal() and len(end) in (4, 6)
            datetime.strptime(whole, "%H%M%S")  # noqa: DTZ007 - a time of day
    except ValueError:
        is_good = False
    if not is_good:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time HHMM or HHMMSS, and no range of them (HHMM-HHMM)"
        )
    return text
