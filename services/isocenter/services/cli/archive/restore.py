"""``isocenter restore``: an archive from a backup, to where nothing is."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.archive.verification import verify
from isocenter.services.backup.generation import Generation
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.private_keys import read_passphrase
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.backup.restoration import (
    Place,
    RestoreReport,
    Restoring,
    move_aside,
)
from isocenter.services.backup.restore_mark import RESTORING
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import print_report
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
)
from isocenter.services.cli.support.step_progress import StepProgress
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, is_trail_enabled, record_now
from isocenter.services.composition.backup import SqliteIndexFile
from isocenter.services.composition.restoration import (
    check_elsewhere,
    open_restore_target,
    restore_place_of,
)
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.errors import text_of
from isocenter.services.security.audit.alert_messages import restricted_function_used
from isocenter.services.security.audit.trail import TrailError, read_key
from isocenter.services.security.audit.trail_verification import verify as verify_trail
from isocenter.services.settings.settings import Settings
from isocenter.services.system.file_lock import is_locked
from isocenter.services.system.pid_file import pid_of_server

DESCRIPTION: Final = """\
Bring an archive back from a backup into a new data directory, and, where the settings name them,
into an empty PostgreSQL database (--database) and a bucket or folder where nothing is (--objects).
Everything that can be checked is checked before anything is written: that the backup is whole,
that there is room, that nothing is there.  Afterwards the archive is verified as isocenter db
verify does."""
EXAMPLES: Final = """\
examples:
  isocenter restore /mnt/backup/isocenter --data-dir /srv/isocenter
  isocenter restore /mnt/backup/isocenter --data-dir /srv/isocenter --generation 20260102T030405Z
  isocenter restore /mnt/backup/isocenter --config /etc/isocenter/isocenter.toml --replace
  isocenter restore /mnt/backup/isocenter --data-dir /tmp/trial --check
  isocenter restore /mnt/backup/isocenter --config new.toml    PostgreSQL, bucket: as it names

A restore that was cut short is gone on with by the same command, without --replace; no server
starts before it is finished.

exit codes: 0 restored and whole, 1 not restored, or something is missing, 2 arguments or settings,
130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where, which, and where to."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the backups")
    parser.add_argument("--generation", metavar="NAME", help="which one (default: the last)")
    parser.add_argument(
        "--check", action="store_true", help="only say whether it could be done; change nothing"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="move what is in the data directory aside first, to DIR.replaced-TIME",
    )
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="restore what there is of a backup that has lost something",
    )
    parser.add_argument(
        "--key-passphrase-file",
        type=Path,
        metavar="FILE",
        help="open the private keys in the backup with the passphrase in FILE",
    )
    parser.add_argument(
        "--no-checksums",
        dest="checksums",
        action="store_false",
        help="at the end, do not read every object once more",
    )
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        if getattr(arguments, "storage.data_dir") is None and arguments.config is None:
            raise UsageError(
                "say where to: --data-dir DIR, or --config FILE for the directory in its settings"
            )
        settings = archive_settings(arguments, must_exist=False)
        os.umask(0o077)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            code = await _restore(arguments, settings, terminal)
        if code == EXIT_INTERRUPTED and (Path(settings.storage.data_dir) / RESTORING).exists():
            which = (
                "the same command without --replace" if arguments.replace else "the same command"
            )
            terminal.note(f"stopped; {which} goes on from here")
        return code

    return run_task(terminal, work)


