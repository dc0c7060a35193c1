"""``isocenter import``: existing DICOM files into the archive."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Final

from isocenter.services import composition
from isocenter.services.archive.file_import import ImportedFile, ImportReport, import_directory
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import (
    add_archive_options,
    add_output_options,
    check_paths,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.import_audit import ImportAudit
from isocenter.services.diagnostics.doctor.check import size_text

DESCRIPTION: Final = """\
Copy DICOM files, and all files below folders, into the archive.  The server must not run:
send the files to a server that runs with isocenter storescu.  Doing it again takes only
what is new.  Rules are not looked at: they are for what is sent."""
EXAMPLES: Final = """\
examples:
  isocenter import /media/cdrom
  isocenter import --data-dir /srv/isocenter old-archive/ more/ct.dcm

exit codes: 0 every file that is or could be DICOM is in the archive (a DICOMDIR, a worklist file
and others that are no objects of patients are passed over, by name), 1 some are not, or none
was DICOM, 2 arguments or settings"""


def add_arguments(parser: CommandParser) -> None:
    """The options of import."""
    parser.is_intermixed = True
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders")
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        check_paths(arguments.paths)
        settings = archive_settings(arguments, must_exist=False)
        done = 0
        with terminal.progress("importing") as advance:

            def show(file: ImportedFile) -> None:
                nonlocal done
                done += 1
                imported.add(file)
                advance(done, None)

            with interrupts.stoppable(), ImportAudit(settings, arguments.paths) as imported:
                # What is brought in by hand is of no rule, and no event.
                events = replace(settings.events, enabled=False)
                quiet = replace(settings, rules=(), events=events)
                async with composition.open_archive(quiet) as archive:
                    report = await import_directory(archive, arguments.paths, progress=show)
        if interrupts.were_requested():
            terminal.note(f"stopped after {done} files; once more imports the rest")
            return EXIT_INTERRUPTED
        return _report(report, terminal)

    return run_task(terminal, work)


def _report(report: ImportReport, terminal: Terminal) -> int:
    print_findings(
        terminal,
        {
            "imported all the same": report.forgiven,
            "of another patient than its study": report.other_patient,
            "not DICOM": report.not_dicom,
            "damaged": report.damaged,
            "failed": report.failed,
            "the archive has another object": report.kept_other,
        },
    )
    print(
        f"{report.files} files: {report.imported} imported ({size_text(report.size)}), "
        f"{report.already_there} were there already, {report.not_dicom.count} not DICOM, "
        f"{report.damaged.count} damaged, {report.failed.count} failed, "
        f"{report.kept_other.count} kept other"
    )
    if report.stopped:
        terminal.error(f"ended early: {report.stopped}; make room and import again")
    if report.stopped or report.damaged.count or report.failed.count or report.kept_other.count:
        return EXIT_FAILED
    if not (report.imported or report.already_there):
        terminal.error("no file is DICOM; nothing was imported")
        return EXIT_FAILED
    return EXIT_OK
