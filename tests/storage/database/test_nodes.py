"""Remote nodes in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.workflow.nodes.node import Node, NodeState, new_node
from isocenter.services.workflow.nodes.ports import NodeCheck, TokenElsewhereError
from isocenter.storage.database.nodes import DatabaseNodes
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

PACS = new_node("PACS@192.0.2.1:11112", tls=True, verify_host=False)


@pytest.fixture
async def book() -> AsyncIterator[DatabaseNodes]:
    async with open_database() as database:
        yield DatabaseNodes(database)


async def test_nodes_are_kept_by_name(book: DatabaseNodes) -> None:
    web = new_node("https://a.example/dicom-web", "cloud", token_file="/t", ca_file="/c")
    assert await book.add(web)
    assert await book.add(PACS)
    assert not await book.add(replace(PACS, address="OTHER@192.0.2.2:104"))
    assert await book.all() == [PACS, web]
    assert await book.get("PACS") == PACS
    assert await book.get("pacs") is None
    assert await book.remove("PACS")
    assert not await book.remove("PACS")
    assert await book.all() == [web]


async def test_whose_a_certificate_has_to_be_is_kept(book: DatabaseNodes) -> None:
    named = new_node("PACS@192.0.2.1:11112", tls=True, server_name="pacs.example")
    await book.add(named)
    assert await book.get("PACS") == named
    assert named.peer.tls_name == "pacs.example"
    assert await book.update(replace(named, server_name=""))
    found = await book.get("PACS")
    assert found is not None
    assert found.peer.tls_name == "192.0.2.1"


async def test_a_change_forgets_what_was_verified_and_counts_once(book: DatabaseNodes) -> None:
    await book.add(PACS)
    await book.note_check(PACS, NodeCheck(state=NodeState.OFFLINE, at=5.0, fault="no route"))
    found = await book.get("PACS")
    assert found is not None
    assert (found.state, found.checked_at, found.failures) == (NodeState.OFFLINE, 5.0, 1)
    assert await book.update(replace(found, is_enabled=False))
    assert not await book.update(replace(found, is_enabled=True)), "somebody was quicker"
    now = await book.get("PACS")
    assert now == replace(PACS, is_enabled=False, version=2)


async def test_of_a_verification_a_new_state_is_told_and_failures_are_counted(
    book: DatabaseNodes,
) -> None:
    await book.add(PACS)
    failed = NodeCheck(state=NodeState.ERROR, at=1.0, fault="rejected")
    fine = NodeCheck(state=NodeState.ONLINE, at=2.0, response_seconds=0.25)

    async def found() -> Node:
        node = await book.get("PACS")
        assert node is not None
        return node

    assert [await book.note_check(PACS, failed) for _ in range(2)] == [True, False]
    assert (await found()).failures == 2
    assert await book.note_check(PACS, fine)
    assert await found() == replace(
        PACS, state=NodeState.ONLINE, checked_at=2.0, response_seconds=0.25
    )
    assert not await book.note_check(replace(PACS, version=7), failed), "it is another node now"
    assert (await found()).state is NodeState.ONLINE


CLOUD = new_node("https://cloud.example/dicom-web", "cloud", token_file="/etc/tokens/cloud")
ELSEWHERE = [
    "https://elsewhere.example/dicom-web",
    "http://cloud.example/dicom-web",
    "https://cloud.example:8443/dicom-web",
]


@pytest.mark.parametrize("address", ELSEWHERE)
async def test_a_token_is_not_sent_where_a_node_is_pointed_to_later(
    book: DatabaseNodes, address: str
) -> None:
    await book.add(CLOUD)
    with pytest.raises(TokenElsewhereError, match=r"was given for https://cloud\.example:443"):
        await book.update(replace(CLOUD, address=address))
    assert await book.all() == [CLOUD]
    # Nor by way of another node, nor of another name of the file, nor when the first is gone.
    other = replace(CLOUD, address=address, name="other")
    for _ in range(2):
        for path in ("/etc/tokens/cloud", "/etc/tokens/../tokens//cloud"):
            with pytest.raises(TokenElsewhereError):
                await book.add(replace(other, token_file=path))
        await book.remove("cloud")
    assert await book.all() == []
    assert await book.add(other, moves_token=True)
    with pytest.raises(TokenElsewhereError):
        await book.add(CLOUD)


async def test_a_token_goes_with_its_service(book: DatabaseNodes) -> None:
    await book.add(CLOUD)
    assert await book.update(replace(CLOUD, address="https://CLOUD.example:443/new", version=1))
    without = replace(CLOUD, address=ELSEWHERE[0], token_file="", version=2)
    assert await book.update(without)
    with pytest.raises(TokenElsewhereError):
        await book.update(replace(without, token_file=CLOUD.token_file, version=3))


async def test_a_link_to_a_token_is_that_token(book: DatabaseNodes, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc")
    (tmp_path / "link").symlink_to("token")
    await book.add(replace(CLOUD, token_file=str(tmp_path / "token")))
    with pytest.raises(TokenElsewhereError):
        await book.add(
            replace(CLOUD, name="2", address=ELSEWHERE[0], token_file=str(tmp_path / "link"))
        )


async def test_tokens_of_nodes_from_before_are_theirs(each_database: str) -> None:
    async with open_database() as database:
        book = DatabaseNodes(database)
        await book.add(CLOUD)
        await database.write(lambda connection: connection.execute("DELETE FROM token_place"))
        with pytest.raises(TokenElsewhereError):
            await book.add(replace(CLOUD, name="a first one", address=ELSEWHERE[0]))
