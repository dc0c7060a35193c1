"""Two nodes that publish the same study at once: one document stands in the end.

Both have the same database, each by a connection of its own, and each thinks that the job is its
own: the claim of the other has lapsed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from isocenter.services.archive.export.values import ExportedStudy
from isocenter.services.integration.sharing.mhd_publisher import MhdPublisher
from isocenter.services.integration.sharing.ports import Document, Publication, Publisher
from isocenter.services.integration.sharing.publishing import Publishing, PublishingDesk
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.net.http.client import HttpClient, Retries
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job
from isocenter.services.workflow.jobs.turns import AskLaterError
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.publications import DatabasePublications
from services.integration.sharing.test_publishing import AUTHORITIES, PATIENT, STUDY, World
from storage.databases import open_database
from storage.index_contract import make_record
from support.document_recipient import DocumentRecipient
from support.web_archive import Scripted, http_serving

pytestmark = pytest.mark.usefixtures("each_database")


class Gate:
    """A point that is passed when a test says so.

    Attributes:
        reached: somebody waits there.
    """

    def __init__(self) -> None:
        self.reached = trio.Event()
        self.opened = trio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()


class Held(MhdPublisher):
    """A publisher whose document leaves, or whose answer comes, when a test says so."""

    before: Gate | None = None
    after: Gate | None = None

    async def publish(self, document: Document) -> str:
        if self.before is not None:
            await self.before()
        reference = await super().publish(document)
        if self.after is not None:
            await self.after()
        return reference


class Node:
    """One of the nodes."""

    def __init__(self, world: World, book: DatabasePublications, queue: DatabaseJobs) -> None:
        self.world = world
        self.book = book
        self.queue = queue
        self.before: Gate | None = None
        self.after: Gate | None = None

    @asynccontextmanager
    async def open_publisher(self, repository: Repository) -> AsyncIterator[Publisher]:
        async with HttpClient(repository.url, retries=Retries(attempts=1)) as client:
            publisher = Held(client, repository)
            publisher.before, publisher.after = self.before, self.after
            yield publisher

    async def _record(self, studies: Sequence[ExportedStudy]) -> None:
        pass

    async def work(self, job: Job) -> bool:
        """False: it leaves it to the other one."""
        publishing = Publishing(
            self.book, self.world.reader, {"regional": self.world.repository},
            self.open_publisher, self._record, now=lambda: self.world.now,
        )  # fmt: skip
        try:
            await publishing.work(job, self.queue)
        except AskLaterError:
            return False
        return True

    async def state(self) -> Publication:
        found = await self.book.get("regional", STUDY)
        assert found is not None
        return found


class Pair:
    """Two nodes, and a job that both have."""

    def __init__(self, world: World, one: Node, other: Node) -> None:
        self.world = world
        self.one = one
        self.other = other

    async def job(self, *, is_wanted: bool = True) -> Job:
        desk = PublishingDesk(
            self.one.book, self.world.reader, {"regional": self.world.repository},
            JobDesk(self.one.queue, lambda: None), now=lambda: self.world.now,
        )  # fmt: skip
        job_id, _ = await desk.ask("regional", STUDY, is_wanted=is_wanted, requested_by="alice")
        job = await self.one.queue.get(job_id)
        assert job is not None
        return job

    async def add_instance(self) -> None:
        await self.world.index.add(
            [make_record("1.1.2.1", "1.1.2", STUDY, Modality="CT", **PATIENT)]
        )

    async def until_settled(self, job: Job) -> None:
        """Go on as the upkeep does, until nobody leaves it to anybody."""
        for _ in range(4):
            if await self.other.work(job) and (await self.other.state()).behind_since is None:
                return
            self.world.now += 400.0
        raise AssertionError("it is never settled")

    async def check(self, *, stands: bool = True) -> None:
        state = await self.one.state()
        current = self.world.recipient.current
        assert len(current) == (1 if stands else 0)
        assert state.sent_uid == ""
        if stands:
            (reference,) = current
            assert reference["masterIdentifier"]["value"] == f"urn:oid:{state.document_uid}"
            assert state.reference == f"DocumentReference/{reference['id']}"
        else:
            assert state.document_uid == ""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    recipient, index = DocumentRecipient(), MemoryIndex()
    await index.add([make_record("1.1.1.1", "1.1.1", STUDY, Modality="CT", **PATIENT)])
    path = tmp_path / "index.db"
    async with (
        open_database(path) as one,
        open_database(path) as other,
        http_serving(Scripted(recipient)) as url,
    ):
        books = DatabasePublications(one), DatabasePublications(other)
        queues = DatabaseJobs(one), DatabaseJobs(other)
        world = World(index, books[0], queues[0], recipient, url)
        assert world.authorities is AUTHORITIES
        assert world.repository.protocol is Protocol.MHD
        yield Pair(world, Node(world, books[0], queues[0]), Node(world, books[1], queues[1]))


async def test_one_document_stands_whoever_comes_first(pair: Pair) -> None:
    job = await pair.job()
    done: list[bool] = []

    async def work(node: Node) -> None:
        done.append(await node.work(job))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, pair.one)
        nursery.start_soon(work, pair.other)
    assert any(done)
    await pair.until_settled(job)
    await pair.check()


async def test_what_another_node_is_sending_is_not_sent_beside_it(pair: Pair) -> None:
    job = await pair.job()
    pair.one.before = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.one.work, job)
        await pair.one.before.reached.wait()
        await pair.add_instance()
        assert not await pair.other.work(job), "it may arrive yet"
        pair.one.before.opened.set()
    await pair.until_settled(job)
    await pair.check()


async def test_what_has_arrived_at_another_node_s_hands_is_found_and_replaced(pair: Pair) -> None:
    job = await pair.job()
    pair.one.after = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.one.work, job)
        await pair.one.after.reached.wait()
        await pair.add_instance()
        assert await pair.other.work(job)
        pair.one.after.opened.set()
    await pair.until_settled(job)
    await pair.check()
    (reference,) = pair.world.recipient.current
    assert reference["relatesTo"][0]["code"] == "replaces"
    assert len(pair.world.recipient.references) == 2


async def test_a_withdrawal_waits_for_what_another_node_is_sending(pair: Pair) -> None:
    job = await pair.job()
    pair.one.before = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.one.work, job)
        await pair.one.before.reached.wait()
        withdrawal = await pair.job(is_wanted=False)
        assert not await pair.other.work(withdrawal)
        pair.one.before.opened.set()
    await pair.until_settled(withdrawal)
    await pair.check(stands=False)


async def test_both_replace_at_once(pair: Pair) -> None:
    assert await pair.one.work(await pair.job())
    await pair.add_instance()
    job = await pair.job()
    pair.one.before, pair.other.before = Gate(), None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.one.work, job)
        await pair.one.before.reached.wait()
        assert not await pair.other.work(job)
        pair.one.before.opened.set()
    await pair.until_settled(job)
    await pair.check()
    assert len(pair.world.recipient.references) == 2


@pytest.mark.parametrize("arrival_seconds", [10, 360])
async def test_a_node_that_died_while_it_sent_is_made_up_for(
    pair: Pair, arrival_seconds: int
) -> None:
    pair.world.repository = replace(pair.world.repository, arrival_seconds=arrival_seconds)
    job = await pair.job()
    pair.one.before = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.one.work, job)
        await pair.one.before.reached.wait()
        nursery.cancel_scope.cancel()
    await pair.add_instance()
    pair.world.now += arrival_seconds - 1.0
    assert not await pair.other.work(job)
    pair.world.now += 2.0
    await pair.until_settled(job)
    await pair.check()
    assert len(pair.world.recipient.references) == 1
