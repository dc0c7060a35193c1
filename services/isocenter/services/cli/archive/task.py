"""``isocenter task``: what the archive does by itself, and when."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import Act, run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.composition.tasks import task_desk
from isocenter.services.notices import Caller, Notices, TasksChanged
from isocenter.services.security.audit.alert_messages import tasks_changed
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.tasks.desk import TaskDesk
from isocenter.services.workflow.tasks.schedule import FORMS, ScheduleError
from isocenter.services.workflow.tasks.task import (
    TASK_KINDS,
    RunCause,
    RunOutcome,
    Task,
    TaskError,
    TaskRun,
    new_task,
)
from isocenter.services.workflow.tasks.works import PARAMETERS

DESCRIPTION: Final = """\
Tasks: what the archive does by itself at times that somebody has set.  The server runs them, each
once, however many processes it has."""
EXAMPLES: Final = f"""\
examples:
  isocenter task add nightly verification "daily 04:00" --zone Europe/Berlin
  isocenter task add old-us cleanup "weekly sun 02:00" -p study_days=3650 -p modalities=US
  isocenter task add report program "cron 30 6 * * mon-fri" -p program=report --timeout 600
  isocenter task list
  isocenter task run old-us --dry-run --wait
  isocenter task runs old-us
  isocenter task change nightly --schedule "daily 05:00"
  isocenter task cancel report

A schedule is {FORMS}.
Where the clock is set forward, what would be in the hour that is left out is done right after it;
where it is set back, it is done once.  What is missed while no server runs is done once when one
does.

exit codes: 0 done, 1 there is no such task or it cannot be changed so, 2 arguments or settings"""

_HEAD: Final = ("name", "kind", "schedule", "zone", "next", "state")
_BY_HAND: Final = (RunCause.HAND, RunCause.DRY_RUN)
_MOST_RUNS: Final = 20
_LOOK_SECONDS: Final = 0.2
_RUN_HEAD: Final = ("task", "started", "ended", "because of", "outcome", "report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of task."""
    for name, action in add_actions(
        parser,
        (
            ("add", "add a task"),
            ("change", "change what is said of a task; the rest stays"),
            ("list", "list tasks, and when each runs next"),
            ("show", "show a task, and its last runs"),
            ("runs", "list runs, the latest first"),
            ("run", "have tasks run now"),
            ("cancel", "end what tasks do right now"),
            ("pause", "have tasks run only when somebody asks"),
            ("resume", "have tasks run by their schedules again"),
            ("remove", "forget tasks and their runs"),
        ),
    ):
        add_archive_options(action)
        match name:
            case "add":
                _add_described(action, is_new=True)
            case "change":
                _add_described(action, is_new=False)
            case "list":
                action.add_argument("--json", action="store_true", help="for programs")
            case "show":
                action.add_argument("name", metavar="NAME")
                action.add_argument("--json", action="store_true", help="for programs")
            case "runs":
                action.add_argument("name", nargs="?", default="", metavar="NAME")
                action.add_argument("--json", action="store_true", help="for programs")
                add_limit(action)
            case _:
                action.add_argument("names", nargs="+", metavar="NAME")
        if name == "run":
            action.add_argument(
                "--dry-run", action="store_true", help="only say what they would do"
            )
            action.add_argument(
                "--wait", action="store_true", help="until the server has done it; say what came"
            )


