"""``isocenter move``: a study gets to another patient, or series to another study."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.archive.corrections.planning import CorrectionPlan
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.cli.support.correction_output import (
    add_correction_options,
    patient,
    run_correction,
)
from isocenter.services.cli.support.options import UsageError, uid

DESCRIPTION: Final = """\
Move a study to another patient, or series of it to another study.  As isocenter correct does it:
the objects stay as they came, and what comes later of them goes the same way."""
EXAMPLES: Final = """\
examples:
  isocenter move --study 1.2.3 --to-patient 4712 --reason "wrong patient" --dry-run
  isocenter move --study 1.2.3 --series 1.2.3.4 --to-study 1.2.5 --reason "wrong study"

The other patient, or study, is one that the archive has.  isocenter split makes a new study.

exit codes: 0 moved, 1 nothing matches, or something cannot be moved, 2 arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of move."""
    group = parser.add_argument_group("what")
    group.add_argument("--study", required=True, type=uid, metavar="UID", help="a study")
    group.add_argument(
        "--series", type=uid, action="append", default=[], metavar="UID", help="(repeatable)"
    )
    where = group.add_mutually_exclusive_group(required=True)
    where.add_argument("--to-patient", type=patient, metavar="ID[^^^ISSUER]")
    where.add_argument("--to-study", type=uid, metavar="UID")
    add_correction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Move; the exit code."""

    async def plan(corrections: Corrections) -> CorrectionPlan:
        planner = corrections.planner
        if arguments.to_patient is None:
            return await planner.move_series(arguments.study, arguments.series, arguments.to_study)
        if arguments.series:
            raise UsageError("series are moved --to-study; split makes a study of them first")
        return await planner.move_study(arguments.study, arguments.to_patient)

    return run_correction(arguments, "isocenter move", plan)