async def _restore(arguments: argparse.Namespace, settings: Settings, terminal: Terminal) -> int:
    passphrase = None
    if arguments.key_passphrase_file is not None:
        passphrase = read_passphrase(arguments.key_passphrase_file)
    place = restore_place_of(settings)
    folder = BackupFolder.open(arguments.folder)
    with folder.locked(shared=True), ExitStack() as stack:
        generation = folder.generation(arguments.generation)
        show = StepProgress(terminal, stack)
        restoring = Restoring(
            folder,
            generation,
            place,
            index=SqliteIndexFile,
            passphrase=passphrase,
            is_incomplete=arguments.incomplete,
            may_replace=arguments.replace,
            tiers=settings.tiers.places.keys(),
            progress=show,
        )
        manifest = await restoring.check()
        if not restoring.is_continued:
            await check_elsewhere(settings)
        elif arguments.replace:
            try:
                await check_elsewhere(settings)
            except BackupError as error:
                raise BackupError(
                    f"{error}; or go on with the restore that was begun: without --replace"
                ) from error
        where = f"{place.data_dir}" + (f" and {place.elsewhere}" if place.elsewhere else "")
        if arguments.check:
            stack.close()
            print(f"backup {generation.name} can be restored to {where}")
            return EXIT_OK
        if arguments.replace:
            _move_aside(place, terminal)
        async with open_restore_target(settings, restoring, place) as target:
            report = await restoring.run(target.tiers, target.elsewhere)
        stack.close()
    print(
        f"restored backup {generation.name} to {where}: {report.files} files, "
        f"{size_text(report.size)}"
        + (f"; {report.skipped} were there from before" if report.skipped else "")
    )
    is_good = _print_report(report, manifest.faults_found, generation, terminal)
    is_good &= await trio.to_thread.run_sync(_verify_trail, settings, place, terminal)
    _record(settings, generation, place, terminal)
    with terminal.progress("verifying") as advance:
        async with composition.open_archive(settings) as archive:
            found = await verify(
                archive,
                progress=lambda progress: advance(progress.done, progress.total),
                checksums=arguments.checksums,
            )
    return EXIT_OK if print_report(found, terminal) and is_good else EXIT_FAILED


def _move_aside(place: Place, terminal: Terminal) -> None:
    try:
        pid = pid_of_server(place.data_dir)
        is_busy = is_locked(place.data_dir / "lock")
    except OSError as error:
        raise BackupError(f"{place.data_dir}: {text_of(error)}") from error
    if pid is not None:
        raise BackupError(
            f"a server (process {pid}) uses {place.data_dir}; stop it before what it uses is moved"
        )
    if is_busy:
        raise BackupError(
            f"another command, such as a restore, is at work on {place.data_dir}; wait for its "
            "end, or stop it, before what it uses is moved"
        )
    suffix = f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for one in dict.fromkeys((place.data_dir, place.audit)):
        aside = move_aside(one, suffix)
        if aside is not None:
            terminal.note(f"what was in {one} is in {aside} now")


def _print_report(
    report: RestoreReport, lost: int, generation: Generation, terminal: Terminal
) -> bool:
    for name, reason in report.missing.named[:20]:
        terminal.note(f"not restored: {name} ({reason})")
    if report.missing.count:
        terminal.error(f"{report.missing.count} files are not in the backup any more")
    if lost:
        terminal.error(f"the archive had lost {lost} of what it should have when it was backed up")
    for key in report.keys:
        which = (
            f" (SHA-256 of its public key {key.public_key_sha256})"
            if (key.public_key_sha256)
            else ""
        )
        how = (
            "put it back in its place"
            if key.kept == "reference"
            else "open it with --key-passphrase-file, or put it back in its place"
        )
        terminal.note(f"private key not restored: {key.path}{which}; {how}")
    terminal.note(f"the settings of then are in {generation.settings}")
    return not report.missing.count and not lost


def _verify_trail(settings: Settings, place: Place, terminal: Terminal) -> bool:
    if not is_trail_enabled(settings) or not place.audit.is_dir():
        return True
    try:
        path = settings.audit.hmac_key_file
        verdict = verify_trail(place.audit, key=None if path is None else read_key(path))
    except TrailError as error:
        terminal.note(f"the audit trail was not verified: {error}")
        return True
    except OSError as error:
        terminal.error(f"{place.audit}: {text_of(error)}")
        return False
    for fault in verdict.faults[:20]:
        terminal.note(f"audit trail: {fault}")
    print(f"audit trail: {verdict.records} records, {verdict.faults_found} faults")
    return verdict.is_good


def _record(settings: Settings, generation: Generation, place: Place, terminal: Terminal) -> None:
    here = active_process_of(settings, "isocenter restore")
    text = f"the archive is the one of backup {generation.name} from here on"
    try:
        record_now(settings, here, [restricted_function_used(here, place.data_dir, text)])
    except (OSError, IsocenterError) as error:
        terminal.error(f"not in the audit trail: {error}")
