"""``isocenter publish``: manifests of studies in repositories of documents."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.job_output import SHORT_ID, follow
from isocenter.services.cli.support.job_request import user_name
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
    uid,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.jobs import ClientSide, client_side
from isocenter.services.composition.sharing import publishing_desk_of
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.integration.sharing.manifest import ManifestError
from isocenter.services.integration.sharing.publishing import PublishingDesk
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.jobs.desk import JobDesk

DESCRIPTION: Final = """\
Publish manifests of studies to a repository of documents, or withdraw them there."""
EXAMPLES: Final = """\
examples:
  isocenter publish 1.2.840.113619.2.55.3 --to regional --wait
  isocenter publish 1.2.840.113619.2.55.3 --to regional --withdraw
  isocenter publish 1.2.840.113619.2.55.3 --list

The repositories stand in the settings, [[sharing.repositories]].  The job is written down before
the command ends.  A server works it off; with --wait and without a server the command does.

exit codes: 0 done, 1 something was not published (list: there is no such study), 2 arguments or
settings, 130 stopped"""
_HEAD: Final = ("study", "repository", "state", "instances", "published", "document", "fault")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of publish."""
    parser.add_argument("studies", nargs="+", type=uid, metavar="STUDY", help="its UID")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", metavar="NAME", help="the repository, as the settings name it")
    what.add_argument("--list", action="store_true", help="what was published of the studies")
    parser.add_argument(
        "--withdraw", action="store_true", help="deprecate the manifests that are there"
    )
    parser.add_argument("--json", action="store_true", help="what is listed as JSON")
    parser.add_argument("--wait", action="store_true", help="until it is done")
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    arguments.action = "list" if arguments.list else "publish"
    return run_action(arguments, {"publish": _publish, "list": _list})


@asynccontextmanager
async def _desk(
    settings: Settings, *, runs_jobs: bool
) -> AsyncIterator[tuple[ClientSide, PublishingDesk]]:
    async with client_side(settings, runs_jobs=runs_jobs) as side:
        jobs = JobDesk(side.stores.jobs, lambda: None)
        desk = publishing_desk_of(settings, side.stores.index, side.stores, jobs)
        if desk is None:
            raise UsageError("the settings have no [[sharing.repositories]]")
        yield side, desk


async def _publish(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with _desk(settings, runs_jobs=arguments.wait) as (side, desk):
        if arguments.to not in desk.repositories:
            names = ", ".join(desk.repositories)
            raise UsageError(f"there is no repository {arguments.to!r}; there are {names}")
        codes = [EXIT_OK]
        for study in arguments.studies:
            try:
                job_id, is_new = await desk.ask(
                    arguments.to,
                    study,
                    is_wanted=not arguments.withdraw,
                    requested_by=user_name(),
                )
            except ManifestError as error:
                terminal.error(f"{study}: {error}")
                codes.append(EXIT_FAILED)
                continue
            if not is_new:
                terminal.note("a job that is not over yet wants the same")
            if not arguments.wait:
                print(f"job {job_id[:SHORT_ID]}")
            else:
                codes.append(await waited(side, job_id, terminal))
        if not arguments.wait and pid_of_server(Path(settings.storage.data_dir)) is None:
            terminal.note("no server runs: it begins with the next start, or with --wait")
        return max(codes)


async def waited(side: ClientSide, job_id: str, terminal: Terminal) -> int:
    """Follow a job, and work it off where no server does; the exit code."""
    if side.runner is None:
        return await follow(side.stores.jobs, job_id, terminal)
    code = EXIT_FAILED
    async with open_plain_nursery() as nursery:
        nursery.start_soon(side.runner.run_one, job_id)
        code = await follow(side.stores.jobs, job_id, terminal)
        nursery.cancel_scope.cancel()
    return code


async def _list(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.withdraw or arguments.wait:
        raise UsageError("--list goes alone")
    code = EXIT_OK
    async with _desk(settings, runs_jobs=False) as (_, desk):
        for study in arguments.studies:
            if not await desk.knows(study):
                terminal.error(f"{study}: the archive has no such study, and never published it")
                code = EXIT_FAILED
        rows = [
            (
                study,
                one.repository,
                one.state,
                str(one.instances or ""),
                local_time(one.published_at),
                one.document_uid,
                one.fault,
            )
            for study in arguments.studies
            if await desk.knows(study)
            for one in await desk.of_study(study)
        ]
    print_rows(
        rows,
        as_json=arguments.json,
        head=_HEAD,
        line=lambda row: tuple(map(shown, row)),
        members=lambda row: dict(zip(_HEAD, row, strict=True)),
    )
    return code
