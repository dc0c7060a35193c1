"""Commands that ask for a job, and may wait for it."""

from __future__ import annotations

import argparse
import getpass
from dataclasses import replace
from pathlib import Path

import trio

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.job_output import SHORT_ID, follow
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.jobs import client_side
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.jobs.job import JobPriority, JobRequest


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """How urgent it is, and whether the command waits."""
    group = parser.add_argument_group("job")
    group.add_argument(
        "--priority",
        choices=[one.name.lower() for one in JobPriority],
        default="normal",
        help="default: %(default)s",
    )
    group.add_argument("--wait", action="store_true", help="until it is done, with progress")


async def submit(
    settings: Settings, request: JobRequest, arguments: argparse.Namespace, terminal: Terminal
) -> int:
    """Write a job down, and wait for it if that is wanted; the exit code."""
    request = replace(request, requested_by=_user())
    async with client_side(settings, runs_jobs=arguments.wait) as side:
        if await side.find(request.node) is None:
            terminal.error(
                f"there is no node {request.node!r}; isocenter node list names those that there "
                "are, isocenter node add adds one"
            )
            return EXIT_FAILED
        queue = side.stores.jobs
        job_id, is_new = await queue.submit(request)
        if not is_new:
            terminal.note("a job that is not over yet wants the same")
        if not arguments.wait:
            print(f"job {job_id[:SHORT_ID]}")
            if pid_of_server(Path(settings.storage.data_dir)) is None:
                terminal.note("no server runs: it begins with the next start, or with --wait")
            return EXIT_OK
        if side.runner is None:
            return await follow(queue, job_id, terminal)
        code = EXIT_FAILED
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side.runner.run_one, job_id)
            code = await follow(queue, job_id, terminal)
            nursery.cancel_scope.cancel()
        return code


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""  # a user ID without a name
