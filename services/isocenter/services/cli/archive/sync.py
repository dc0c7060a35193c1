"""``isocenter sync``: conflicts between the archive and remote nodes."""

from __future__ import annotations

import argparse
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.composition.jobs import client_side
from isocenter.services.composition.tasks import sync_desk
from isocenter.services.composition.workflow import Workflow
from isocenter.services.notices import Caller, Notices, TasksChanged
from isocenter.services.security.audit.alert_messages import tasks_changed
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.synchronization.comparison import Resolution
from isocenter.services.workflow.synchronization.ports import Conflict

DESCRIPTION: Final = """\
Synchronisation with remote nodes is a task (isocenter task add NAME sync SCHEDULE -p node=NODE).
What it cannot decide is a conflict: a study that was deleted at one of both, or an object that is
not the same at both."""
EXAMPLES: Final = """\
examples:
  isocenter sync list
  isocenter sync resolve 17 --prefer remote

What is preferred: local: the node gets what is here; remote: here is what the node has, and what it
has no more is deleted here, into the trash; leave: it stays as it is.

exit codes: 0 done, 1 there is no such conflict, or something is against it, 2 arguments or
settings"""

_HEAD: Final = ("no.", "study", "node", "what", "here", "there", "found", "resolved")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of sync."""
    for name, action in add_actions(
        parser,
        (("list", "list conflicts, the latest first"), ("resolve", "say what is to be done")),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--all", action="store_true", help="also those that are resolved")
            action.add_argument("--json", action="store_true", help="for programs")
            add_limit(action)
            continue
        action.add_argument("conflicts", nargs="+", type=int, metavar="NUMBER")
        action.add_argument("--prefer", required=True, choices=("local", "remote", "leave"))


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "resolve": _resolve})


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with open_archive_parts(settings, lock=False, recover=False) as parts:
        found = await parts.stores.sync.conflicts(is_open=not arguments.all, limit=arguments.limit)
    print_rows(found, as_json=arguments.json, head=_HEAD, line=_line, members=_members)
    return EXIT_OK


async def _resolve(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    here = active_process_of(settings, "isocenter sync")
    by = Caller(association="", address=here.machine, user=f"{here.user}@{here.machine}")
    told: list[TasksChanged] = []
    notices = Notices()
    notices.subscribe(
        lambda notice: told.append(notice) if isinstance(notice, TasksChanged) else None,
        (TasksChanged,),
    )
    resolution = {
        "local": Resolution.LOCAL,
        "remote": Resolution.REMOTE,
        "leave": Resolution.LEAVE,
    }[arguments.prefer]
    code = EXIT_OK
    async with (
        client_side(settings) as side,
        open_archive_parts(settings, lock=False, recover=False) as parts,
    ):
        workflow = Workflow(
            jobs=JobDesk(parts.stores.jobs, lambda: None),
            find=side.find,
            open_node=side.open_node,
        )
        desk = sync_desk(settings, parts, workflow, notices)
        assert desk is not None
        for number in arguments.conflicts:
            conflict = await desk.get(number)
            if conflict is None or conflict.resolution is not None:
                terminal.error(f"there is no open conflict {number}; isocenter sync list")
                code = EXIT_FAILED
            elif await desk.resolve(conflict, resolution, by.user, by):
                print(f"conflict {number}: {resolution.value}")
            else:
                terminal.error(f"conflict {number}: the study is in use or held; try again")
                code = EXIT_FAILED
    messages = [tasks_changed(here, notice) for notice in told]
    if messages:
        try:
            await trio.to_thread.run_sync(record_now, settings, here, messages)
        except (OSError, IsocenterError) as error:
            terminal.error(f"it stands, and the audit trail cannot be written: {error}")
    return code


def _line(conflict: Conflict) -> tuple[str, ...]:
    texts = (
        str(conflict.number), conflict.study_instance_uid, conflict.node, conflict.kind.value,
        str(conflict.here), str(conflict.there), local_time(conflict.found_at),
        "" if conflict.resolution is None else conflict.resolution.value,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _members(conflict: Conflict) -> dict[str, object]:
    return {
        "number": conflict.number,
        "task": conflict.task,
        "node": conflict.node,
        "study_instance_uid": conflict.study_instance_uid,
        "kind": conflict.kind.value,
        "here": conflict.here,
        "there": conflict.there,
        "found": local_time(conflict.found_at),
        "resolution": "" if conflict.resolution is None else conflict.resolution.value,
        "resolved_by": conflict.resolved_by,
    }
