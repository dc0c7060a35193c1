"""``isocenter retrieve``: studies of a remote node into the archive."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.job_request import (
    add_job_options,
    add_study_choice,
    study_keys,
    submit,
)
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.job import JobKind, JobPriority, JobRequest

DESCRIPTION: Final = """\
Retrieve studies from a remote node into the archive: by C-GET, else by C-MOVE to the server, else
by WADO-RS.  The node is asked for a list of all objects first, and each that does not arrive is
asked for again and named; what is here already is not."""
EXAMPLES: Final = """\
examples:
  isocenter retrieve PACS --study 1.2.840.113619.2.55.3
  isocenter retrieve PACS --study 1.2.3 --study 1.2.4 --wait
  isocenter retrieve PACS -k PatientID=4711 -k StudyDate=20260101- --wait
  isocenter retrieve PACS --all

The job is written down before the command ends.  A server works it off; with --wait and without a
server the command does.

exit codes: 0 done, 1 something did not come, 2 arguments or settings, 130 stopped"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of retrieve."""
    parser.add_argument("node", metavar="NODE", help="as isocenter node list names it")
    which = add_study_choice(parser)
    which.add_argument(
        "--again", action="store_true", help="also what is here already: what differs is treated "
        "as storage.duplicates says",
    )  # fmt: skip
    add_job_options(parser)
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    arguments.action = "retrieve"
    return run_action(arguments, {"retrieve": _retrieve})


async def _retrieve(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    request = JobRequest(
        kind=JobKind.RETRIEVE,
        node=arguments.node,
        keys=study_keys(arguments),
        priority=JobPriority[arguments.priority.upper()],
        again=arguments.again,
    )
    try:
        request.check()
    except KeySyntaxError as error:
        raise UsageError(str(error)) from error
    return await submit(settings, request, arguments, terminal)
