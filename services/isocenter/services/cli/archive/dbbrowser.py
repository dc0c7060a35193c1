"""``isocenter dbbrowser``: what an archive holds, level by level, read only."""

from __future__ import annotations

import argparse
import heapq
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import composition
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.ports import Index
from isocenter.services.archive.verification import verify
from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.archive.db import print_report
from isocenter.services.cli.files.file_tool import (
    EXIT_ARGUMENTS,
    EXIT_INVALID,
    FileToolError,
    run_file_tool,
)
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
    uid,
    whole_number,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Show what an archive holds: patients, studies, series, instances, page by page.  Reads the index
only, and changes nothing; a server may be at work on it."""
EXAMPLES: Final = """\
examples:
  isocenter dbbrowser /srv/isocenter studies --modality CT --from 20260101
  isocenter dbbrowser patients --patient-name 'doe*' --data-dir /srv/isocenter
  isocenter dbbrowser /srv/isocenter series --study-uid 1.2.840.113619.2.55.3
  isocenter dbbrowser /srv/isocenter instances --series-uid 1.2.3.4 --limit 20 --offset 40
  isocenter dbbrowser /srv/isocenter studies --json | jq .

DATABASE is a data directory, or the index.db in it.  Patients and series are shown in the order of
names and numbers, studies the latest first.

exit codes: 0 done, 1 arguments, 2 no archive, an unreadable index, or verify found damage"""

_ACTIONS: Final = ("patients", "studies", "series", "instances", "stats", "verify")
_DATE: Final = re.compile(r"\d{8}")
_NUMBERS: Final = frozenset(("IS", "US", "UL"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One level: keywords of its columns, more of them with ``-v``, and its order."""

    level: Level
    columns: tuple[str, ...]
    more: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    is_latest_first: bool = False


_VIEWS: Final = {
    "patients": _View(
        level=Level.PATIENT,
        columns=(
            "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
            "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances",
        ),
        more=("IssuerOfPatientID", "OtherPatientIDs", "NumberOfPatientRelatedSeries"),
        order=("PatientName", "PatientID"),
    ),
    "studies": _View(
        level=Level.STUDY,
        columns=(
            "PatientID", "PatientName", "StudyDate", "StudyTime", "ModalitiesInStudy",
            "StudyDescription", "AccessionNumber", "NumberOfStudyRelatedSeries",
            "NumberOfStudyRelatedInstances", "StudyInstanceUID",
        ),
        more=("StudyID", "ReferringPhysicianName", "SOPClassesInStudy"),
        order=("StudyDate", "StudyTime", "StudyInstanceUID"),
        is_latest_first=True,
    ),
    "series": _View(
        level=Level.SERIES,
        columns=(
            "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined",
            "NumberOfSeriesRelatedInstances", "SeriesInstanceUID",
        ),
        more=("StudyInstanceUID", "SeriesDate", "Manufacturer", "StationName", "ProtocolName"),
        order=("StudyInstanceUID", "SeriesNumber", "SeriesInstanceUID"),
    ),
    "instances": _View(
        level=Level.IMAGE,
        columns=(
            "InstanceNumber", "SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SOPInstanceUID",
        ),
        more=("StudyInstanceUID", "SeriesInstanceUID", "ContentDate", "ImageType", "BitsAllocated"),
        order=("SeriesInstanceUID", "InstanceNumber", "SOPInstanceUID"),
    ),
}  # fmt: skip


