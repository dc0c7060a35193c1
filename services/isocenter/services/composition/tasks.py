"""Composition of tasks with schedules."""

from __future__ import annotations

from datetime import date

from isocenter.services.composition.archive import ArchiveParts, fullness_of, trash_of
from isocenter.services.composition.workflow import Workflow
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.synchronization.desk import SyncDesk
from isocenter.services.workflow.synchronization.synchronizer import Synchronizer
from isocenter.services.workflow.tasks.desk import TaskDesk
from isocenter.services.workflow.tasks.runner import TaskOptions, TaskRunner
from isocenter.services.workflow.tasks.task import Task
from isocenter.services.workflow.tasks.works import TaskWorks, check_parameters
from isocenter.storage.stores import Stores


def task_runner(settings: Settings, parts: ArchiveParts, workflow: Workflow) -> TaskRunner:
    """Runs tasks, as the settings say."""
    schedules = settings.schedules
    synchronizer = synchronizer_of(settings, parts, workflow)
    works = TaskWorks(
        parts.archive,
        parts.stores.retention,
        trash_of(settings, parts, "isocenter serve"),
        fullness_of(settings, parts).excess,
        schedules.argv_of,
        None if workflow.prefetcher is None else workflow.prefetcher.look,
        None if synchronizer is None else synchronizer.run,
    )
    options = TaskOptions(at_once=schedules.at_once, keep_seconds=schedules.keep_days * 86_400.0)
    return TaskRunner(parts.stores.tasks, works.by_kind(), options, now=parts.stores.clock)


def task_desk(settings: Settings, stores: Stores, notices: Notices) -> TaskDesk:
    """Takes tasks and shows them."""
    schedules = settings.schedules
    programs = [text.partition("=")[0] for text in schedules.programs]

    def check(task: Task) -> None:
        check_parameters(task, programs)

    return TaskDesk(stores.tasks, check, notices, zone=schedules.time_zone)


def synchronizer_of(
    settings: Settings, parts: ArchiveParts, workflow: Workflow
) -> Synchronizer | None:
    """Keeps nodes alike; None: there are none."""
    if workflow.jobs is None or workflow.find is None or workflow.open_node is None:
        return None
    return Synchronizer(
        parts.stores.sync,
        parts.archive.index,
        workflow.jobs,
        workflow.find,
        workflow.open_node,
        trash_of(settings, parts, "isocenter serve"),
        today=date.today,
        now=parts.stores.clock,
    )


def sync_desk(
    settings: Settings, parts: ArchiveParts, workflow: Workflow, notices: Notices
) -> SyncDesk | None:
    """Shows and resolves conflicts; None: there are no nodes."""
    synchronizer = synchronizer_of(settings, parts, workflow)
    if synchronizer is None or workflow.jobs is None:
        return None
    return SyncDesk(parts.stores.sync, workflow.jobs, synchronizer, notices, now=parts.stores.clock)
