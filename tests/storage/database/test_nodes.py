"""Remote nodes in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.workflow.nodes.node import Node, NodeState, new_node
from isocenter.services.workflow.nodes.ports import NodeCheck
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