def add_arguments(parser: CommandParser) -> None:
    """The options of dbbrowser."""
    parser.exit_code_of_errors = EXIT_ARGUMENTS
    parser.is_intermixed = True
    parser.add_argument(
        "words", nargs="+", metavar="[DATABASE] ACTION",
        help=f"what to show: {', '.join(_ACTIONS)}; and before it, of which archive",
    )  # fmt: skip
    group = parser.add_argument_group("which")
    group.add_argument("--patient-id", metavar="ID", help="with wild cards")
    group.add_argument("--patient-name", metavar="NAME", help="with wild cards")
    group.add_argument("--study-uid", type=uid, metavar="UID")
    group.add_argument("--series-uid", type=uid, metavar="UID")
    group.add_argument("--modality", metavar="CS")
    group.add_argument("--from", dest="first", type=_date, metavar="YYYYMMDD", help="Study Date")
    group.add_argument("--to", dest="last", type=_date, metavar="YYYYMMDD", help="Study Date")
    group = parser.add_argument_group("how much")
    group.add_argument(
        "--limit", type=whole_number(1, 100_000), default=50, metavar="N",
        help="rows of a page (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--offset", type=whole_number(0, 1 << 31), default=0, metavar="N",
        help="rows before it (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="for programs: an array of objects")
    add_archive_options(parser)
    add_output_options(parser)


def _date(text: str) -> str:
    if not _DATE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no date as YYYYMMDD")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Show it; the exit code."""

    def work(terminal: Terminal) -> int:
        action = _take_database(arguments)
        settings = archive_settings(arguments, must_exist=False)
        if not composition.has_index(settings):
            raise FileToolError(
                f"{settings.storage.data_dir}: no archive is there; give its data directory"
            )
        return trio.run(_show, arguments, settings, action, terminal)

    return run_file_tool(arguments, work)


def _take_database(arguments: argparse.Namespace) -> str:
    """The action; what stands before it becomes ``--data-dir``."""
    *database, action = arguments.words
    if action not in _ACTIONS:
        raise UsageError(f"{action!r} is none of {', '.join(_ACTIONS)}")
    if len(database) > 1:
        raise UsageError("one database at a time")
    if database:
        path = Path(database[0])
        # A file is the index in its directory.
        setattr(arguments, "storage.data_dir", str(path.parent if path.is_file() else path))
    return str(action)


async def _show(
    arguments: argparse.Namespace, settings: Settings, action: str, terminal: Terminal
) -> int:
    async with composition.open_archive(settings, lock=False, recover=False) as archive:
        match action:
            case "stats":
                return await _stats(archive.index, as_json=arguments.json)
            case "verify":
                return await _verify(archive, terminal)
            case _:
                return await _page(archive.index, arguments, settings, _VIEWS[action], terminal)


async def _stats(index: Index, *, as_json: bool) -> int:
    found = await index.statistics()
    counts = {
        "patients": found.patients,
        "studies": found.studies,
        "series": found.series,
        "instances": found.instances,
        "bytes": found.size,
    }
    if as_json:
        print(orjson.dumps(counts).decode())
    else:
        for name, count in counts.items():
            print(f"{name:<10} {count:>16}")
    return EXIT_OK


async def _verify(archive: Archive, terminal: Terminal) -> int:
    """Missing files and files of wrong size; isocenter db verify compares their bytes, too."""
    with terminal.progress("verifying") as advance:
        report = await verify(
            archive, progress=lambda done: advance(done.done, done.total), checksums=False
        )
    return EXIT_OK if print_report(report, terminal) else EXIT_INVALID


@dataclass(slots=True)
class _Page:
    """The first rows of all that come, in the order of a view."""

    view: _View
    rows: int
    found: list[Mapping[int, str]] = field(default_factory=list)
    count: int = 0

    def add(self, matches: Sequence[Mapping[int, str]]) -> None:
        """Some more; what lies behind the page is let go now and then."""
        self.count += len(matches)
        self.found += matches
        if len(self.found) > 4 * self.rows:
            self.trim()

    def trim(self) -> None:
        """Keep the page and what is before it."""
        choose = heapq.nlargest if self.view.is_latest_first else heapq.nsmallest
        self.found = choose(self.rows, self.found, key=self._key)

    def _key(self, match: Mapping[int, str]) -> tuple[tuple[int, str], ...]:
        return tuple(
            _sortable(match.get(BY_KEYWORD[keyword].tag, ""), BY_KEYWORD[keyword].vr)
            for keyword in self.view.order
        )


def _sortable(text: str, vr: str) -> tuple[int, str]:
    if vr in _NUMBERS:
        try:
            return int(text), ""
        except ValueError:
            return -1, text
    return 0, text.lower()


async def _page(
    index: Index,
    arguments: argparse.Namespace,
    settings: Settings,
    view: _View,
    terminal: Terminal,
) -> int:
    columns = view.columns + (view.more if arguments.verbose or arguments.json else ())
    wanted = dict.fromkeys((*columns, *view.order), "")
    wanted |= _criteria(arguments)
    try:
        identifier = build_identifier(wanted.items(), view.level, EXPLICIT_VR_LITTLE_ENDIAN)
        query = parse_query(
            identifier,
            EXPLICIT_VR_LITTLE_ENDIAN,
            root=InformationModel.PATIENT,
            relational=True,
            limits=settings.engine_limits(),
        ).query
    except KeySyntaxError as error:
        raise UsageError(str(error)) from error
    except IdentifierError as error:
        raise UsageError(error.comment) from error
    page = _Page(view, arguments.offset + arguments.limit)
    async with index.find(query) as blocks:
        async for block in blocks:
            page.add(block)
    page.trim()
    rows = page.found[arguments.offset :]
    tags = [BY_KEYWORD[keyword].tag for keyword in columns]
    if arguments.json:
        _print_json(columns, tags, rows)
    elif rows:
        out = prepare_stdout("table")
        print_table(out, columns, [[shown(row.get(tag, "")) for tag in tags] for row in rows])
    last = arguments.offset + len(rows)
    if last < page.count:
        terminal.note(f"{last} of {page.count}; --offset {last} shows what follows")
    elif not rows:
        terminal.note(f"nothing more: {page.count} match" if page.count else "nothing matches")
    return EXIT_OK


def _criteria(arguments: argparse.Namespace) -> dict[str, str]:
    found = {
        "PatientID": arguments.patient_id,
        "PatientName": arguments.patient_name,
        "StudyInstanceUID": arguments.study_uid,
        "SeriesInstanceUID": arguments.series_uid,
        "Modality": arguments.modality,
    }
    if arguments.first or arguments.last:
        found["StudyDate"] = f"{arguments.first or ''}-{arguments.last or ''}"
    return {keyword: value for keyword, value in found.items() if value}


def _print_json(
    columns: Sequence[str], tags: Sequence[int], rows: Sequence[Mapping[int, str]]
) -> None:
    models: list[dict[str, Any]] = [
        {
            keyword: _value(row.get(tag, ""), BY_KEYWORD[keyword].vr)
            for keyword, tag in zip(columns, tags, strict=True)
        }
        for row in rows
    ]
    sys.stdout.write(orjson.dumps(models, option=orjson.OPT_INDENT_2).decode("utf-8") + "\n")


def _value(text: str, vr: str) -> str | int:
    return int(text) if vr in _NUMBERS and text.isascii() and text.isdigit() else text
