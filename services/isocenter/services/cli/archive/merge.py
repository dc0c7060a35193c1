"""``isocenter merge``: two patients, or two studies, are one from now on."""

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
Merge a patient into another one, or a study into another one.  All that is found under the first
is found under the second, with its name, ID and dates; the ID of the patient that is gone is kept
in the Other Patient IDs Sequence.  As isocenter correct does it: the objects stay as they came, and
what comes later under the first goes to the second as well."""
EXAMPLES: Final = """\
examples:
  isocenter merge --patient 4711 --into-patient 4712 --reason "registered twice" --dry-run
  isocenter merge --patient 17^^^WARD --into-patient 4712^^^HOSPITAL --reason "emergency"
  isocenter merge --study 1.2.3 --into-study 1.2.4 --reason "scanned in two parts"

Series and instances keep their UIDs.  isocenter corrections undo takes a merge back.

exit codes: 0 merged, 1 nothing matches, or something cannot be merged, 2 arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of merge."""
    group = parser.add_argument_group("what")
    group.add_argument("--patient", type=patient, metavar="ID[^^^ISSUER]", help="who is to go")
    group.add_argument(
        "--into-patient", type=patient, metavar="ID[^^^ISSUER]", help="who is to stay"
    )
    group.add_argument("--study", type=uid, metavar="UID", help="which study is to go")
    group.add_argument("--into-study", type=uid, metavar="UID", help="which study is to stay")
    add_correction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Merge; the exit code."""

    async def plan(corrections: Corrections) -> CorrectionPlan:
        of_patients = (arguments.patient, arguments.into_patient)
        of_studies = (arguments.study, arguments.into_study)
        if all(of_patients) and not any(of_studies):
            return await corrections.planner.merge_patients(*of_patients)
        if all(of_studies) and not any(of_patients):
            return await corrections.planner.merge_studies(*of_studies)
        raise UsageError("give --patient and --into-patient, or --study and --into-study")

    return run_correction(arguments, "isocenter merge", plan)
