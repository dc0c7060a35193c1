"""``isocenter dcmanonymize``: DICOM files without what identifies the patient."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli.files.codec_tasks import CodecTasks, with_codecs
from isocenter.services.cli.files.deidentification_options import (
    add_deidentification_options,
    known_words,
    pixel_options_of,
    profile_of,
    pseudonyms_of,
    recipients_of,
    write_mapping,
)
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    STANDARD,
    FileToolError,
    InputFile,
    OtherFileKindError,
    Plan,
    add_file_options,
    for_each,
    input_files,
    output_file,
    plan,
    run_file_tool,
)
from isocenter.services.cli.files.in_place import back_up, in_place_plan, without_backups
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_file import DataSetFile, is_directory
from isocenter.services.dicom.deidentification.deidentifier import Deidentifier
from isocenter.services.dicom.deidentification.files import (
    DeidentifiedFile,
    deidentify_file,
    deidentify_with_pixels,
)
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import PixelOptions
from isocenter.services.dicom.deidentification.report import Report
from isocenter.services.dicom.deidentification.text_recognition import TextPolicy
from isocenter.services.dicom.deidentification.verification import Finding, described
from isocenter.services.system.private_files import PRIVATE_FILE, write_file

DESCRIPTION: Final = """\
De-identify DICOM files as PS3.15 Annex E has it: attributes at every depth, private elements, UIDs,
dates, structured reports and graphics.  The same key gives the same pseudonyms, in every run.
Pixels stay as they are, unless the option pixels cleans them.  Without an output, files are changed
in place, and what they were is kept beside them as FILE.bak, unless --no-backup says otherwise."""
EXAMPLES: Final = """\
examples:
  isocenter dcmanonymize ct.dcm anonymous.dcm
  isocenter dcmanonymize --recursive study/ -o research/ --new-key project.key
  isocenter dcmanonymize --recursive more/ -o research/ --key-file project.key
  isocenter dcmanonymize ct.dcm -o out/ --options patient,device --private safe -k StudyDescription
  isocenter dcmanonymize ct.dcm -o out/ -p retain_longitudinal --weekdays
  isocenter dcmanonymize ct.dcm -o out/ -r PatientComments=phantom --report report.json

In a folder, files keep their names, unless these say something of the patient: then they are named
by their new SOP Instance UID.  Without a key, pseudonyms are other ones in the next run.

exit codes: 0 all is done, 1 arguments, 2 a file is not there, is no DICOM or was refused"""


#: Of findings, on one line.
_MOST_SHOWN: Final = 5


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmanonymize."""
    add_file_options(
        parser,
        what="DICOM file, folder with --recursive, or - for standard input; of two, the second is "
        "the output",
        output="the de-identified files",
        recursive=("--recursive", "--recurse", "+r"),
    )
    add_deidentification_options(parser)
    group = parser.add_argument_group("running")
    group.add_argument(
        "--no-backup", "-nb", dest="has_backup", action="store_false",
        help="in place: do not keep what was there",
    )  # fmt: skip
    group.add_argument(
        "--verify", action="store_true",
        help="read what was written, and refuse it where anything in it could still identify",
    )  # fmt: skip
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing; say what would be done with --detailed",
    )
    group.add_argument(
        "--detailed", action="store_true",
        help="say of each attribute what became of it, on standard output or in the report",
    )  # fmt: skip
    group.add_argument(
        "--with-values", action="store_true",
        help="show old and new values in it: such a report identifies the patient",
    )  # fmt: skip
    group.add_argument(
        "--report", type=Path, metavar="FILE", help="write a report as JSON, for its owner only"
    )


def run(arguments: argparse.Namespace) -> int:
    """De-identify the files; the exit code."""

    def work(terminal: Terminal) -> int:
        made = _plan(arguments)
        pseudonyms = pseudonyms_of(arguments)
        deidentifier = Deidentifier(
            profile_of(arguments),
            pseudonyms,
            wants_changes=arguments.detailed or arguments.with_values,
            wants_values=arguments.with_values,
            known=known_words(arguments.known),
            recipients=recipients_of(arguments.encrypt_for),
        )
        anonymize = _Anonymize(arguments, terminal, deidentifier, made, pixel_options_of(arguments))
        paths = arguments.paths if made is None else made.paths
        files = without_backups(input_files(paths, recursive=arguments.recursive))

        def anonymize_all(tasks: CodecTasks | None) -> int:
            anonymize.tasks = tasks
            return for_each(
                terminal, files, anonymize.file, title="de-identifying",
                progress=not arguments.no_progress,
            )  # fmt: skip

        try:
            if Option.PIXELS in deidentifier.profile.options:
                return with_codecs(anonymize_all)
            return anonymize_all(None)
        finally:
            # Also of a run that was stopped: what was written has these pseudonyms.
            anonymize.finish()

    return run_file_tool(arguments, work)


