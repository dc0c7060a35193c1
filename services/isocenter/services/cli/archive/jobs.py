"""``isocenter jobs``: jobs of retrieving and sending, listed and steered."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

import orjson

from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import Act, run_action
from isocenter.services.cli.support.job_output import HEAD, follow, line, members
from isocenter.services.cli.support.job_request import (
    add_job_options,
    add_study_choice,
    study_keys,
    submit,
)
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.match_output import prepare_stdout, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.pixels.transfer_syntaxes import LOSSLESS_TARGETS
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobKind,
    JobPriority,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import JobQueue, Wish

DESCRIPTION: Final = """\
Jobs that isocenter retrieve and isocenter send have asked for, and one for each destination of
rules.  What a crash interrupts goes on where it stood."""
EXAMPLES: Final = """\
examples:
  isocenter jobs verify --study 1.2.840.113619.2.55.3 --wait
  isocenter jobs export -k PatientID=4711
  isocenter jobs import /srv/incoming/cd17 --wait
  isocenter jobs compress --to jpeg-ls -k StudyDate=-20240101
  isocenter jobs query PACS -k PatientID=4711 --wait
  isocenter jobs results 4f1c02ab
  isocenter jobs list
  isocenter jobs list --state failed --json
  isocenter jobs show 4f1c02ab
  isocenter jobs follow 4f1c02ab
  isocenter jobs pause 4f1c02ab
  isocenter jobs resume 4f1c02ab
  isocenter jobs cancel 4f1c02ab
  isocenter jobs retry 4f1c02ab

A job is named by its ID or the beginning of it.  retry begins what failed, was cancelled or waits
for its next attempt at once; what has arrived stays.  delete forgets one that is over.

