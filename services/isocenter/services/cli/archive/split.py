"""``isocenter split``: series of a study become a study of their own."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.archive.corrections.planning import CorrectionPlan
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.cli.support.correction_output import add_correction_options, run_correction
from isocenter.services.cli.support.options import uid

DESCRIPTION: Final = """\
Split a study: the series that are named become a study of their own, of the same patient, with a
new Study Instance UID.  As isocenter correct does it: the objects stay as they came, and what comes
later of these series goes the same way."""
EXAMPLES: Final = """\
examples:
  isocenter split --study 1.2.3 --series 1.2.3.4 --series 1.2.3.5 --reason "two examinations"

Series and instances keep their UIDs.  isocenter correct gives the new study its own accession
number; isocenter corrections undo puts the series back.

exit codes: 0 split, 1 nothing matches, or something cannot be split, 2 arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of split."""
    group = parser.add_argument_group("what")
    group.add_argument("--study", required=True, type=uid, metavar="UID", help="a study")
    group.add_argument(
        "--series",
        required=True,
        type=uid,
        action="append",
        metavar="UID",
        help="a series that leaves it (repeatable)",
    )
    group.add_argument("--new-study", type=uid, metavar="UID", help="default: one is made")
    add_correction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Split; the exit code."""

    async def plan(corrections: Corrections) -> CorrectionPlan:
        return await corrections.planner.split_study(
            arguments.study, arguments.series, arguments.new_study or ""
        )

    return run_correction(arguments, "isocenter split", plan)
