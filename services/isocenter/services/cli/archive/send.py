"""``isocenter send``: studies of the archive to a remote node."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.job_request import add_job_options, submit
from isocenter.services.cli.support.options import add_archive_options, add_output_options, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.job import JobKind, JobPriority, JobRequest

DESCRIPTION: Final = """\
Send studies of the archive to a remote node, by C-STORE or STOW-RS."""
EXAMPLES: Final = """\
examples:
  isocenter send 1.2.840.113619.2.55.3 PACS
  isocenter send 1.2.3 1.2.4 PACS --wait

The job is written down before the command ends.  A server works it off; with --wait and without a
server the command does.

exit codes: 0 done, 1 something was not sent, 2 arguments or settings, 130 stopped"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of send."""
    parser.add_argument("studies", nargs="+", type=uid, metavar="STUDY", help="its UID")
    parser.add_argument("node", metavar="NODE", help="as isocenter node list names it")
    add_job_options(parser)
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    arguments.action = "send"
    return run_action(arguments, {"send": _send})


async def _send(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    request = JobRequest(
        kind=JobKind.SEND,
        node=arguments.node,
        keys=(("StudyInstanceUID", "\\".join(arguments.studies)),),
        priority=JobPriority[arguments.priority.upper()],
    )
    return await submit(settings, request, arguments, terminal)
