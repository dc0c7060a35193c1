"""The contract of `StagedKeys`, on every database."""

from __future__ import annotations

import pytest

from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")


async def test_a_key_is_noted_once() -> None:
    async with open_database() as database:
        keys = DatabaseStagedKeys(database)
        assert await keys.begin(["a", "b"]) == [True, True]
        assert await keys.begin(["b", "c"]) == [False, True]
        await keys.end(["b", "nobody noted it"])
        assert await keys.begin(["b"]) == [True]
        assert await keys.count() == 3


async def test_what_is_overdue_is_claimed_the_oldest_first() -> None:
    now = 100.0
    async with open_database() as database:
        keys = DatabaseStagedKeys(database, now=lambda: now)
        await keys.begin(["late"])
        now = 50.0
        await keys.begin(["early"])
        now = 70.0
        await keys.begin(["middle"])
        assert await keys.claim_overdue(50.0, 10) == []
        assert await keys.claim_overdue(100.0, 1) == ["early"]
        # An earlier claim whose sweeper died counts no more.
        assert sorted(await keys.claim_overdue(100.0, 10)) == ["early", "middle"]
        await keys.end(["early", "middle"])
        assert await keys.claim_overdue(100.0, 10) == []
        assert await keys.count() == 1
