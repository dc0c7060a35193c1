"""``isocenter backup``: copies of the whole archive, beside a running server."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.backup.creation import make_backup
from isocenter.services.backup.generation import Generation
from isocenter.services.backup.manifest import BackupError, Manifest
from isocenter.services.backup.private_keys import read_passphrase
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.backup.source import Source
from isocenter.services.backup.verification import verify_backup
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, program_version
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
    whole_number,
)
from isocenter.services.cli.support.step_progress import StepProgress
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.composition.backup import (
    SqliteIndexFile,
    open_backup_source,
)
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.security.audit.alert_messages import restricted_function_used
from isocenter.services.settings.options import CONFIG_VARIABLE
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Back up the whole archive to a folder: index, objects, audit trail, certificates, access and
settings.  The server may run, and goes on.  What was acknowledged before the backup began is in
it.  An index in PostgreSQL becomes a file there.  Into the same folder again, only what is new is
copied; every backup there is complete by itself.  Private keys are named, and taken along only
with a passphrase."""
EXAMPLES: Final = """\
examples:
  isocenter backup /mnt/backup/isocenter
  isocenter backup /mnt/backup/isocenter --keep 14
  isocenter backup /mnt/backup/isocenter --key-passphrase-file /root/backup.passphrase
  isocenter backup --list /mnt/backup/isocenter
  isocenter backup --verify /mnt/backup/isocenter        read the last one, byte for byte
  isocenter backup --verify --all /mnt/backup/isocenter

isocenter restore brings one back.

exit codes: 0 made (verified), 1 not made, or something is missing or damaged, 2 arguments or
settings, 130 interrupted: the next one goes on where this one stopped"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done with which folder."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the backups")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--verify", action="store_true", help="read a backup and say whether all of it is there"
    )
    action.add_argument("--list", action="store_true", help="show which backups there are")
    parser.add_argument("--generation", metavar="NAME", help="verify this one (default: the last)")
    parser.add_argument("--all", action="store_true", help="verify all of them")
    parser.add_argument(
        "--keep",
        type=whole_number(1, 100_000),
        metavar="N",
        help="afterwards remove all but the last N (default: keep all)",
    )
    parser.add_argument(
        "--key-passphrase-file",
        type=Path,
        metavar="FILE",
        help="take private keys along, encrypted with the passphrase in FILE",
    )
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        _check(arguments)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            if arguments.list:
                code = _list(BackupFolder.open(arguments.folder))
            elif arguments.verify:
                code = await _verify(arguments, terminal)
            else:
                code = await _make(arguments, terminal)
        return code

    return run_task(terminal, work)


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.verify and (arguments.all or arguments.generation):
        raise UsageError("--all and --generation go with --verify")
    if arguments.all and arguments.generation:
        raise UsageError("--all, or --generation NAME")
    if (arguments.verify or arguments.list) and (
        arguments.keep is not None or arguments.key_passphrase_file is not None
    ):
        raise UsageError("--keep and --key-passphrase-file go with making a backup")


async def _make(arguments: argparse.Namespace, terminal: Terminal) -> int:
    settings = archive_settings(arguments, must_exist=True)
    os.umask(0o077)
    passphrase = None
    if arguments.key_passphrase_file is not None:
        passphrase = read_passphrase(arguments.key_passphrase_file)
    config = arguments.config or os.environ.get(CONFIG_VARIABLE) or None
    async with open_backup_source(
        settings, None if config is None else Path(config), f"isocenter {program_version()}"
    ) as source:
        folder = BackupFolder.create(arguments.folder)
        return await _make_with(source, settings, folder, passphrase, arguments, terminal)


async def _make_with(
    source: Source,
    settings: Settings,
    folder: BackupFolder,
    passphrase: bytes | None,
    arguments: argparse.Namespace,
    terminal: Terminal,
) -> int:
    with folder.locked(), ExitStack() as stack:
        if folder.unfinished():
            terminal.note("the last backup was not finished; what it had copied is taken over")
        _record(settings, arguments.folder, "the archive is backed up", terminal)
        show = StepProgress(terminal, stack)
        generation, manifest = await make_backup(
            source, folder, passphrase=passphrase, progress=show
        )
        stack.close()
        _print_generation(generation, manifest, terminal)
        if manifest.faults_found:
            if arguments.keep is not None:
                terminal.note("no older backup was removed")
            return EXIT_FAILED
        if arguments.keep is not None:
            generations, contents = folder.keep(arguments.keep)
            if generations:
                print(f"removed {_count(generations, 'older backup')} and {contents} files of them")
    return EXIT_OK


def _print_generation(generation: Generation, manifest: Manifest, terminal: Terminal) -> None:
    print(
        f"backup {generation.name}: {manifest.instances} instances "
        f"({size_text(manifest.objects_size)}), "
        + (f"{manifest.trashed} in the trash, " if manifest.trashed else "")
        + f"{manifest.files} other files, as of "
        f"{_moment(manifest.point_in_time)}; {size_text(manifest.copied_size)} were new"
    )
    references = [key.path for key in manifest.keys if key.kept == "reference"]
    if references:
        terminal.note(
            f"{_count(len(references), 'private key')} not taken along "
            f"({', '.join(references[:5])}{', …' if len(references) > 5 else ''}); keep them "
            "elsewhere, or give --key-passphrase-file FILE"
        )
    for setting, path in manifest.outside:
        terminal.note(f"not of the data directory, and not backed up: {path} ({setting})")
    for path in manifest.left_out[:20]:
        terminal.note(f"left out, as it is no file of ours: {path}")
    for name, reason in manifest.faults[:20]:
        terminal.note(f"not in the backup: {name} ({reason})")
    if manifest.faults_found:
        terminal.error(
            f"the archive has lost {manifest.faults_found} of what it should have; the rest is "
            "backed up. See isocenter db verify, and older backups"
        )


def _list(folder: BackupFolder) -> int:
    rows = [("NAME", "AS OF", "INSTANCES", "SIZE", "NEW", "FAULTS", "KEYS")]
    for generation in folder.generations():
        try:
            manifest = generation.manifest()
        except BackupError as error:
            rows.append((generation.name, str(error), "", "", "", "", ""))
            continue
        size = manifest.objects_size + manifest.files_size + manifest.index_size
        rows.append(
            (
                generation.name,
                _moment(manifest.point_in_time),
                str(manifest.instances),
                size_text(size),
                size_text(manifest.copied_size),
                str(manifest.faults_found),
                ", ".join(sorted({key.kept for key in manifest.keys})) or "none",
            )
        )
    rows += [(one.name, "not finished", "", "", "", "", "") for one in folder.unfinished()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return EXIT_OK


async def _verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    folder = BackupFolder.open(arguments.folder)
    with folder.locked(shared=True), ExitStack() as stack:
        last = folder.generation(arguments.generation)
        chosen = folder.generations() if arguments.all else [last]
        report = await verify_backup(
            folder, chosen, SqliteIndexFile, progress=StepProgress(terminal, stack)
        )
    print_findings(terminal, {"damaged": report.faults})
    print(
        f"{_count(report.generations, 'backup')}, {report.contents} files, "
        f"{size_text(report.size)} read: {report.faults.count} faults"
    )
    if report.known_faults:
        terminal.note(
            f"{report.known_faults} objects were lost in the archive itself when it was backed up"
        )
    if report.faults.count:
        terminal.error(
            "the backup is damaged; back up again, which copies anew what is missing here, and "
            "look at the disk"
        )
        return EXIT_FAILED
    return EXIT_OK


def _record(settings: Settings, folder: Path, text: str, terminal: Terminal) -> None:
    here = active_process_of(settings, "isocenter backup")
    try:
        record_now(settings, here, [restricted_function_used(here, folder, text)])
    except (OSError, IsocenterError) as error:
        terminal.error(f"not in the audit trail: {error}")


def _moment(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
