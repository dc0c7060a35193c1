"""``isocenter shared``: studies that others have shared, listed and fetched."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.archive.publish import waited
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.job_output import SHORT_ID
from isocenter.services.cli.support.job_request import user_name
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
    uid,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.jobs import ClientSide, client_side
from isocenter.services.composition.sharing import shared_studies_of
from isocenter.services.integration.sharing.studies_of_others import StudiesOfOthers
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.desk import JobDesk

DESCRIPTION: Final = """\
List the manifests of a patient that others have shared, and fetch their studies."""
EXAMPLES: Final = """\
examples:
  isocenter shared regional PAT-1
  isocenter shared regional PAT-1 --fetch 2.25.4711 --wait

A study is fetched from a node of this archive (isocenter node list): the one whose address, or AE
title, the manifest names.  Where there is none, from the imaging document source that the settings
have for the repository (imaging).  The job is written down before the command ends.

exit codes: 0 done, 1 it could not be, 2 arguments or settings, 130 stopped"""
_HEAD: Final = ("document", "study", "title", "created")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of shared."""
    parser.add_argument("repository", metavar="REPOSITORY", help="as the settings name it")
    parser.add_argument("patient", metavar="PATIENT", help="Patient ID of this archive")
    parser.add_argument("--issuer", default="", help="Issuer of Patient ID")
    parser.add_argument(
        "--fetch", type=uid, metavar="DOCUMENT", help="retrieve the study of this manifest"
    )
    parser.add_argument("--wait", action="store_true", help="until it is here, with progress")
    parser.add_argument("--json", action="store_true", help="what is listed as JSON")
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    arguments.action = "fetch" if arguments.fetch else "list"
    return run_action(arguments, {"list": _list, "fetch": _fetch})


@asynccontextmanager
async def _shared(
    settings: Settings, arguments: argparse.Namespace
) -> AsyncIterator[tuple[ClientSide, StudiesOfOthers]]:
    async with client_side(settings, runs_jobs=arguments.wait) as side:
        jobs = JobDesk(side.stores.jobs, lambda: None)
        found = shared_studies_of(settings, side.stores, jobs)
        if arguments.repository not in found.repositories:
            names = ", ".join(found.repositories) or "none"
            raise UsageError(f"there is no repository {arguments.repository!r}; there are {names}")
        yield side, found


async def _list(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with _shared(settings, arguments) as (_, found):
        documents = await found.find(arguments.repository, arguments.patient, arguments.issuer)
    print_rows(
        [(one.uid, one.study_instance_uid, one.title, one.created) for one in documents],
        as_json=arguments.json,
        head=_HEAD,
        line=lambda row: tuple(map(shown, row)),
        members=lambda row: dict(zip(_HEAD, row, strict=True)),
    )
    return EXIT_OK


async def _fetch(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with _shared(settings, arguments) as (side, found):
        documents = await found.find(arguments.repository, arguments.patient, arguments.issuer)
        document = next((one for one in documents if one.uid == arguments.fetch), None)
        if document is None:
            terminal.error("the repository has no such manifest of this patient")
            return EXIT_FAILED
        job_id, is_new, manifest = await found.fetch(
            arguments.repository, document, requested_by=user_name()
        )
        if not is_new:
            terminal.note("a job that is not over yet wants the same")
        print(f"job {job_id[:SHORT_ID]}: {manifest.instance_count} instances")
        return await waited(side, job_id, terminal) if arguments.wait else EXIT_OK
