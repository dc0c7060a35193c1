"""``isocenter dcminfo``: summaries of DICOM files and folders."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Final

from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    STANDARD,
    InputFile,
    add_file_options,
    for_each,
    input_files,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.dicom.file_summary import FileSummary, FolderSummary, summarize
from isocenter.services.system.log_format import escape

DESCRIPTION: Final = """\
Show what DICOM files are: SOP class and transfer syntax, patient, study, series, and how the pixels
are laid out and compressed.  Of folders, how many there are of what."""
EXAMPLES: Final = """\
examples:
  isocenter dcminfo ct.dcm
  isocenter dcminfo -v ct.dcm
  isocenter dcminfo -q --no-patient *.dcm
  isocenter dcminfo -r /media/cdrom
  isocenter dcminfo -r /media/cdrom --each -f json | jq -r '.[].Study.UID'

exit codes: 0 all is shown, 1 arguments, 2 a file is not there or no DICOM"""

_BYTES: Final = frozenset(("Size", "Bytes", "Pixel data"))
#: Fields that have another one for people.
_FOR_PROGRAMS: Final = frozenset(
    ("Columns", "Rows", "Samples", "Bits allocated", "Bits stored", "Transfer syntax UID",
     "SOP class UID")
)  # fmt: skip


def add_arguments(parser: CommandParser) -> None:
    """The options of dcminfo."""
    add_file_options(
        parser, what="DICOM files, folders with -r, - for standard input", output="",
        quiet=("--quiet",),
    )  # fmt: skip
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "-f", "--format", choices=("text", "json"), default="text",
        help="text or JSON (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("-q", "--brief", action="store_true", help="only the path and the basics")
    group.add_argument(
        "--no-patient", action="store_true", help="without what tells who the patient is"
    )
    group.add_argument("--no-file-info", action="store_true", help="without the section File")
    group.add_argument(
        "--each", action="store_true",
        help="of folders each file, in place of how many there are of what",
    )  # fmt: skip
    group.add_argument(
        "--summary", action="store_true", help="of single files as well how many there are of what"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the files; the exit code."""

    def work(terminal: Terminal) -> int:
        info = _Info(arguments, terminal)
        files = input_files(arguments.paths, recursive=arguments.recursive)
        wants_bar = not arguments.no_progress and not sys.stdout.isatty()
        code = for_each(terminal, files, info.look, title="reading", progress=wants_bar)
        info.finish()
        return code

    return run_file_tool(arguments, work)


class _Info:
    def __init__(self, arguments: argparse.Namespace, terminal: Terminal) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._folder = FolderSummary()
        self._count = 0
        self._is_json = arguments.format == "json"
        paths: list[str] = arguments.paths
        self._is_array = len(paths) > 1 or any(
            path != STANDARD and os.path.isdir(path) for path in paths
        )

    def look(self, file: InputFile) -> None:
        with dicom_input(file, self._terminal, Tolerance.SALVAGE) as data_set:
            size = len(data_set.head_bytes) + len(data_set.data)
            if data_set.is_inflated and file.path != STANDARD:
                size = os.path.getsize(file.path)
            summary = summarize(data_set, file.path, size)
        arguments = self._arguments
        if (file.is_found and not arguments.each) or arguments.summary:
            self._folder.add(summary)
            return
        self._count += 1
        if self._is_json:
            print(f"{',' if self._count > 1 else '['}" if self._is_array else "", end="")
            print(json.dumps(self._sections(summary), ensure_ascii=False, indent=2))
        else:
            self._text(summary)

    def finish(self) -> None:
        if self._is_json and self._is_array and (self._count or not self._folder.files):
            print("]" if self._count else "[]")
        if not self._folder.files:
            return
        if self._is_json:
            print(json.dumps(self._folder_model(), ensure_ascii=False, indent=2))
        else:
            print_folder(
                self._folder,
                has_patient=not self._arguments.no_patient,
                is_brief=self._arguments.brief,
            )

    def _sections(self, summary: FileSummary) -> dict[str, dict[str, object]]:
        arguments = self._arguments
        shown: dict[str, dict[str, object]] = {}
        for name, section in summary.sections.items():
            if (name == "Patient" and arguments.no_patient) or not section:
                continue
            if name == "File" and arguments.no_file_info:
                continue
            wanted = summary.basic[name] if arguments.brief else section.keys()
            fields = {field: value for field, value in section.items() if field in wanted}
            if fields:
                shown[name] = dict(fields)
        return shown

    def _text(self, summary: FileSummary) -> None:
        if self._count > 1:
            print()
        print(escape(summary.get("File", "Path")))
        for name, section in self._sections(summary).items():
            print(f"  {name}")
            for field, value in section.items():
                is_extra = field in _FOR_PROGRAMS or field not in summary.basic[name]
                if field == "Path" or (is_extra and not self._shows_all(field)):
                    continue
                text = _with_unit(field, value)
                if field in ("Transfer syntax", "SOP class") and not self._arguments.brief:
                    text = f"{text} ({summary.get('File', f'{field} UID')})"
                print(f"    {field + ':':<27} {escape(text)}")

    def _shows_all(self, field: str) -> bool:
        return bool(self._arguments.verbose) and field not in _FOR_PROGRAMS

    # -- Folders -------------------------------------------------------------------------

    def _folder_model(self) -> dict[str, object]:
        model: dict[str, object] = {**self._folder.counts, **self._folder.tables}
        model["Study list"] = [
            {
                "UID": uid,
                "Title": title,
                "Series": [
                    {"UID": series_uid, "Modality": modality, "Files": count}
                    for series_uid, (modality, count) in series.items()
                ],
            }
            for uid, title, series in self._folder.studies()
        ]
        return model


def print_folder(
    folder: FolderSummary, *, has_patient: bool = True, is_brief: bool = False
) -> None:
    """Print how many there are of what.

    Args:
        has_patient: with what may tell who the patient is.
        is_brief: without the series.
    """
    for name, count in folder.counts.items():
        print(f"{name + ':':<17} {_with_unit(name, count)}")
    for name, counts in folder.tables.items():
        print(f"\n{name}")
        for value, count in counts.items():
            print(f"  {count:>8}  {escape(value)}")
    print("\nStudies")
    for uid, title, series in folder.studies():
        files = sum(count for _, count in series.values())
        print(f"  {files:>8}  {escape(f'{uid} {title if has_patient else str()}'.strip())}")
        if is_brief:
            continue
        for series_uid, (modality, count) in series.items():
            print(f"    {count:>8}  {escape(f'{modality} {series_uid}'.strip())}")


def _with_unit(name: str, value: object) -> str:
    if name in _BYTES and isinstance(value, int):
        return f"{value:,} bytes ({size_text(value)})" if value > 1023 else f"{value} bytes"
    return str(value)
