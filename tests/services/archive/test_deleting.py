"""Deleting, restoring and purging: what stays, what goes, and what a crash at any step leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.ports import DeletionRefusedError, Obstacles, TrashChoice
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import (
    NotPermittedError,
    Requester,
    TrashChange,
    TrashChanged,
)
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.verification import verify
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.database.commitments import DatabaseCommitments
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from isocenter.storage.database.trash import DatabaseTrash
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from services.archive_support import (
    CT,
    STUDY,
    data_set,
    data_set_of,
    keys_of,
    opened,
    store,
    uid,
)
from storage.power_model import Crash, ModelFiles, failing

ADMIN = Requester(name="root@here")
OTHER_STUDY = "1.2.9"
KEEP_DAYS = 7
A_DAY = 86_400.0

WHOLE_STUDY = Query(level=Level.STUDY, criteria=(Criterion(0x0020000D, SingleValue(STUDY)),))


def instance(number: int) -> Query:
    return Query(level=Level.IMAGE, criteria=(Criterion(0x00080018, SingleValue(uid(number))),))


class Place:
    """An archive with a trash, and what was told of it."""

    def __init__(self, archive: Archive, database: SqliteDatabase, trash: Trash) -> None:
        self.archive = archive
        self.database = database
        self.trash = trash

    async def instances(self) -> set[str]:
        found = set()
        async with self.archive.index.instances() as blocks:
            async for block in blocks:
                found |= {stored.sop_instance_uid for stored in block}
        return found

    async def delete(self, query: Query = WHOLE_STUDY, **options: Any) -> str:
        done = await self.trash.delete(await self.trash.plan(query), ADMIN, "a test", **options)
        return done.deletion_id

    async def check(self) -> None:
        """Index and files agree, both ways, in the trash as well."""
        report = await verify(self.archive)
        assert report.is_good, report
        assert not report.orphans.count, report.orphans
        assert not (await self.trash.verify()).count
        assert not await self.trash.book.unfinished(1)


class Told:
    """What the audit trail would have; may be told to fail."""

    def __init__(self) -> None:
        self.happened: list[TrashChanged] = []
        self.error: Exception | None = None

    async def record(self, happened: Sequence[TrashChanged]) -> None:
        if self.error is not None:
            raise self.error
        self.happened += happened

    def summary(self) -> list[tuple[TrashChange, str, bool, int]]:
        return [
            (one.what, one.study.study_instance_uid, not one.study.remaining, one.study.instances)
            for one in self.happened
        ]


@asynccontextmanager
async def place(
    folder: Path,
    told: Told | None = None,
    *,
    files: ModelFiles | None = None,
    now: float = 1_000.0,
    keep_days: float = KEEP_DAYS,
    **options: Any,
) -> AsyncIterator[Place]:
    object_store = await open_file_store(folder, files=files)
    tokens = count(1)
    async with (
        open_sqlite_database(folder / "index.db") as database,
        opened(object_store, DatabaseIndex(database), **options) as archive,
    ):
        writer = EventHooks(CompletionRules(), now=lambda: now)
        trash = Trash(
            archive,
            DatabaseTrash(database, on_delete=[writer.deleted], now=lambda: now),
            TrashFolder(object_store),
            keep_days=keep_days,
            record=(told or Told()).record,
            now=lambda: now,
            # other ones in another process
            token=lambda: f"{len(list(folder.rglob('*'))):04x}{next(tokens):04x}",
        )
        yield Place(archive, database, trash)


async def fill(archive: Archive) -> None:
    for number in (1, 2, 3):
        await store(archive, number)
    await store(archive, 9, data_set(9, study=OTHER_STUDY, series="1.2.9.1"))


def events(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "index.db") as connection:
        return connection.execute(
            "SELECT kind, study_instance_uid FROM event ORDER BY event_pk"
        ).fetchall()


# -- Deleting --------------------------------------------------------------------------


async def test_what_is_deleted_is_nowhere_and_can_be_restored(tmp_path: Path) -> None:
    told = Told()
    async with place(tmp_path, told) as here:
        await fill(here.archive)
        before = {
            key: (tmp_path / "objects" / key).read_bytes() for key in await keys_of(here.archive)
        }
        rows = await here.archive.index.get([uid(n) for n in (1, 2, 3)])
        plan = await here.trash.plan(WHOLE_STUDY)
        assert (plan.instances, plan.series, len(plan.studies), plan.patients) == (3, 1, 1, 1)
        assert plan.size == sum(row.size for row in rows.values())
        done = await here.trash.delete(plan, ADMIN, "wrong patient")
        assert (done.instances, done.changed) == (3, 0)
        assert await here.instances() == {uid(9)}
        assert len(await keys_of(here.archive)) == 1
        assert not (tmp_path / "objects" / STUDY).exists()
        assert (await here.archive.index.statistics()).instances == 1
        await here.check()
        (row,) = await here.trash.book.rows()
        assert (row.instances, row.series, row.studies, row.size) == (3, 1, 1, plan.size)
        assert row.deletion.reason == "wrong patient"
        assert row.deletion.purge_at == row.deletion.at + KEEP_DAYS * A_DAY

        report = await here.trash.restore(TrashChoice(deletion_ids=(done.deletion_id,)), ADMIN)
        assert (report.instances, report.there.count, report.damaged.count) == (3, 0, 0)
        assert {
            key: (tmp_path / "objects" / key).read_bytes() for key in await keys_of(here.archive)
        } == before
        assert await here.archive.index.get([uid(n) for n in (1, 2, 3)]) == rows
        await here.check()
        assert await here.trash.book.rows() == []
        assert not list((tmp_path / "trash").iterdir())
    assert told.summary() == [
        (TrashChange.DELETED, STUDY, True, 3),
        (TrashChange.RESTORED, STUDY, True, 3),
    ]
    assert told.happened[0].actor == ADMIN.name
    assert told.happened[0].study.patient_id == "P1"
    assert events(tmp_path) == [
        ("instances.deleted", STUDY),
        ("instances.restored", STUDY),
    ]


async def test_a_part_of_a_study_is_told_as_such(tmp_path: Path) -> None:
    told = Told()
    async with place(tmp_path, told) as here:
        await fill(here.archive)
        await here.delete(instance(2))
        assert await here.instances() == {uid(1), uid(3), uid(9)}
        await here.check()
    assert told.summary() == [(TrashChange.DELETED, STUDY, False, 1)]
    assert events(tmp_path) == [("instances.deleted", STUDY)]


async def test_what_came_or_changed_after_the_plan_stays(tmp_path: Path) -> None:
    async with place(tmp_path, duplicates=DuplicatePolicy.REPLACE) as here:
        await fill(here.archive)
        plan = await here.trash.plan(WHOLE_STUDY)
        await store(here.archive, 4)
        replaced = data_set(2, pixels=b"\7" * 8)
        await store(here.archive, 2, replaced)
        await here.archive.remove([uid(3)])
        done = await here.trash.delete(plan, ADMIN, "a test")
        assert (done.instances, done.changed) == (1, 2)
        assert await here.instances() == {uid(2), uid(4), uid(9)}
        assert (
            await data_set_of(here.archive, (await here.archive.index.get([uid(2)]))[uid(2)])
            == replaced
        )
        await here.check()


async def test_nothing_that_is_planned_is_there_any_more(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        plan = await here.trash.plan(WHOLE_STUDY)
        await here.archive.remove([uid(n) for n in (1, 2, 3)])
        done = await here.trash.delete(plan, ADMIN, "a test")
        assert (done.deletion_id, done.instances, done.changed) == ("", 0, 3)
        assert not list((tmp_path / "trash").iterdir())


async def test_who_may_not_delete_may_not_restore_either(tmp_path: Path) -> None:
    viewer = Requester(name="viewer", may_delete=False)
    deleter = Requester(name="deleter")
    async with place(tmp_path) as here:
        await fill(here.archive)
        plan = await here.trash.plan(WHOLE_STUDY)
        with pytest.raises(NotPermittedError, match="viewer lacks study:delete"):
            await here.trash.delete(plan, viewer, "a test")
        assert len(await here.instances()) == 4
        await here.trash.delete(plan, deleter, "a test")
        for work in (here.trash.restore, here.trash.purge):
            with pytest.raises(NotPermittedError):
                await work(TrashChoice(), viewer)


async def test_a_deletion_has_a_reason(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        with pytest.raises(ValueError, match="reason"):
            await here.trash.delete(await here.trash.plan(WHOLE_STUDY), ADMIN, " ")
        assert len(await here.instances()) == 4


# -- What stands against it ------------------------------------------------------------


def write(folder: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(folder / "index.db") as connection:
        connection.execute(statement, values)


async def ask_for_commitment(database: SqliteDatabase, *numbers: int) -> None:
    await DatabaseCommitments(database).begin(
        transaction_uid="1.2.3.99",
        requester="CT1",
        called_ae_title="ISOCENTER",
        references=[Reference(CT, uid(number)) for number in numbers],
        worker="somebody",
        seconds=60,
    )


def queue(folder: Path, number: int, state: str) -> None:
    write(
        folder,
        "INSERT INTO forward (sop_instance_uid, sop_class_uid, study_instance_uid, destination, "
        "rule, priority, wants_commitment, delete_after, state, created_at, since, due_at) "
        "VALUES (?, ?, ?, 'PACS', 'r', 0, 0, 0, ?, 0, 0, 0)",
        uid(number),
        CT,
        STUDY,
        state,
    )


async def test_promises_stand_against_it_until_they_are_overruled(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await ask_for_commitment(here.database, 1, 2)
        plan = await here.trash.plan(WHOLE_STUDY)
        assert plan.obstacles == Obstacles(asked=2)
        for overrule in (False, True):
            # Whoever is being promised something right now would be told what is not true.
            with pytest.raises(DeletionRefusedError, match="being decided"):
                await here.trash.delete(plan, ADMIN, "a test", overrule=overrule)
        write(tmp_path, "UPDATE commitment SET state = 'partial'")
        write(tmp_path, "UPDATE commitment_reference SET failure_reason = position")
        plan = await here.trash.plan(WHOLE_STUDY)
        assert plan.obstacles == Obstacles(promised=1)
        with pytest.raises(DeletionRefusedError, match="1 that this archive has promised"):
            await here.trash.delete(plan, ADMIN, "a test")
        assert len(await here.instances()) == 4
        assert not list((tmp_path / "trash").iterdir())
        assert (await here.trash.delete(plan, ADMIN, "a test", overrule=True)).instances == 3


@pytest.mark.parametrize(
    ("state", "is_against"),
    [("due", True), ("sent", True), ("committing", True), ("failed", True), ("done", False)],
)
async def test_what_is_yet_to_be_sent_stands_against_it(
    tmp_path: Path, state: str, is_against: bool
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        queue(tmp_path, 2, state)
        plan = await here.trash.plan(WHOLE_STUDY)
        assert plan.obstacles == (Obstacles(queued=1) if is_against else Obstacles())
        if is_against:
            with pytest.raises(DeletionRefusedError):
                await here.trash.delete(plan, ADMIN, "a test")
        done = await here.trash.delete(plan, ADMIN, "a test", overrule=True)
        assert done.instances == 3
    with sqlite3.connect(tmp_path / "index.db") as connection:
        (now,) = connection.execute("SELECT state FROM forward").fetchone()
    assert now == ("failed" if state == "due" else state)


async def test_a_hold_is_never_overruled(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        plan = await here.trash.plan(WHOLE_STUDY)
        write(tmp_path, "INSERT INTO study_hold VALUES (?, 'court', 'me', 0)", STUDY)
        with pytest.raises(DeletionRefusedError, match="3 of studies that are held"):
            await here.trash.delete(plan, ADMIN, "a test", overrule=True)
        assert len(await here.instances()) == 4
        await here.check()


# -- Restoring and purging -------------------------------------------------------------


@pytest.mark.parametrize("is_same", [True, False])
async def test_what_came_again_meanwhile_stays_and_so_does_the_trash(
    tmp_path: Path, is_same: bool
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        deletion = await here.delete()
        again = data_set(2) if is_same else data_set(2, pixels=b"\7" * 8)
        await store(here.archive, 2, again)
        report = await here.trash.restore(TrashChoice(deletion_ids=(deletion,)), ADMIN)
        assert report.instances == 2
        ((name, reason),) = report.there.named
        assert name == uid(2)
        assert ("byte for byte" in reason) == is_same
        assert await here.instances() == {uid(n) for n in (1, 2, 3, 9)}
        stored = (await here.archive.index.get([uid(2)]))[uid(2)]
        assert await data_set_of(here.archive, stored) == again
        assert [row.instances for row in await here.trash.book.rows()] == [1]
        await here.check()
        # Once it is gone, too, the one in the trash can come back; twice is one too many.
        await here.delete(instance(2))
        report = await here.trash.restore(TrashChoice(sop_instance_uids=(uid(2),)), ADMIN)
        assert (report.instances, report.there.count) == (1, 1)
        await here.check()


async def test_a_key_that_is_taken_is_not_taken_away(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        stored = (await here.archive.index.get([uid(2)]))[uid(2)]
        deletion = await here.delete()
        orphan = tmp_path / "objects" / stored.object_key
        orphan.parent.mkdir(parents=True)
        orphan.write_bytes(b"left by a hand")
        await here.trash.restore(TrashChoice(deletion_ids=(deletion,)), ADMIN)
        assert orphan.read_bytes() == b"left by a hand"
        now = (await here.archive.index.get([uid(2)]))[uid(2)]
        assert now.object_key != stored.object_key
        assert await data_set_of(here.archive, now) == data_set(2)


async def test_a_damaged_file_is_not_restored(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        deletion = await here.delete()
        files = sorted((tmp_path / "trash" / deletion).glob("*.dcm"))
        changed = bytearray(files[0].read_bytes())
        changed[-1] ^= 1
        files[0].write_bytes(changed)
        files[1].unlink()
        assert (await here.trash.verify()).count == 1
        report = await here.trash.restore(TrashChoice(), ADMIN)
        assert (report.instances, report.damaged.count) == (1, 2)
        assert len(await here.instances()) == 2
        assert (await verify(here.archive)).is_good


async def test_what_is_over_is_removed_for_good(tmp_path: Path) -> None:
    told = Told()
    async with place(tmp_path, told) as here:
        await fill(here.archive)
        await here.delete()
    later = 1_000.0 + KEEP_DAYS * A_DAY
    async with place(tmp_path, told, now=later) as here:
        await here.delete(instance(9))
        assert await here.trash.purge(TrashChoice(expired_at=later - 1), ADMIN) == 0
        assert await here.trash.purge(TrashChoice(expired_at=later), ADMIN) == 3
        assert [row.instances for row in await here.trash.book.rows()] == [1]
        await here.check()
        statistics = await here.trash.book.statistics()
        assert (statistics.instances, statistics.deleted) == (1, 4)
    assert told.summary()[-1] == (TrashChange.PURGED, STUDY, True, 3)
    assert len(list((tmp_path / "trash").rglob("*.dcm"))) == 1


async def test_without_a_trash_it_is_gone_at_once(tmp_path: Path) -> None:
    async with place(tmp_path, keep_days=0) as here:
        await fill(here.archive)
        await here.delete()
        assert await here.trash.book.rows() == []
        assert not list((tmp_path / "trash").iterdir())
        await here.check()


# -- Failures --------------------------------------------------------------------------


async def test_what_cannot_be_recorded_is_recorded_later(tmp_path: Path) -> None:
    told = Told()
    async with place(tmp_path, told) as here:
        await fill(here.archive)
        told.error = OSError("no room")
        with pytest.raises(OSError, match="no room"):
            await here.delete()
        assert await here.instances() == {uid(9)}
        # The same object may come under the same key meanwhile; it is another one now.
        await store(here.archive, 2)
        told.error = None
        assert await here.trash.finish() == 3
        assert told.summary() == [(TrashChange.DELETED, STUDY, True, 3)]
        assert await here.instances() == {uid(2), uid(9)}
        await here.check()


async def test_a_reindex_brings_nothing_back_and_loses_nothing(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        deletion = await here.delete()
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    async with place(tmp_path) as here:
        await reindex(here.archive)
        adopted = await here.trash.adopt()
        assert (adopted.instances, adopted.damaged.count) == (3, 0)
        assert (await here.trash.adopt()).instances == 0
        assert await here.instances() == {uid(9)}
        (row,) = await here.trash.book.rows()
        assert (row.deletion.deletion_id, row.deletion.reason) == (deletion, "a test")
        assert row.deletion.purge_at == 1_000.0 + KEEP_DAYS * A_DAY
        await here.check()
        report = await here.trash.restore(TrashChoice(), ADMIN)
        assert report.instances == 3
        assert await here.instances() == {uid(n) for n in (1, 2, 3, 9)}
        await here.check()


async def test_nobody_deletes_while_the_index_is_made_again(tmp_path: Path) -> None:
    async with place(tmp_path) as here, trio.open_nursery() as nursery:
        await fill(here.archive)
        async with here.trash.resting():
            nursery.start_soon(here.delete)
            # Whoever deletes waits for the lock in files, which no clock of ours moves.
            for _ in range(200):
                await trio.lowlevel.checkpoint()
            assert len(await here.instances()) == 4
            await reindex(here.archive)
        with trio.fail_after(60):
            while await here.instances() != {uid(9)}:
                await trio.lowlevel.checkpoint()
    async with place(tmp_path) as here:
        await here.check()


async def work_on(here: Place, work: str) -> None:
    match work:
        case "delete":
            await here.delete()
        case "restore":
            await here.trash.restore(TrashChoice(), ADMIN)
        case _:
            await here.trash.purge(TrashChoice(), ADMIN)


@pytest.mark.parametrize("power_failure", [None, "strict", "in order"])
@pytest.mark.parametrize("work", ["delete", "restore", "purge"])
async def test_a_crash_at_any_step(tmp_path: Path, work: str, power_failure: str | None) -> None:
    """Afterwards each object is in the archive or in the trash, whole; of purging, or nowhere."""
    step = 0
    while True:
        folder = tmp_path / f"{step}"
        folder.mkdir()
        files = ModelFiles(folder)
        for name in ("objects", "staging"):
            (folder / name).mkdir()
            files._durable_names[str(folder / name)] = {}
        survivors = folder
        crashed = False
        before = {uid(n) for n in (1, 2, 3, 9)}
        async with place(folder, files=files) as here:
            await fill(here.archive)
            if work != "delete":
                await here.delete()
        files.fail = failing(len(files.steps) + step, Crash)
        async with place(folder, files=files) as here:
            try:
                await work_on(here, work)
            except Crash:
                crashed = True
            if not crashed:
                assert step > 3
                return
            if power_failure is not None:
                survivors = files.after_power_failure(
                    tmp_path / f"{step} later", names_survive=power_failure == "in order"
                )
        if survivors is not folder:
            (folder / "index.db").rename(survivors / "index.db")
        async with place(survivors) as here:
            # In the order of a start.
            await here.trash.finish()
            await here.archive.recover()
            await here.check()
            found = await here.instances()
            trashed = {
                row.stored.sop_instance_uid
                for row in await here.trash.book.chosen(TrashChoice(), limit=100)
            }
            assert not found & trashed
            assert found >= {uid(9)}
            if work != "purge":
                assert found | trashed == before
            # All of a study, or nothing of it.
            assert found in (before, {uid(9)})
            report = await here.trash.restore(TrashChoice(), ADMIN)
            assert report.instances == len(trashed)
            assert await here.instances() == found | trashed
            await here.check()
            for number in (1, 2, 3):
                stored = (await here.archive.index.get([uid(number)])).get(uid(number))
                if stored is not None:
                    assert await data_set_of(here.archive, stored) == data_set(number)
        files.end()
        step += 1
