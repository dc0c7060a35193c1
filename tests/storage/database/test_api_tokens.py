"""API tokens in a database: kept, found, revoked, by several processes at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.security.access.api_tokens import ApiTokenVerifier, new_token
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.ports import ApiToken, ApiTokens
from isocenter.storage.database.api_tokens import DatabaseApiTokens
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

NOW = 1_700_000_000.0


@pytest.fixture
async def tokens(tmp_path: Path) -> AsyncIterator[ApiTokens]:
    async with open_database(tmp_path / "index.db") as database:
        yield DatabaseApiTokens(database)


def made(name: str = "viewer", expires_at: float | None = NOW + 100) -> tuple[str, ApiToken]:
    return new_token(
        name,
        policy=Policy(),
        created_by="somebody@here",
        roles=("Viewer", "Technologist"),
        scopes=("dicomweb.read", "dicomweb.search"),
        expires_at=expires_at,
        now=NOW,
    )


async def test_what_is_kept_comes_back(tokens: ApiTokens) -> None:
    _, token = made()
    _, endless = made("endless", None)
    assert await tokens.add(token)
    assert await tokens.add(endless)
    assert await tokens.find(token.token_id) == token
    assert await tokens.find("00000000") is None
    everything = await tokens.all()
    assert {one.name for one in everything} == {"viewer", "endless"}
    await tokens.note_use(token.token_id, NOW + 7)
    await tokens.note_use(token.token_id, NOW + 3)  # of another process, and told later
    assert await tokens.find(token.token_id) == replace(token, last_used_at=NOW + 7)
    assert await tokens.remove(token.token_id)
    assert not await tokens.remove(token.token_id)


async def test_no_token_takes_the_place_of_another(tokens: ApiTokens) -> None:
    _, first = made()
    _, second = made()
    assert await tokens.add(first)
    assert not await tokens.add(second), "the name is taken"
    assert not await tokens.add(replace(second, token_id=first.token_id, name="other"))
    assert await tokens.find(first.token_id) == first
    assert await tokens.revoke(first.token_id, NOW + 1)
    assert not await tokens.revoke(first.token_id, NOW + 2), "it is revoked once"
    assert await tokens.add(second), "the name is free again"
    assert (await tokens.find(first.token_id)) == replace(first, revoked_at=NOW + 1)


async def test_revoked_by_one_process_is_refused_by_all_at_once(tmp_path: Path) -> None:
    text, token = made()
    async with (
        open_database(tmp_path / "index.db") as ours,
        open_database(tmp_path / "index.db") as theirs,
    ):
        verifier = ApiTokenVerifier(DatabaseApiTokens(ours), now=lambda: NOW)
        commands = DatabaseApiTokens(theirs)
        assert await commands.add(token)
        assert (await verifier.verify(text)).name == "viewer"
        assert await commands.revoke(token.token_id, NOW)
        with pytest.raises(PolicyError, match=f"{token.token_id} is revoked"):
            await verifier.verify(text)
        assert await verifier.still_valid(token.token_id) is None


async def test_it_ends_by_itself(tokens: ApiTokens) -> None:
    text, token = made()
    await tokens.add(token)
    await ApiTokenVerifier(tokens, now=lambda: NOW + 99.9).verify(text)
    with pytest.raises(PolicyError, match="is expired"):
        await ApiTokenVerifier(tokens, now=lambda: NOW + 100).verify(text)


async def test_its_use_is_written_seldom(tokens: ApiTokens) -> None:
    text, token = made(expires_at=None)
    await tokens.add(token)
    now = [NOW]
    verifier = ApiTokenVerifier(tokens, now=lambda: now[0])
    seen = []
    for later in (0, 10, 3_599, 3_600, 3_700):
        now[0] = NOW + later
        await verifier.verify(text)
        found = await tokens.find(token.token_id)
        assert found is not None
        assert found.last_used_at is not None
        seen.append(found.last_used_at - NOW)
    assert seen == [0, 0, 0, 3_600, 3_600]
