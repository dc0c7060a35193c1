"""Commands that ask for a job, and may wait for it."""

from __future__ import annotations

import argparse
import getpass
from dataclasses import replace
from pathlib import Path

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.job_output import SHORT_ID, follow
from isocenter.services.cli.support.options import UsageError, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.jobs import client_side
from isocenter.services.concurrency import open_plain_nursery
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


def add_study_choice(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which studies a job is about."""
    which = parser.add_argument_group("which studies")
    which.add_argument("--study", type=uid, action="append", default=[], metavar="UID")
    which.add_argument(
        "-k", "--key", action="append", default=[], metavar="KEY=VALUE",
        help="that the study has, as of findscu (repeatable)",
    )  # fmt: skip
    which.add_argument("--all", action="store_true", help="everything that there is")
    return which


def study_keys(arguments: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """The keys that `add_study_choice` was given.

    Raises:
        UsageError: there are none, and not all was said.
    """
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
    return tuple(keys)


async def submit(
    settings: Settings, request: JobRequest, arguments: argparse.Namespace, terminal: Terminal
) -> int:
    """Write a job down, and wait for it if that is wanted; the exit code."""
    request = replace(request, requested_by=user_name())
    async with client_side(settings, runs_jobs=arguments.wait) as side:
        if not request.kind.is_local and await side.find(request.node) is None:
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
        async with open_plain_nursery() as nursery:
            nursery.start_soon(side.runner.run_one, job_id)
            code = await follow(queue, job_id, terminal)
            nursery.cancel_scope.cancel()
        return code


def user_name() -> str:
    """Who gives the command; empty: nobody with a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""  # a user ID without a name
