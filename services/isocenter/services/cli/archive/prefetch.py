"""``isocenter prefetch``: earlier studies of a patient, from remote nodes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.job_output import SHORT_ID
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.jobs import client_side, prefetcher_of
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.prefetch.priors import ScheduledPatient

DESCRIPTION: Final = """\
Have earlier studies of a patient retrieved from the nodes of the settings (prefetch.nodes), as the
server does by itself for patients on the worklist."""
EXAMPLES: Final = """\
examples:
  isocenter prefetch 4711
  isocenter prefetch 4711 --modality CT --description "CT chest"

Studies of the same modality come first, then those of the same region of the body, then the newest.
What is here already is not asked for.

exit codes: 0 done, 1 a node did not answer, 2 arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of prefetch."""
    parser.add_argument("patient", metavar="PATIENT-ID")
    parser.add_argument("--modality", default="", metavar="M", help="for which it is wanted")
    parser.add_argument("--description", default="", metavar="TEXT", help="of what is planned")
    add_archive_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    arguments.action = "prefetch"
    return run_action(arguments, {"prefetch": _prefetch})


async def _prefetch(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    if not settings.prefetch.nodes:
        raise UsageError("prefetch.nodes of the settings names no node to be asked")
    patient = ScheduledPatient(
        patient_id=arguments.patient,
        modality=arguments.modality.upper(),
        description=arguments.description,
    )
    async with (
        client_side(settings) as side,
        open_archive_parts(settings, lock=False, recover=False) as parts,
    ):
        desk = JobDesk(parts.stores.jobs, lambda: None)
        prefetcher = prefetcher_of(
            settings, parts.archive.index, parts.stores, desk, side.find, side.open_node
        )
        jobs, is_complete = await prefetcher.prefetch(patient)
    for job_id in jobs:
        print(f"job {job_id[:SHORT_ID]}")
    if jobs and pid_of_server(Path(settings.storage.data_dir)) is None:
        terminal.note("no server runs: they begin with the next start")
    if not jobs:
        terminal.note("nothing more is wanted of it")
    return EXIT_OK if is_complete else EXIT_FAILED
