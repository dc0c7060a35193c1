"""Parts that the commands of correction share."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from isocenter.services import composition
from isocenter.services.archive.corrections.planning import CorrectionError, CorrectionPlan
from isocenter.services.archive.corrections.ports import CorrectionRefusedError, CorrectionSummary
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.deletion_output import check_owner, counted, requester_of
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
    add_reason,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.settings.settings import Settings

#: Between an ID and its issuer, as in HL7.
_ISSUER_MARK = "^^^"


def patient(text: str) -> PatientKey:
    """An option's value that names a patient: an ID, or ``ID^^^ISSUER``."""
    patient_id, _, issuer = text.partition(_ISSUER_MARK)
    if not patient_id.strip():
        raise argparse.ArgumentTypeError("a patient is named by the ID, or by ID^^^ISSUER")
    return PatientKey(patient_id.strip(), issuer.strip())


def add_correction_options(parser: argparse.ArgumentParser) -> None:
    """What all commands that correct take."""
    add_reason(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change, and change nothing"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_archive_options(parser)
    add_output_options(parser)


@asynccontextmanager
async def opened_corrections(
    settings: Settings, process_name: str, *, changes: bool = True
) -> AsyncIterator[Corrections]:
    """What corrects an archive; a server may be at work on it.

    Args:
        changes: something may be corrected.

    Raises:
        UsageError: what is made there would not be the server's.
    """
    if changes:
        check_owner(Path(settings.storage.data_dir))
        await composition.recover_after_crash(settings)
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        yield composition.corrections_of(settings, parts, process_name)


def run_correction(
    arguments: argparse.Namespace,
    command: str,
    plan: Callable[[Corrections], Awaitable[CorrectionPlan]],
) -> int:
    """Show what is planned, ask, and do it; the exit code.

    Args:
        command: ``isocenter correct``.
    """
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            async with opened_corrections(
                settings, command, changes=not arguments.dry_run
            ) as corrections:
                try:
                    planned = await plan(corrections)
                except CorrectionError as error:
                    raise UsageError(str(error)) from error
                code = await _correct(arguments, settings, corrections, planned, command, terminal)
        return code

    return run_task(terminal, work)


async def _correct(
    arguments: argparse.Namespace,
    settings: Settings,
    corrections: Corrections,
    plan: CorrectionPlan,
    command: str,
    terminal: Terminal,
) -> int:
    if not plan.instances:
        terminal.error("nothing in the archive matches; nothing was changed")
        return EXIT_FAILED
    print_plan(plan)
    if not plan.changed:
        terminal.error("all of them say so already; nothing was changed")
        return EXIT_FAILED
    if arguments.dry_run:
        print("nothing was changed")
        return EXIT_OK
    if not await is_confirmed(arguments, terminal, f"correct {counts_of(plan)}"):
        return EXIT_FAILED
    try:
        number = await corrections.order(plan, requester_of(settings, command), arguments.reason)
    except CorrectionRefusedError as error:
        terminal.error(str(error))
        return EXIT_FAILED
    return await worked_off(corrections, number, plan.instances, terminal)


async def worked_off(
    corrections: Corrections, number: int, instances: int, terminal: Terminal
) -> int:
    """Work off what is ordered, and say what came of one correction; the exit code."""
    with terminal.progress("correcting") as advance:
        await corrections.work(lambda count: advance(count, instances))
    summary = await corrections.book.get(number)
    if summary is None:
        return EXIT_FAILED
    print(f"correction {number}: {state_of(summary)}")
    if summary.failed:
        terminal.error(
            f"{counted(summary.failed, 'instance')} cannot be corrected and stay as they were: "
            f"{shown(summary.fault)}; isocenter corrections retry {number} tries again"
        )
        return EXIT_FAILED
    if summary.undone_at is None:
        print(f"isocenter corrections undo {number} takes it back")
    return EXIT_OK


def print_plan(plan: CorrectionPlan) -> None:
    """What would change: for the one who asks for it, hence with values."""
    print(counts_of(plan))
    for each in plan.differences:
        before = ", ".join(
            f"{shown(value) or '(empty)'}" + (f" ({count})" if len(each.before) > 1 else "")
            for value, count in each.before
        )
        after = "(removed)" if each.after is None else shown(each.after) or "(empty)"
        print(f"  {each.name}: {before or '…'} -> {after}")
    for note in plan.notes:
        print(f"note: {note}")


def counts_of(plan: CorrectionPlan) -> str:
    """How much it is."""
    return (
        f"{counted(plan.instances, 'instance')} in {counted(plan.series, 'series', 'series')} and "
        f"{counted(plan.studies, 'study', 'studies')}, {size_text(plan.size)}"
    )


def state_of(summary: CorrectionSummary) -> str:
    """How far a correction is."""
    pending = summary.instances - summary.done - summary.failed
    if summary.undone_at is not None:
        return f"being undone, {pending} to go" if pending else "undone"
    text = f"{summary.done} of {summary.instances} corrected"
    return f"{text}, {summary.failed} failed" if summary.failed else text
