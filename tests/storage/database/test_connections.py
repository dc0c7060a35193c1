"""Connections with the database: how many there are, and how many are in use."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.storage.database.database import Connection
from isocenter.storage.database.pool import Pool, sum_of
from storage.databases import open_database


class Plain:
    """What a pool holds."""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.usefixtures("each_database")
async def test_those_in_use_are_told_from_those_there_are(tmp_path: Path) -> None:
    async with open_database(tmp_path / "index.db") as database:
        before = database.connections()
        assert before.total > 1
        assert before.in_use == 0
        go_on = threading.Event()
        begun = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def slow(connection: Connection) -> None:
            token.run_sync_soon(begun.set)
            go_on.wait(60)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.read, slow)
            try:
                with trio.fail_after(60):
                    await begun.wait()
                assert database.connections() == ConnectionCounts(before.total, 1)
            finally:
                go_on.set()
        assert database.connections() == before


async def test_one_that_waits_in_vain_uses_none() -> None:
    pool = Pool([Plain()])
    async with pool.borrow():
        assert pool.counts() == ConnectionCounts(1, 1)
        with trio.move_on_after(0):
            async with pool.borrow():
                raise AssertionError("there is one only")
        assert pool.counts() == ConnectionCounts(1, 1)
    assert sum_of(pool, pool) == ConnectionCounts(1, 0)
    await pool.aclose()
    assert pool.counts() == ConnectionCounts(0, 0)
