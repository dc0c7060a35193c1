"""Sessions in a database: kept, used, ended, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.security.access.ports import Session, Sessions
from isocenter.storage.database.sessions import DatabaseSessions
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

NOW = 1_700_000_000.0
SESSION = Session(
    session_id="0badcafe",
    secret_digest="ab" * 32,
    user="alice",
    address="10.0.0.1",
    created_at=NOW,
    last_used_at=NOW,
    expires_at=NOW + 100,
)
DAY = 86_400.0


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[Sessions]:
    async with open_database(tmp_path / "index.db") as database:
        yield DatabaseSessions(database)


async def test_what_is_kept_comes_back(sessions: Sessions) -> None:
    assert await sessions.add(SESSION)
    assert await sessions.find(SESSION.secret_digest) == SESSION
    assert await sessions.find("00" * 32) is None


async def test_the_last_use_never_goes_back(sessions: Sessions) -> None:
    await sessions.add(SESSION)
    await sessions.note_use(SESSION.session_id, NOW + 9)
    await sessions.note_use(SESSION.session_id, NOW + 5)  # of another process, and told later
    found = await sessions.find(SESSION.secret_digest)
    assert found == replace(SESSION, last_used_at=NOW + 9)


async def test_a_session_ends_once(sessions: Sessions) -> None:
    await sessions.add(SESSION)
    assert await sessions.end(SESSION.session_id, NOW + 1)
    assert not await sessions.end(SESSION.session_id, NOW + 2)
    assert not await sessions.end("ffffffff", NOW + 2)
    found = await sessions.find(SESSION.secret_digest)
    assert found == replace(SESSION, ended_at=NOW + 1)


async def test_a_one_time_code_of_a_user_opens_one_session(sessions: Sessions) -> None:
    first = replace(SESSION, code_step=7)
    assert await sessions.add(first)
    assert not await sessions.add(replace(first, session_id="1", secret_digest="1" * 64))
    other = replace(first, session_id="2", secret_digest="2" * 64, user="bob")
    assert await sessions.add(other)
    for number in (3, 4):
        without = replace(
            SESSION, session_id=str(number), secret_digest=str(number) * 64, code_step=None
        )
        assert await sessions.add(without)


async def test_old_ones_are_forgotten_a_day_after_they_expired(sessions: Sessions) -> None:
    await sessions.add(SESSION)
    late = SESSION.expires_at + DAY
    for number, moment, is_there in ((1, late, True), (2, late + 1, False)):
        new = replace(
            SESSION,
            session_id=str(number),
            secret_digest=str(number) * 64,
            created_at=moment,
            expires_at=moment + 100,
        )
        assert await sessions.add(new)
        assert (await sessions.find(SESSION.secret_digest) is not None) is is_there
