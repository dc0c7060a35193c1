"""``isocenter qrscp``: a folder of DICOM files, found and retrieved (PS3.4 Annex C)."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.services import composition
from isocenter.services.archive.file_import import ImportedFile, ImportReport, import_directory
from isocenter.services.association.peer import Peer
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from isocenter.services.cli.server.single_service import (
    add_scp_options,
    add_scp_tls_options,
    serve_only,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Answer C-FIND, C-MOVE and C-GET about the DICOM files of a folder, and nothing else.  The files
stay as they are: they are copied into an archive, which is gone when the program ends, or is
kept in the directory that --index-db names and then takes only what is new.  A folder that is a
data directory of ours is served as it is."""
EXAMPLES: Final = """\
examples:
  isocenter qrscp 11112 --storage-dir ./images
  isocenter qrscp 11112 QR_SCP --storage-dir ./images --peer VIEWER:10.0.0.7:11113
  isocenter qrscp 11112 --storage-dir ./images --index-db ./archive
  isocenter qrscp --storage-dir ./images --scan-only

exit codes: 0 stopped by a signal, or all was scanned, 1 nothing in the folder is DICOM,
2 arguments or settings, or it cannot start"""


def add_arguments(parser: CommandParser) -> None:
    """The folder, who may be sent to, and what every single service has."""
    add_scp_options(parser, aet="QR_SCP")
    group = parser.add_argument_group("objects")
    group.add_argument(
        "--storage-dir", type=Path, required=True, metavar="DIR", help="where the files are"
    )
    group.add_argument(
        "--index-db",
        type=Path,
        metavar="DIR",
        help="directory to keep the archive in, or the index in it (default: a temporary one)",
    )
    group.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="AET:HOST:PORT",
        help="a destination of C-MOVE (repeatable)",
    )
    group.add_argument(
        "--scan-only", action="store_true", help="read the files, say what they are, and stop"
    )
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the files, and serve until a signal."""
    folder: Path = arguments.storage_dir
    terminal = Terminal.of(arguments)
    if not folder.is_dir():
        terminal.error(f"{folder} is no folder")
        return EXIT_USAGE
    with ExitStack() as stack:
        data_dir = folder
        if not (folder / composition.INDEX_FILE).is_file() or arguments.index_db is not None:
            data_dir = _data_dir(arguments.index_db, stack)
            if data_dir.exists() and not data_dir.is_dir():
                terminal.error(f"{data_dir} is no folder; --index-db names a directory")
                return EXIT_USAGE
            code = _read(terminal, folder, data_dir)
            if code != EXIT_OK or arguments.scan_only:
                return code
        elif arguments.scan_only:
            terminal.note(f"{folder} is an archive; isocenter dbbrowser {folder} shows it")
            return EXIT_OK
        return serve_only(
            arguments,
            {
                "storage.data_dir": str(data_dir.absolute()),
                "query.enabled": True,
                "peers": list(arguments.peer),
            },
        )


def _data_dir(index: Path | None, stack: ExitStack) -> Path:
    if index is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isocenter-qrscp-")))
    return index.parent if index.name == composition.INDEX_FILE else index


def _read(terminal: Terminal, folder: Path, data_dir: Path) -> int:
    settings = _quiet(load_settings(environ={}, overrides={"storage.data_dir": str(data_dir)}))

    async def work(interrupts: Interrupts) -> int:
        done = 0
        with terminal.progress("reading") as advance:

            def show(file: ImportedFile) -> None:
                nonlocal done
                done += 1
                advance(done, None)

            with interrupts.stoppable():
                async with composition.open_archive(settings) as archive:
                    report = await import_directory(archive, [str(folder)], progress=show)
        if interrupts.were_requested():
            return EXIT_INTERRUPTED
        return _report(terminal, report, folder)

    return run_task(terminal, work)


def _quiet(settings: Settings) -> Settings:
    return replace(settings, rules=(), events=replace(settings.events, enabled=False))


def _report(terminal: Terminal, report: ImportReport, folder: Path) -> int:
    objects = report.imported + report.already_there
    terminal.note(
        f"{folder}: {report.files} files, {objects} objects, {report.not_dicom.count} not DICOM, "
        f"{report.damaged.count} damaged, {report.failed.count} failed"
    )
    if report.stopped:
        terminal.error(f"ended early: {report.stopped}")
        return EXIT_FAILED
    if not objects and report.files:
        terminal.error("no file is DICOM; there is nothing to serve")
        return EXIT_FAILED
    return EXIT_OK


def _peer(text: str) -> str:
    try:
        Peer.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not AET:HOST:PORT") from None
    return text