def _plan(arguments: argparse.Namespace) -> Plan | None:
    """Where the results go; None: into the place of each file."""
    paths: list[str] = arguments.paths
    folders = [path for path in paths if path != STANDARD and os.path.isdir(path)]
    if folders and not arguments.recursive:
        raise UsageError(f"{folders[0]} is a folder; --recursive goes through folders")
    is_pair = len(paths) == 2 and not (arguments.recursive and os.path.isdir(paths[1]))
    is_named = arguments.output is not None or is_pair
    return plan(arguments, suffix="") if is_named else in_place_plan(arguments)


def _refuse(found: Sequence[Finding]) -> None:
    """Raise where something in what was written could still identify."""
    if found:
        shown = "; ".join(map(described, found[:_MOST_SHOWN]))
        more = f"; and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        raise FileToolError(f"not written: verification found what could identify: {shown}{more}")


class _Anonymize:
    def __init__(
        self,
        arguments: argparse.Namespace,
        terminal: Terminal,
        deidentifier: Deidentifier,
        made: Plan | None,
        pixels: PixelOptions,
    ) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._deidentifier = deidentifier
        self._made = made
        self._pixels = pixels
        #: Codecs, where pixels are cleaned.
        self.tasks: CodecTasks | None = None
        self._total = Report()
        self._files: list[dict[str, object]] = []
        #: Of files that were written into a folder.
        self._names: set[str] = set()

    def file(self, file: InputFile) -> None:
        """De-identify one file."""
        with dicom_input(file, self._terminal, Tolerance.USUAL) as source:
            if is_directory(source):
                raise OtherFileKindError(
                    "is a DICOMDIR, which names patients; dcmdir makes one of the new files"
                )
            try:
                made = self._deidentified(file, source)
            except DataSetError as error:
                raise FileToolError(
                    f"not de-identified: {error}; dcmconv writes what can be read of a damaged file"
                ) from error
            except ValueError as error:
                raise FileToolError(f"not de-identified: {error}") from error
        self._note(file, made)

    def _deidentified(self, file: InputFile, source: DataSetFile) -> DeidentifiedFile:
        def write(made: DeidentifiedFile) -> None:
            if not self._arguments.dry_run:
                self._write(file, made)

        if self.tasks is None:
            made = deidentify_file(source, self._deidentifier)
            write(made)
            return made
        return self.tasks.run(
            partial(
                deidentify_with_pixels, source, self._deidentifier, self.tasks.pool, self._pixels,
                write,
            )
        )  # fmt: skip

    def _write(self, file: InputFile, made: DeidentifiedFile) -> None:
        if self._made is None:
            place = file.path
        else:
            name = "stdin" if file.path == STANDARD else file.relative
            safe = self._unique(made.safe_name(name), is_kept=made.safe_name(name) == name)
            place = self._made.output_of(file._replace(relative=safe))
            if place != STANDARD and os.path.exists(place) and os.path.samefile(place, file.path):
                raise FileToolError("the output is the input; name another one")
        with output_file(place) as target:
            made.write(target)
            if self._arguments.verify:
                self._verify(made, target)
            target.flush()
            if self._made is None and self._arguments.has_backup:
                back_up(place)
        self._terminal.detail(f"{file.path}: written to {place}")

    def _verify(self, made: DeidentifiedFile, target: IO[bytes]) -> None:
        found = made.findings(target)
        if self.tasks is not None and self._pixels.text is not TextPolicy.OFF:
            look = partial(made.findings_in_pixels, target, self.tasks.pool)
            found += self.tasks.run(look)
        target.seek(0, os.SEEK_END)
        _refuse(found)

    def _unique(self, name: str, *, is_kept: bool) -> str:
        """*name*, or one beside it where it is a new one and another file has it already."""
        stem, suffix = os.path.splitext(name)
        number = 1
        while not is_kept and name in self._names:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._names.add(name)
        return name

    def _note(self, file: InputFile, made: DeidentifiedFile) -> None:
        report = made.done.report
        self._total.add(report)
        for text in report.warnings:
            self._terminal.note(f"{file.path}: {text}")
        if self._arguments.report is not None:
            self._files.append({"sop_instance_uid": made.sop_instance_uid, **report.to_json()})
        elif report.wants_changes and self._may_print():
            for change in report.changes:
                values = f": {change.old!r} -> {change.new!r}" if report.wants_values else ""
                print(f"{file.path}: {change.path} {change.action}{values}")

    def _may_print(self) -> bool:
        return self._made is None or self._made.target != STANDARD or self._arguments.dry_run

    def finish(self) -> None:
        """Write the mapping and the report, and say what was done."""
        arguments, total = self._arguments, self._total
        if arguments.mapping_file is not None and not arguments.dry_run:
            write_mapping(arguments.mapping_file, self._deidentifier.pseudonyms.uids)
        if arguments.report is not None:
            model = {
                "profile": self._deidentifier.profile.name,
                "options": sorted(each.value for each in self._deidentifier.profile.options),
                **total.to_json(),
                "files": self._files,
            }
            content = json.dumps(model, indent=1).encode("utf-8") + b"\n"
            write_file(arguments.report, content, PRIVATE_FILE, replace=True)
        counts = ", ".join(f"{count} {what}" for what, count in sorted(total.counts.items()))
        self._terminal.detail(f"{total.processed} files: {counts or 'nothing changed'}")
