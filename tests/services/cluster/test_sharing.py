"""Texts that two data directories have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from isocenter.services.cluster.ports import Document, SharedDocuments
from isocenter.services.cluster.sharing import SharedFile, Sharing
from isocenter.services.errors import StorageError
from isocenter.storage.database.cluster import DatabaseDocuments
from isocenter.storage.database.sqlite.database import open_sqlite_database


class Place:
    """A data directory, and what is shared of it."""

    def __init__(self, folder: Path, documents: SharedDocuments) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.path = folder / "access" / "policy.json"
        self.sharing = Sharing(documents, [SharedFile("policy", self.path)], folder)

    def write(self, text: str) -> None:
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.write_text(text)

    def text(self) -> str:
        return self.path.read_text() if self.path.exists() else ""


@asynccontextmanager
async def places(folder: Path) -> AsyncIterator[tuple[Place, Place, DatabaseDocuments]]:
    async with open_sqlite_database(":memory:") as database:
        documents = DatabaseDocuments(database)
        yield Place(folder / "one", documents), Place(folder / "other", documents), documents


async def test_what_is_changed_on_one_is_changed_on_the_other(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, other, _):
        assert await one.sharing.look() == []
        assert await other.sharing.look() == []
        one.write("a")
        assert await one.sharing.look() == []
        assert await other.sharing.look() == ["policy"]
        assert other.text() == "a"
        assert await other.sharing.look() == []
        other.write("b")
        assert await other.sharing.look() == []
        assert await one.sharing.look() == ["policy"]
        assert one.text() == "b"


async def test_what_was_changed_while_no_server_ran_is_shared(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, other, documents):
        one.write("a")
        await one.sharing.look()
        await other.sharing.look()
        one.write("b")
        again = Sharing(documents, [SharedFile("policy", one.path)], one.folder)
        await again.look()
        assert await other.sharing.look() == ["policy"]
        assert other.text() == "b"


async def test_of_two_changes_at_the_same_time_one_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with places(tmp_path) as (one, other, _):
        one.write("a")
        await one.sharing.look()
        await other.sharing.look()
        one.write("b")
        other.write("c")
        await one.sharing.look()
        assert await other.sharing.look() == ["policy"]
        assert other.text() == "b"
        assert (other.folder / "policy.not-shared").read_text() == "c"
        assert "changed on another node at the same time" in caplog.text


async def test_a_file_that_has_gone_comes_back(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, other, _):
        one.write("a")
        await one.sharing.look()
        one.path.unlink()
        await one.sharing.look()
        assert one.text() == "a"
        await other.sharing.look()
        assert other.text() == "a"


async def test_a_node_that_was_alone_before_takes_what_the_others_have(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, other, _):
        one.write("theirs")
        await one.sharing.look()
        other.write("its own")
        await other.sharing.look()
        assert other.text() == "theirs"
        assert (other.folder / "policy.not-shared").read_text() == "its own"


async def test_a_database_that_has_lost_it_gets_it_again(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, _, documents):
        await documents.put(Document(name="policy", version=0, content="a"))
        await one.sharing.look()
    async with open_sqlite_database(":memory:") as database:
        documents = DatabaseDocuments(database)
        again = Sharing(documents, [SharedFile("policy", one.path)], one.folder)
        await again.look()
        assert (await documents.get("policy")).content == "a"
        assert one.text() == "a"


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, _, _documents):
        one.path.parent.mkdir()
        one.path.mkdir()
        with pytest.raises(StorageError, match="what nodes share cannot be kept"):
            await one.sharing.look()


async def test_a_text_that_cannot_be_kept_holds_up_no_other(tmp_path: Path) -> None:
    async with places(tmp_path) as (one, other, documents):
        one.write("a")
        await one.sharing.look()
        blocked = SharedFile("blocked", other.folder)  # a folder is no file
        told: list[str] = []

        async def on_change(name: str) -> None:
            told.append(name)
            scope.cancel()

        sharing = Sharing(documents, [blocked, SharedFile("policy", other.path)], other.folder)
        with trio.CancelScope() as scope:
            await sharing.run(on_change)
        assert told == ["policy"]
        assert other.text() == "a"


@pytest.mark.parametrize("content", ["[1]", '{"policy": 1}', '{"policy": []}', '"', "{"])
async def test_what_was_seen_last_may_be_damaged(tmp_path: Path, content: str) -> None:
    async with places(tmp_path) as (one, other, _):
        one.write("a")
        await one.sharing.look()
        (other.folder / "shared.json").write_text(content)
        assert await other.sharing.look() == ["policy"]
        assert other.text() == "a"