exit codes: 0 done, 1 there is no such job or it is in no state for that (follow: it failed),
2 arguments or settings"""

_RESULT: Final = (
    "study_instance_uid", "study_date", "modalities", "instances", "patient_id", "patient_name",
    "study_description", "accession_number",
)  # fmt: skip
_MOST_ITEMS: Final = 100_000
_WISHES: Final = {
    "pause": (Wish.PAUSE, "is to pause"),
    "resume": (Wish.RESUME, "goes on"),
    "cancel": (Wish.CANCEL, "is to end"),
    "retry": (Wish.RETRY, "is tried again"),
    "delete": (Wish.DELETE, "is forgotten"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of jobs."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list jobs, the latest first"),
            ("verify", "have objects compared with their digests"),
            ("export", "have studies written to a folder of the server (jobs.export_folder)"),
            ("import", "have files of a folder, DICOMDIR or ZIP taken in (jobs.import_folders)"),
            ("compress", "have objects kept in a smaller lossless transfer syntax"),
            ("query", "have a node asked which studies it has"),
            ("results", "show what a query has found"),
            ("show", "show a job, and its objects that failed"),
            ("follow", "show the progress of a job until it is over"),
            ("pause", "stop jobs until they are resumed"),
            ("resume", "let paused jobs go on"),
            ("cancel", "end jobs"),
            ("retry", "have jobs tried again at once"),
            ("delete", "forget jobs that are over"),
        ),
    ):
        add_archive_options(action)
        match name:
            case "list":
                action.add_argument("--json", action="store_true", help="for programs")
                action.add_argument(
                    "--state",
                    action="append",
                    default=[],
                    choices=[state.value for state in JobState],
                    help="only in this state (repeatable)",
                )
                action.add_argument("--node", default="", metavar="NAME", help="only of this node")
                add_limit(action)
            case "verify" | "export" | "compress" | "query":
                if name == "compress":
                    action.add_argument(
                        "--to", required=True, choices=LOSSLESS_TARGETS, help="transfer syntax"
                    )
                elif name == "query":
                    action.add_argument(
                        "node", metavar="NODE", help="as isocenter node list has it"
                    )
                add_study_choice(action)
                add_job_options(action)
            case "import":
                action.add_argument("path", metavar="PATH", help="on the server's machine")
                add_job_options(action)
            case "show" | "results":
                action.add_argument("job", metavar="JOB")
                action.add_argument("--json", action="store_true", help="for programs")
            case "follow":
                action.add_argument("job", metavar="JOB")
            case _:
                action.add_argument("jobs", nargs="+", metavar="JOB")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    actions: dict[str, Act] = {"list": _list, "show": _show, "follow": _follow}
    actions |= dict.fromkeys(("verify", "export", "import", "compress", "query"), _submit)
    actions |= {"results": _results}
    return run_action(arguments, actions | dict.fromkeys(_WISHES, _steer))


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        jobs = await stores.jobs.jobs(
            states=[JobState(text) for text in arguments.state],
            node=arguments.node,
            limit=arguments.limit,
        )
    print_rows(jobs, as_json=arguments.json, head=HEAD, line=line, members=members)
    return EXIT_OK


async def _submit(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    request = JobRequest(
        kind=JobKind(arguments.action),
        node=getattr(arguments, "node", ""),
        keys=() if arguments.action == "import" else study_keys(arguments),
        priority=JobPriority[arguments.priority.upper()],
        detail=_detail(arguments),
    )
    is_served = pid_of_server(Path(settings.storage.data_dir)) is not None
    if request.kind is JobKind.COMPRESS and arguments.wait and not is_served:
        raise UsageError("it is the server that compresses: start it, or leave out --wait")
    try:
        request.check()
    except KeySyntaxError as error:
        raise UsageError(str(error)) from error
    return await submit(settings, request, arguments, terminal)


def _detail(arguments: argparse.Namespace) -> str:
    detail = ""
    if arguments.action == "import":
        detail = os.path.abspath(arguments.path)
    elif arguments.action == "compress":
        detail = arguments.to
    return detail


async def _results(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        job = await _found(stores.jobs, arguments.job, terminal)
        if job is None:
            return EXIT_FAILED
        found = await stores.jobs.results(job.job_id, _MOST_ITEMS)
    if job.request.kind is not JobKind.QUERY:
        terminal.error("it is no query: only those have results")
        return EXIT_FAILED
    print_rows(
        found,
        as_json=arguments.json,
        head=tuple(name.replace("_", " ") for name in _RESULT),
        line=lambda study: tuple(shown(study.get(name, "")) for name in _RESULT),
        members=dict,
    )
    return EXIT_OK


async def _show(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        job = await _found(stores.jobs, arguments.job, terminal)
        if job is None:
            return EXIT_FAILED
        failed = await stores.jobs.items(job.job_id, (ItemState.FAILED,), _MOST_ITEMS)
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        items = [
            {
                "study_instance_uid": item.study_instance_uid,
                "series_instance_uid": item.series_instance_uid,
                "sop_instance_uid": item.sop_instance_uid,
                "fault": item.fault,
            }
            for item in failed
        ]
        out.write(orjson.dumps(members(job) | {"failed_objects": items}).decode() + "\n")
        return EXIT_OK
    for name, value in members(job).items():
        if value not in ("", None, {}):
            out.write(f"{name.replace('_', ' ')}: {shown(str(value))}\n")
    for item in failed:
        out.write(f"failed: {item.sop_instance_uid}: {shown(item.fault)}\n")
    return EXIT_OK


async def _follow(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        job = await _found(stores.jobs, arguments.job, terminal)
        if job is None:
            return EXIT_FAILED
        return await follow(stores.jobs, job.job_id, terminal)


async def _steer(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    wish, done = _WISHES[arguments.action]
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        for name in arguments.jobs:
            job = await _found(stores.jobs, name, terminal)
            if job is None:
                code = EXIT_FAILED
            elif await stores.jobs.wish(job.job_id, wish):
                print(f"job {name} {done}")
            else:
                terminal.error(f"job {name}: {job.why_not(wish.value)}")
                code = EXIT_FAILED
    return code


async def _found(queue: JobQueue, name: str, terminal: Terminal) -> Job | None:
    job = await queue.get(name)
    if job is None:
        terminal.error(
            f"no job has the ID {name!r}, or several begin so; isocenter jobs list names them"
        )
    return job
