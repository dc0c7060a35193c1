"""``isocenter migrate``: copy a whole archive to another database and object store."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.backup.relocation.relocation import RelocationReport
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import print_findings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.deletion_output import counted
from isocenter.services.cli.support.options import UsageError, add_output_options
from isocenter.services.cli.support.step_progress import StepProgress
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.composition.relocation import (
    Ends,
    RelocationPlan,
    open_relocation,
    plan_relocation,
)
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.security.audit.alert_messages import restricted_function_used
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.system.environment import PREFIX

DESCRIPTION: Final = """\
Copy a whole archive to another place: from SQLite to PostgreSQL, from files to S3 or Azure, and
back.  Each end is the file of settings that a server has for it, or a data directory with nothing
elsewhere.  The source may go on serving: repeat the command as often as you like, it copies what
is new.  Then stop the source, and copy the rest with --final; afterwards a server may start on the
target.  Objects are compared with the digests of when they were stored, rows with each other."""
EXAMPLES: Final = """\
examples:
  isocenter migrate --from old.toml --to new.toml --dry-run    what would be copied
  isocenter migrate --from old.toml --to new.toml              while the source serves
  isocenter migrate --from old.toml --to new.toml --final      when it is stopped
  isocenter migrate --from /var/lib/isocenter --to new.toml    files and SQLite, as by default
  isocenter serve --config new.toml

The target is empty, or one into which this relocation has begun.  Nothing is removed from the
source.  Variables ISOCENTER__… are not read, since they would mean both ends.

exit codes: 0 copied, 1 not copied, or something is damaged or missing in the source, 2 arguments
or settings, 130 interrupted: the next one goes on where this one stopped"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where, to where, and how far."""
    for name, what in (("from", "the archive that is copied"), ("to", "the one that is made")):
        parser.add_argument(
            f"--{name}",
            dest=f"{name}_",
            type=Path,
            metavar="PATH",
            required=True,
            help=f"{what}: file of settings (TOML), or data directory",
        )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--final",
        action="store_true",
        help="the source is stopped: copy the rest, so that a server can start on the target",
    )
    how.add_argument("--dry-run", action="store_true", help="tell what would be copied")
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            ends = _ends(arguments, terminal)
            if arguments.dry_run:
                _print_plan(await plan_relocation(ends))
                code = EXIT_OK
            else:
                code = await _copy(ends, arguments, terminal)
        if code == EXIT_INTERRUPTED:
            terminal.note("stopped; the next one goes on from here")
        return code

    return run_task(terminal, work)


def _ends(arguments: argparse.Namespace, terminal: Terminal) -> Ends:
    if ignored := sorted(name for name in os.environ if name.startswith(PREFIX)):
        terminal.note(
            f"not read, since they would mean both archives: {', '.join(ignored)}; put what they "
            "say into the files of settings"
        )
    return Ends(
        origin=_settings(arguments.from_, must_exist=True),
        target=_settings(arguments.to_, must_exist=False),
        origin_name=str(arguments.from_),
        target_name=str(arguments.to_),
    )


def _settings(path: Path, *, must_exist: bool) -> Settings:
    try:
        if path.is_file():
            return load_settings(path, environ={})
        if not path.is_dir() and (must_exist or path.suffix == ".toml"):
            raise UsageError(f"{path}: there is no such file of settings or data directory")
        return load_settings(environ={}, overrides={"storage.data_dir": str(path)})
    except SettingsError as error:
        raise UsageError(str(error)) from error


async def _copy(ends: Ends, arguments: argparse.Namespace, terminal: Terminal) -> int:
    os.umask(0o077)
    is_final = arguments.final
    async with open_relocation(ends, is_final=is_final) as relocation:
        _record(ends, terminal)
        with ExitStack() as stack:
            report = await relocation.run(is_final=is_final, progress=StepProgress(terminal, stack))
    _print_report(report)
    print_findings(terminal, {"damaged": report.objects.damaged, "missing": report.objects.missing})
    again = f"isocenter migrate --from {arguments.from_} --to {arguments.to_}"
    if is_final:
        start = "--config" if arguments.to_.is_file() else "--data-dir"
        terminal.note(
            f"the target is complete: isocenter serve {start} {arguments.to_}. Nothing was removed "
            "from the source; do not start its server again"
        )
    else:
        terminal.note(
            f"the source may go on serving. To switch: stop its server, and run {again} --final"
        )
    return EXIT_FAILED if report.objects.damaged.count + report.objects.missing.count else EXIT_OK


def _print_report(report: RelocationReport) -> None:
    objects = report.objects
    print(
        f"copied and verified: {counted(objects.copied, 'object')} "
        f"({size_text(objects.copied_size)}), {objects.known} were there already; "
        f"{counted(report.tables.rows, 'row')} of {counted(report.tables.tables, 'table')}"
        + (f"; {counted(report.files, 'other file')}" if report.files else "")
        + (f"; removed {objects.removed} that have left since" if objects.removed else "")
    )


def _print_plan(plan: RelocationPlan) -> None:
    print(
        f"would copy {counted(plan.objects, 'object')} "
        f"({size_text(plan.statistics.size)} without the trash), "
        f"{counted(plan.rows, 'row')} of {counted(plan.tables, 'table')}, and the other files of "
        "the data directory" + (", less what an earlier pass has copied" if plan.is_begun else "")
    )
    for name, reason in plan.left.items():
        print(f"would leave the table {name}: {reason}")


def _record(ends: Ends, terminal: Terminal) -> None:
    here = active_process_of(ends.origin, "isocenter migrate")
    folder = Path(ends.target.storage.data_dir)
    try:
        record_now(
            ends.origin, here, [restricted_function_used(here, folder, "the archive is relocated")]
        )
    except (OSError, IsocenterError) as error:
        terminal.error(f"not in the audit trail: {error}")
