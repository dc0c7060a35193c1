"""``isocenter export``: studies, series or instances to a folder or a ZIP file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.export.targets import (
    ExportTarget,
    check_room,
    folder_target,
    zip_target,
)
from isocenter.services.archive.export.values import Exported, ExportOptions
from isocenter.services.archive.selection import Selection
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.files.file_tool import STANDARD, output_file
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.deletion_output import counted, requester_of
from isocenter.services.cli.support.directory_output import file_set_id, tell_additions
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
)
from isocenter.services.cli.support.selection_options import (
    add_selection_options,
    counts_of,
    query_of,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.export import open_exporter
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.dicom.file_set.directory import new_directory
from isocenter.services.dicom.file_set.file_set_builder import DirectoryBuilder
from isocenter.services.dicom.file_set.profiles import PROFILES
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    BY_KEYWORD,
    PIXEL_SYNTAXES,
    Support,
)
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Write objects of the archive to a folder, or to a ZIP file, each as the Part 10 file that it is.
May run while the server does.  What is written appears when all of it is written, or not at all.
Each export is recorded in the audit trail."""
EXAMPLES: Final = """\
examples:
  isocenter export --study 1.2.840.113619.2.55.3 --to /media/usb
  isocenter export --study 1.2.840.113619.2.55.3 --to study.zip
  isocenter export --study 1.2.840.113619.2.55.3 --to /media/usb --dicomdir
  isocenter export --study 1.2.840.113619.2.55.3 --to cd.zip --profile STD-GEN-CD
  isocenter export -k PatientID=4711 -k StudyDate=20260101- --to /tmp/4711 --dry-run
  isocenter export --study 1.2.840.113619.2.55.3 --to research.zip --deidentify basic
  isocenter export --series 1.2.3.4 --to series.zip --transfer-syntax explicit

Folders are called by Study and Series Instance UID, files by SOP Instance UID; with --dicomdir by
numbers.  All keys that are
given have to match, as in a relational C-FIND.

exit codes: 0 all is exported, 1 nothing is (or with --skip-faults, some is not), or nothing
matches, 2 arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of export."""
    add_selection_options(parser)
    group = parser.add_argument_group("where to, and how")
    group.add_argument(
        "--to",
        required=True,
        metavar="PATH",
        help="a folder; a ZIP file, when it ends in .zip; - writes a ZIP file to standard output",
    )
    group.add_argument(
        "--dicomdir",
        action="store_true",
        help="make a file-set: names that conform to PS3.10, and a DICOMDIR",
    )
    group.add_argument(
        "--file-set-id", type=file_set_id, default="", metavar="ID",
        help="File-set ID: at most 16 characters A-Z, 0-9, _ and space; implies --dicomdir",
    )  # fmt: skip
    group.add_argument(
        "--profile", choices=tuple(PROFILES), metavar="NAME",
        help="media profile (PS3.11): what is in a transfer syntax that it has not becomes "
        f"explicit VR little endian; implies --dicomdir; {', '.join(PROFILES)}",
    )  # fmt: skip
    group.add_argument(
        "--transfer-syntax",
        type=_transfer_syntax,
        metavar="SYNTAX",
        help="convert to this one, by keyword or UID (default: as they are stored); objects "
        "without pixels stay uncompressed",
    )
    group.add_argument(
        "--lossy",
        action="store_true",
        help="allow a --transfer-syntax that loses something; objects get new SOP Instance UIDs",
    )
    group.add_argument(
        "--quality", type=int, choices=range(1, 101), default=90, metavar="1-100",
        help="of lossy encodings (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--deidentify", default="", metavar="PROJECT",
        help="de-identify objects under a project of [[deidentification]], or basic",
    )  # fmt: skip
    group.add_argument(
        "--deflate", action="store_true", help="compress the ZIP file, which takes its time"
    )
    group.add_argument(
        "--skip-faults",
        action="store_true",
        help="leave out what cannot be read or converted, name it, and export the others",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="count what would be exported, and write nothing"
    )
    add_archive_options(parser)
    add_output_options(parser)


def _transfer_syntax(text: str) -> str:
    known = BY_KEYWORD.get(text.lower()) or PIXEL_SYNTAXES.get(text)
    if known is None or known.encoding is Support.PASSED_THROUGH:
        names = [
            name
            for name, syntax in BY_KEYWORD.items()
            if syntax.encoding is not Support.PASSED_THROUGH
        ]
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(names)}, nor the UID of one"
        )
    return known.uid


