"""Links to studies in a database: kept, used, revoked, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.security.access.ports import ShareLink, ShareLinks
from isocenter.storage.database.share_links import DatabaseShareLinks
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

NOW = 1_700_000_000.0
DAY = 86_400.0
LINK = ShareLink(
    link_id="0badcafe",
    secret_digest="ab" * 32,
    study_instance_uid="1.2.3",
    label="Dr. Roe",
    may_download=True,
    passcode_hash="",
    user="alice",
    created_by="alice",
    is_for_viewer=False,
    created_at=NOW,
    expires_at=NOW + DAY,
)


@pytest.fixture
async def links(tmp_path: Path) -> AsyncIterator[ShareLinks]:
    async with open_database(tmp_path / "index.db") as database:
        yield DatabaseShareLinks(database)


async def test_what_is_kept_comes_back(links: ShareLinks) -> None:
    await links.add(LINK)
    assert await links.find(LINK.link_id) == LINK
    assert await links.find("00000000") is None


async def test_each_use_is_counted(links: ShareLinks) -> None:
    await links.add(LINK)
    for number in (1, 2):
        await links.note_use(LINK.link_id, NOW + number)
    assert await links.find(LINK.link_id) == replace(LINK, uses=2, last_used_at=NOW + 2)


async def test_a_link_is_revoked_once(links: ShareLinks) -> None:
    await links.add(LINK)
    assert await links.revoke(LINK.link_id, NOW + 1)
    assert not await links.revoke(LINK.link_id, NOW + 2)
    assert not await links.revoke("00000000", NOW)
    found = await links.find(LINK.link_id)
    assert found is not None
    assert found.revoked_at == NOW + 1
    await links.remove(LINK.link_id)
    assert await links.find(LINK.link_id) is None


async def test_the_newest_are_listed_first_without_those_of_viewers(links: ShareLinks) -> None:
    await links.add(LINK)
    await links.add(replace(LINK, link_id="00000002", created_at=NOW + 5))
    await links.add(replace(LINK, link_id="00000003", is_for_viewer=True))
    assert [one.link_id for one in await links.all(10)] == ["00000002", "0badcafe"]
    assert len(await links.all(1)) == 1


async def test_links_of_viewers_are_forgotten_a_day_after_their_end(links: ShareLinks) -> None:
    old = replace(LINK, link_id="00000003", is_for_viewer=True, expires_at=NOW)
    await links.add(old)
    await links.add(replace(LINK, expires_at=NOW))
    await links.add(replace(LINK, link_id="00000004", created_at=NOW + DAY + 1))
    assert await links.find("00000003") is None
    assert await links.find(LINK.link_id) is not None
