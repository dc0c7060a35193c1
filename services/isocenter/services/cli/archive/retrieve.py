"""``isocenter retrieve``: studies of a remote node into the archive."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.job_request import add_job_options, submit
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
    uid,
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
    which = parser.add_argument_group("which studies")
    which.add_argument("--study", type=uid, action="append", default=[], metavar="UID")
    which.add_argument(
        "-k", "--key", action="append", default=[], metavar="KEY=VALUE",
        help="that the study has, as of findscu (repeatable)",
    )  # fmt: skip
    which.add_argument("--all", action="store_true", help="everything that the node has")
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
    keys = []
    for text in arguments.key:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"-k {name}: a key is KEY=VALUE")
        keys.append((name, value))
    if arguments.study:
        keys.append(("StudyInstanceUID", "\\".join(arguments.study)))
    if bool(keys) == arguments.all:
        raise UsageError("name studies by --study or -k, or say --all")
    request = JobRequest(
        kind=JobKind.RETRIEVE,
        node=arguments.node,
        keys=tuple(keys),
        priority=JobPriority[arguments.priority.upper()],
        again=arguments.again,
    )
    try:
        request.check()
    except KeySyntaxError as error:
        raise UsageError(str(error)) from error
    return await submit(settings, request, arguments, terminal)