def run(arguments: argparse.Namespace) -> int:
    """Export; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        query = query_of(arguments, settings, "exported")
        options = _options_of(arguments)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            async with open_exporter(settings, "isocenter export") as exporter:
                selection = await exporter.select(query)
                code = await _export(arguments, settings, exporter, selection, options, terminal)
        if code == EXIT_INTERRUPTED:  # else Ctrl-C came when all was in its place
            terminal.note("stopped; nothing was exported")
        return code

    return run_task(terminal, work)


def _options_of(arguments: argparse.Namespace) -> ExportOptions:
    wanted: str = arguments.transfer_syntax or ""
    is_lossy = bool(wanted) and PIXEL_SYNTAXES[wanted].is_lossy
    if is_lossy and not arguments.lossy:
        raise UsageError(
            f"{PIXEL_SYNTAXES[wanted].name} may lose something of the pixels; allow it with --lossy"
        )
    allowed = PROFILES[arguments.profile].transfer_syntaxes if arguments.profile else ()
    if wanted and allowed and wanted not in allowed:
        raise UsageError(f"{arguments.profile} does not have {PIXEL_SYNTAXES[wanted].name}")
    return ExportOptions(
        transfer_syntax_uid=wanted,
        allowed=allowed,
        transcoding=TranscodingOptions(
            lossy=arguments.lossy, encoding=EncodingOptions(quality=arguments.quality)
        ),
        leaves_out=arguments.skip_faults,
        project=arguments.deidentify,
    )


async def _export(
    arguments: argparse.Namespace,
    settings: Settings,
    exporter: Exporter,
    selection: Selection,
    options: ExportOptions,
    terminal: Terminal,
) -> int:
    if not selection.instances:
        terminal.error("nothing in the archive matches; nothing was exported")
        return EXIT_FAILED
    if arguments.dry_run:
        check_room(_folder_of(arguments.to), selection.size, selection.instances)
        print(f"{counts_of(selection)}; nothing was exported")
        return EXIT_OK
    has_directory = arguments.dicomdir or arguments.file_set_id or arguments.profile
    directory = DirectoryBuilder(new_directory(arguments.file_set_id)) if has_directory else None
    with (
        _target(arguments.to, deflate=arguments.deflate) as target,
        terminal.progress("exporting") as advance,
    ):
        done = await exporter.export(
            selection,
            target,
            requester_of(settings, "isocenter export"),
            place=_uri_of(arguments.to),
            options=options,
            directory=directory,
            progress=lambda count: advance(count, selection.instances),
        )
    if directory is not None:
        tell_additions(directory.additions, terminal)
    return _judge(done, arguments, terminal)


def _judge(done: Exported, arguments: argparse.Namespace, terminal: Terminal) -> int:
    print_findings(terminal, {"left out": done.left_out})
    text = f"exported {counted(done.instances, 'instance')}, {size_text(done.size)}"
    if arguments.to == STANDARD:
        terminal.note(text)
    else:
        print(f"{text}: {arguments.to}")
    if done.left_out.count:
        terminal.error(f"{counted(done.left_out.count, 'instance')} could not be exported")
    return EXIT_FAILED if done.left_out.count else EXIT_OK


@contextmanager
def _target(to: str, *, deflate: bool) -> Iterator[ExportTarget]:
    """Where the files go; nothing of it is there unless all has ended well."""
    path = Path(to)
    is_zip = to == STANDARD or (path.suffix.lower() == ".zip" and not path.is_dir())
    if deflate and not is_zip:
        raise UsageError("--deflate is for ZIP files; give --to FILE.zip")
    if not is_zip:
        with folder_target(path) as target:
            yield target
        return
    if to != STANDARD and path.exists():
        raise UsageError(f"{to} is there already; move it away, or give another name")
    with output_file(to) as file, zip_target(file, _folder_of(to), deflate=deflate) as zipped:
        yield zipped


def _folder_of(to: str) -> Path | None:
    return None if to == STANDARD else Path(to).absolute().parent


def _uri_of(to: str) -> str:
    return "urn:isocenter:standard-output" if to == STANDARD else Path(to).absolute().as_uri()