def _add_described(action: argparse.ArgumentParser, *, is_new: bool) -> None:
    action.add_argument("name", metavar="NAME", help="letters, digits, '.', '_' and '-'")
    kinds = [kind.value for kind in TASK_KINDS]
    if is_new:
        action.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
        action.add_argument("schedule", metavar="SCHEDULE", help=FORMS)
    else:
        action.add_argument("--schedule", metavar="SCHEDULE", help=FORMS)
    action.add_argument(
        "--zone", metavar="ZONE", help="time zone of the schedule (default: schedules.time_zone)"
    )
    parameters = "; ".join(
        f"{kind.value}: {', '.join(names)}" for kind, names in PARAMETERS.items() if names
    )
    action.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"what it needs to know (repeatable): {parameters}",
    )
    action.add_argument("--description", metavar="TEXT", help="for people")
    action.add_argument(
        "--timeout", type=float, metavar="S", help="cancel a run after so many seconds"
    )
    action.add_argument(
        "--retries", type=int, metavar="N", help="try a run that failed so often again"
    )
    action.add_argument(
        "--retry-after", type=float, metavar="S", help="seconds to the next attempt (60)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    actions: dict[str, Act] = {"list": _list, "show": _show, "runs": _runs}
    changes = ("add", "change", "run", "cancel", "pause", "resume", "remove")
    return run_action(arguments, actions | dict.fromkeys(changes, _change))


async def _list(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        tasks = await stores.tasks.all()
    print_rows(tasks, as_json=arguments.json, head=_HEAD, line=_line, members=_members)
    if not tasks and not arguments.json:
        terminal.note('there is none yet; isocenter task add nightly verification "daily 04:00"')
    return EXIT_OK


async def _show(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        task = await stores.tasks.get(arguments.name)
        if task is None:
            terminal.error(_unknown(arguments.name))
            return EXIT_FAILED
        runs = await stores.tasks.runs(task.name, limit=10)
    out = prepare_stdout("json" if arguments.json else "table")
    if arguments.json:
        members = _members(task) | {"runs": [_run_members(each) for each in runs]}
        out.write(orjson.dumps(members).decode() + "\n")
        return EXIT_OK
    for name, value in _members(task).items():
        if value not in ("", None, {}):
            out.write(f"{name.replace('_', ' ')}: {shown(str(value))}\n")
    for each in runs:
        out.write(f"{local_time(each.started_at)}: {each.outcome.value}: {shown(each.report)}\n")
    return EXIT_OK


async def _runs(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        runs = await stores.tasks.runs(arguments.name, limit=arguments.limit)
    print_rows(runs, as_json=arguments.json, head=_RUN_HEAD, line=_run_line, members=_run_members)
    return EXIT_OK


async def _change(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    here = active_process_of(settings, "isocenter task")
    by = Caller(association="", address=here.machine, user=f"{here.user}@{here.machine}")
    told: list[TasksChanged] = []
    notices = Notices()
    notices.subscribe(
        lambda notice: told.append(notice) if isinstance(notice, TasksChanged) else None,
        (TasksChanged,),
    )
    try:
        async with composition.open_stores(settings) as stores:
            desk = task_desk(settings, stores, notices)
            if arguments.action == "add":
                await desk.add(_new(arguments, desk), by)
                print(f"task {arguments.name} was added")
                return EXIT_OK
            if arguments.action == "change":
                return await _exchange(desk, arguments, by, terminal)
            code = await _steer(desk, arguments, by, terminal)
            if arguments.action == "run" and arguments.wait and code == EXIT_OK:
                folder = Path(settings.storage.data_dir)
                return await _wait(desk, arguments.names, folder, terminal)
            return code
    except (ScheduleError, TaskError) as error:
        if arguments.action in ("add", "change"):
            raise UsageError(str(error)) from error
        terminal.error(str(error))
        return EXIT_FAILED
    finally:
        messages = [tasks_changed(here, notice) for notice in told]
        if messages:
            try:
                await trio.to_thread.run_sync(record_now, settings, here, messages)
            except (OSError, IsocenterError) as error:
                terminal.error(f"the change stands, and the audit trail cannot be written: {error}")


def _new(arguments: argparse.Namespace, desk: TaskDesk) -> Task:
    return new_task(
        arguments.name,
        arguments.kind,
        arguments.schedule,
        zone=arguments.zone or desk.zone,
        description=arguments.description or "",
        parameters=_parameters(arguments.parameter),
        timeout=arguments.timeout or 0.0,
        retries=arguments.retries or 0,
        retry_seconds=60.0 if arguments.retry_after is None else arguments.retry_after,
    )


async def _exchange(
    desk: TaskDesk, arguments: argparse.Namespace, by: Caller, terminal: Terminal
) -> int:
    known = await desk.get(arguments.name)
    if known is None:
        terminal.error(_unknown(arguments.name))
        return EXIT_FAILED

    def chosen(said: object, otherwise: object) -> object:
        return otherwise if said is None else said

    described = new_task(
        known.name,
        known.kind.value,
        arguments.schedule or known.schedule.text,
        zone=arguments.zone or known.schedule.zone,
        description=str(chosen(arguments.description, known.description)),
        parameters=dict(known.parameters) | _parameters(arguments.parameter),
        timeout=known.timeout if arguments.timeout is None else arguments.timeout,
        retries=known.retries if arguments.retries is None else arguments.retries,
        retry_seconds=(
            known.retry_seconds if arguments.retry_after is None else arguments.retry_after
        ),
    )
    await desk.exchange(replace(described, version=known.version, is_enabled=known.is_enabled), by)
    print(f"task {known.name} was changed")
    return EXIT_OK


def _parameters(said: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in said:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"a parameter is NAME=VALUE, and {text!r} is none")
        found[name] = value
    return found


async def _steer(
    desk: TaskDesk, arguments: argparse.Namespace, by: Caller, terminal: Terminal
) -> int:
    code = EXIT_OK
    for name in arguments.names:
        task = await desk.get(name)
        if task is None:
            terminal.error(_unknown(name))
            code = EXIT_FAILED
            continue
        match arguments.action:
            case "run":
                is_done = await desk.ask(task, by, is_dry=arguments.dry_run)
                done, why = f"runs now; isocenter task runs {name}", "is asked for already"
            case "cancel":
                is_done = await desk.cancel(task, by)
                done, why = "is to end", "does nothing right now"
            case "remove":
                await desk.remove(task, by)
                is_done, done, why = True, "is forgotten", ""
            case action:
                await desk.switch(task, by, is_enabled=action == "resume")
                is_done, why = True, ""
                done = "runs by its schedule" if action == "resume" else "is paused"
        if is_done:
            print(f"task {name} {done}")
        else:
            terminal.error(f"task {name} {why}")
            code = EXIT_FAILED
    return code


async def _wait(desk: TaskDesk, names: Sequence[str], folder: Path, terminal: Terminal) -> int:
    """Until what was asked for is over; the exit code."""
    code = EXIT_OK
    for name in names:
        while True:
            if pid_of_server(folder) is None:
                terminal.error("no server runs: the task runs when one does")
                return EXIT_FAILED
            runs = [run for run in await desk.runs(name, limit=_MOST_RUNS) if run.cause in _BY_HAND]
            task = await desk.get(name)
            is_over = task is not None and not task.is_asked and not task.is_running
            if runs and is_over and runs[0].outcome is not RunOutcome.RUNNING:
                break
            await trio.sleep(_LOOK_SECONDS)
        (run, *_) = runs
        print(f"{name}: {run.outcome.value}: {_report(run)}")
        if run.outcome is not RunOutcome.COMPLETED:
            code = EXIT_FAILED
    return code


def _unknown(name: str) -> str:
    return f"there is no task {name!r}; isocenter task list names those that there are"


def _state(task: Task) -> str:
    if task.is_running:
        return "running"
    if task.obstacle and task.is_enabled:
        return f"not on this machine: {task.obstacle}"
    return "waiting" if task.is_enabled else "paused"


def _line(task: Task) -> tuple[str, ...]:
    next_at = local_time(task.next_at) if task.is_enabled else ""
    texts = (
        task.name, task.kind.value, task.schedule.text, task.schedule.zone, next_at, _state(task),
    )  # fmt: skip
    return tuple(map(shown, texts))


def _members(task: Task) -> dict[str, object]:
    return {
        "name": task.name,
        "kind": task.kind.value,
        "description": task.description,
        "schedule": task.schedule.text,
        "zone": task.schedule.zone,
        "parameters": dict(task.parameters),
        "state": _state(task),
        "next": local_time(task.next_at) if task.is_enabled else "",
        "obstacle": task.obstacle,
        "timeout": task.timeout,
        "retries": task.retries,
        "retry_after": task.retry_seconds,
    }


def _report(run: TaskRun) -> str:
    return f"{run.report}: {run.said}" if run.said else run.report


def _run_line(run: TaskRun) -> tuple[str, ...]:
    texts = (
        run.task, local_time(run.started_at), local_time(run.ended_at), run.cause.value,
        run.outcome.value, _report(run),
    )  # fmt: skip
    return tuple(map(shown, texts))


def _run_members(run: TaskRun) -> dict[str, object]:
    return {
        "task": run.task,
        "started": local_time(run.started_at),
        "ended": local_time(run.ended_at),
        "because_of": run.cause.value,
        "attempt": run.attempt,
        "outcome": run.outcome.value,
        "report": run.report,
        "said": run.said,
    }
