"""``isocenter correct``: other values for attributes of a patient, a study or a series."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.archive.corrections.planning import CorrectionPlan
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.corrections.values import Scope
from isocenter.services.cli.support.correction_output import (
    add_correction_options,
    patient,
    run_correction,
)
from isocenter.services.cli.support.options import UsageError, uid
from isocenter.services.dicom.attribute_path import parse_attribute_path

DESCRIPTION: Final = """\
Correct attributes of what the archive has.  The objects stay as they came, beside what is made of
them; from now on all who query, fetch, are sent or export them get the corrected values, with what
was there before in the Original Attributes Sequence.  What comes later of the same patient, study
or series is corrected as it comes.  May run while the server does.  What is to be changed is shown
and asked for first."""
EXAMPLES: Final = """\
examples:
  isocenter correct --study 1.2.840.113619.2.55.3 --set PatientName=DOE^JANE \\
      --reason "misspelt" --dry-run
  isocenter correct --patient 4711 --set PatientBirthDate=19700102 --reason "wrong day"
  isocenter correct --patient 4711^^^HOSPITAL --set PatientID=4712 --reason "wrong number"
  isocenter correct --series 1.2.3.4 --set BodyPartExamined=KNEE --remove Laterality \\
      --reason "wrong protocol" --yes

UIDs are not corrected: isocenter move, split and merge put objects into another study.  isocenter
corrections lists what was corrected, and takes it back.

exit codes: 0 corrected, 1 nothing matches, or something cannot be corrected, 2 arguments or
settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of correct."""
    group = parser.add_argument_group("what")
    group.add_argument("--patient", type=patient, metavar="ID[^^^ISSUER]", help="a patient")
    group.add_argument("--study", type=uid, metavar="UID", help="a study")
    group.add_argument("--series", type=uid, metavar="UID", help="a series, of --study if given")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="keyword or gggg,eeee, and its value from now on (repeatable)",
    )
    group.add_argument("--remove", action="append", default=[], metavar="KEY", help="(repeatable)")
    add_correction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Correct; the exit code."""

    async def plan(corrections: Corrections) -> CorrectionPlan:
        changes: dict[int, str | None] = {}
        for text in arguments.set:
            name, mark, value = text.partition("=")
            if not mark:
                raise UsageError(f"--set {name}: expected KEY=VALUE")
            changes[_tag(name)] = value
        for name in arguments.remove:
            changes[_tag(name)] = None
        return await corrections.planner.correct(await _scope(arguments, corrections), changes)

    return run_correction(arguments, "isocenter correct", plan)


def _tag(name: str) -> int:
    sequences, tag = parse_attribute_path(name.strip())
    if sequences:
        raise UsageError(f"{name}: what is in a sequence cannot be corrected")
    return tag


async def _scope(arguments: argparse.Namespace, corrections: Corrections) -> Scope:
    if arguments.patient is not None:
        if arguments.study or arguments.series:
            raise UsageError("give --patient, or --study or --series")
        return Scope(patient=arguments.patient)
    if arguments.series:
        study = arguments.study or await corrections.planner.study_of(arguments.series)
        return Scope(study_instance_uid=study, series_instance_uid=arguments.series)
    if arguments.study:
        return Scope(study_instance_uid=arguments.study)
    raise UsageError("what shall be corrected? Give --patient, --study or --series")
