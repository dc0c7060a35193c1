"""Corrections and crashes: a study is as it was or as it is to be, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isocenter.storage.database.sqlite.database import SqliteDatabase
from services.archive.corrections.place import Place, fill, place
from services.archive_support import data_set, data_set_of, store, uid
from storage.power_model import Crash, ModelFiles, failing

OURS = [uid(1), uid(2), uid(3)]
OLD, NEW = "Bäcker^Anna", "Right^Name"


async def work_on(here: Place, work: str) -> None:
    match work:
        case "correct":
            await here.rename(NEW)
        case "undo":
            await here.undo(1)
        case "arrive":
            await store(here.archive, 4)
            await here.corrections.work()


async def prepare(here: Place, work: str) -> None:
    await fill(here.archive)
    if work != "correct":
        await here.rename(NEW)


async def check_after_start(here: Place, work: str) -> None:
    """In the order of a start; then what was ordered is brought to its end."""
    await here.archive.recover()
    names = await here.said()
    assert set(names) >= {*OURS, uid(9)}
    # All of the study, or nothing of it; what comes is found as it is to be.
    assert {names[each] for each in OURS} in ({OLD}, {NEW})
    assert names.get(uid(4), NEW) == NEW
    for each in OURS:
        assert (await here.content(each)).PatientName == names[each]
    ordered = await here.corrections.book.rows(limit=10)
    await here.corrections.work()
    await here.check()
    is_new = bool(ordered) and ordered[0].undone_at is None
    names = await here.said()
    for each in set(names) - {uid(9)}:
        assert names[each] == (NEW if is_new else OLD)
        assert (await here.content(each)).PatientName == names[each]
    # What came is there, whatever happened.
    if is_new:
        await here.undo(1)
        await here.check()
    for number in (1, 2, 3):
        stored = (await here.archive.index.get([uid(number)]))[uid(number)]
        assert await data_set_of(here.archive, stored) == data_set(number)
    assert len(await here.keys()) == len(await here.said())


@pytest.mark.slow
@pytest.mark.parametrize("power_failure", [None, "strict", "in order"])
@pytest.mark.parametrize("work", ["correct", "undo", "arrive"])
async def test_a_crash_at_any_step_of_the_files(
    tmp_path: Path, work: str, power_failure: str | None
) -> None:
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
        async with place(folder, files=files) as here:
            await prepare(here, work)
        files.fail = failing(len(files.steps) + step, Crash)
        try:
            async with place(folder, files=files) as here:
                await work_on(here, work)
        except BaseException as error:
            if not is_crash(error):
                raise
            crashed = True
        if not crashed:
            assert step > 3
            return
        if power_failure is not None:
            survivors = files.after_power_failure(
                tmp_path / f"{step} later", names_survive=power_failure == "in order"
            )
            for path in folder.glob("index.db*"):
                path.rename(survivors / path.name)
        async with place(survivors) as here:
            await check_after_start(here, work)
        files.end()
        step += 1


@pytest.mark.parametrize("work", ["correct", "undo", "arrive"])
@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_crash_at_any_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, is_committed: bool
) -> None:
    """Before or after each of them, with the files as they are then."""
    step = 0
    while True:
        folder = tmp_path / f"{step}"
        folder.mkdir()
        async with place(folder) as here:
            await prepare(here, work)
        with monkeypatch.context() as patch:
            patch.setattr(SqliteDatabase, "write", crashing(step, is_committed=is_committed))
            crashed = False
            try:
                async with place(folder) as here:
                    await work_on(here, work)
            except BaseException as error:
                if not is_crash(error):
                    raise
                crashed = True
        if not crashed:
            assert step >= 2
            return
        async with place(folder) as here:
            await check_after_start(here, work)
        step += 1


def crashing(step: int, *, is_committed: bool) -> Callable[..., Any]:
    """In the place of `SqliteDatabase.write`: one crashes, and so do all after it."""
    write = SqliteDatabase.write
    left = step

    async def crash(
        self: SqliteDatabase, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and not is_committed:
            raise Crash
        result = await write(self, function, *args, **kwargs)
        if left < 0:
            raise Crash
        return result

    return crash


def is_crash(error: BaseException) -> bool:
    """Whether it was the crash, alone or with what it drew after it."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_crash, error.exceptions))
    return isinstance(error, Crash)
