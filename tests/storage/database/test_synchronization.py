"""What synchronisation remembers, in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.workflow.synchronization.comparison import (
    ConflictKind,
    KnownStudy,
    Resolution,
)
from isocenter.services.workflow.synchronization.ports import Conflict
from isocenter.services.workflow.tasks.task import new_task
from isocenter.storage.database.database import Database
from isocenter.storage.database.synchronization import DatabaseSync
from isocenter.storage.database.tasks import DatabaseTasks
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

KNOWN = KnownStudy(study_instance_uid="1.2", here=2, there=3)
CONFLICT = Conflict(
    number=0, task="t", node="Ä", study_instance_uid="1.2", kind=ConflictKind.MODIFIED, here=2,
    there=3, found_at=1_000.0,
)  # fmt: skip


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with open_database() as opened:
        yield opened


async def test_studies_are_remembered_by_their_task(database: Database) -> None:
    book = DatabaseSync(database)
    await book.note("t", [KNOWN, replace(KNOWN, study_instance_uid="1.3", was_alike=True)])
    await book.note("t", [replace(KNOWN, here=3, is_left=True)])
    await book.note("other", [KNOWN])
    assert await book.known("t") == {
        "1.2": replace(KNOWN, here=3, is_left=True),
        "1.3": replace(KNOWN, study_instance_uid="1.3", was_alike=True),
    }
    await book.forget("t", ["1.2", "1.9"])
    assert set(await book.known("t")) == {"1.3"}
    assert set(await book.known("other")) == {"1.2"}


async def test_a_conflict_is_one_until_it_is_resolved_or_gone(database: Database) -> None:
    book = DatabaseSync(database)
    assert await book.report(CONFLICT)
    assert not await book.report(replace(CONFLICT, here=9))
    assert await book.report(replace(CONFLICT, task="other"))
    (found,) = await book.conflicts(task="t", is_open=True, limit=9)
    assert replace(found, number=0) == CONFLICT
    assert await book.conflict(found.number) == found
    assert await book.resolve(found.number, Resolution.REMOTE, "al", 2_000.0)
    assert not await book.resolve(found.number, Resolution.LOCAL, "bob", 3_000.0)
    resolved = await book.conflict(found.number)
    assert resolved == replace(
        found, resolution=Resolution.REMOTE, resolved_by="al", resolved_at=2_000.0
    )
    assert await book.report(CONFLICT), "it came up again"
    await book.note("t", [replace(KNOWN, was_alike=True)])
    assert not await book.conflicts(task="t", is_open=True, limit=9)
    assert len(await book.conflicts(is_open=False, limit=9)) == 3
    assert await book.conflict(999) is None


async def test_what_a_task_remembers_goes_with_it(database: Database) -> None:
    book, tasks = DatabaseSync(database), DatabaseTasks(database)
    await tasks.add(new_task("t", "sync", "every 1d", zone="UTC"))
    await book.note("t", [KNOWN])
    await book.report(CONFLICT)
    await tasks.remove("t")
    assert await book.known("t") == {}
    assert not await book.conflicts(is_open=False, limit=9)


async def test_a_task_that_gets_another_node_forgets_what_was_alike_with_the_one_before(
    database: Database,
) -> None:
    book, tasks = DatabaseSync(database), DatabaseTasks(database)
    task = new_task("t", "sync", "every 1d", zone="UTC", parameters={"node": "A"})
    await tasks.add(task)
    await book.note("t", [replace(KNOWN, was_alike=True)])
    assert await tasks.update(replace(task, description="the same node"))
    assert set(await book.known("t")) == {"1.2"}
    other = replace(task, parameters={"node": "B", "deletes": "yes"}, version=1)
    assert not await tasks.update(other), "somebody was quicker"
    assert set(await book.known("t")) == {"1.2"}
    assert await tasks.update(replace(other, version=2))
    assert not await book.known("t")
