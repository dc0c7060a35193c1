"""What goes on by itself, on two processes of one archive at once: two nodes on PostgreSQL, two
workers on a file of SQLite."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.services import composition
from isocenter.services.archive.deletion.records import DeletionCause, InstancesDeleted
from isocenter.services.archive.retention.service import keep_to
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.composition.archive import ArchiveParts, trash_of
from isocenter.services.composition.retention import retention_rules
from isocenter.services.composition.tasks import synchronizer_of
from isocenter.services.composition.workflow import Workflow
from isocenter.services.notices import Notice, Notices
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.job import JobState
from isocenter.services.workflow.nodes.node import new_node
from isocenter.services.workflow.tasks.task import new_task
from services.archive_support import CT, data_set, store, uid
from services.workflow.forwarding.test_forwarder import Destination
from services.workflow.jobs.test_runner import other_archive
from support.postgresql import Server
from support.serving import Scripted, port_of, serving

PATIENCE = 60.0
DAY = 86_400.0


@dataclass
class Node:
    settings: Settings
    parts: ArchiveParts
    workflow: Workflow


@dataclass
class Nodes:
    """Two processes of one archive, and what is told in both."""

    one: Node
    other: Node
    heard: list[Notice]

    async def states(self) -> Counter[str]:
        rows = await self.one.parts.stores.forwards.rows(limit=999)
        return Counter(row.state.value for row in rows)

    async def until_states(self, wanted: dict[str, int]) -> None:
        with trio.fail_after(PATIENCE):
            while await self.states() != wanted:
                await trio.testing.wait_all_tasks_blocked(0.01)

    async def instances(self) -> list[str]:
        found: list[str] = []
        async with self.other.parts.archive.index.instances() as blocks:
            async for block in blocks:
                found += [stored.sop_instance_uid for stored in block]
        return sorted(found)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, dict[str, object]]:
    """By process, what makes both of one archive."""
    if request.param == "sqlite":
        data_dir: dict[str, object] = {"storage.data_dir": str(tmp_path / "data")}
        return {"one": data_dir, "other": data_dir}
    server: Server = request.getfixturevalue("postgresql_server")
    shared = {
        "database.url": server.url(server.new_database()),
        "objects.url": (tmp_path / "objects").as_uri(),
    }
    return {
        name: {**shared, "storage.data_dir": str(tmp_path / name), "cluster.node": name}
        for name in ("one", "other")
    }


@asynccontextmanager
async def nodes(
    place: dict[str, dict[str, object]], rules: str = "[]", *peers: str
) -> AsyncIterator[Nodes]:
    heard: list[Notice] = []
    async with _node(place["one"], rules, peers, heard, is_first=True) as one:
        is_own = place["one"] != place["other"]
        async with _node(place["other"], rules, peers, heard, is_first=is_own) as other:
            yield Nodes(one, other, heard)


@asynccontextmanager
async def _node(
    place: dict[str, object],
    rules: str,
    peers: tuple[str, ...],
    heard: list[Notice],
    *,
    is_first: bool,
) -> AsyncIterator[Node]:
    overrides: dict[str, Any] = {
        **place,
        "peers": list(peers),
        "rules": rules,
        "server.ae_title": "US",
        "forwarding.first_retry": 1.0,
        "jobs.first_retry": 0.05,
        "jobs.verify_nodes_every": 0,
    }
    settings = load_settings(environ={}, overrides=overrides)
    notices = Notices(heard.append)
    async with (
        composition.open_archive_parts(settings, shared=True, recover=is_first) as parts,
        trio.open_nursery() as nursery,
    ):
        registry, workflow = composition.build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices
        )
        for work in registry.background_tasks:
            nursery.start_soon(work)
        yield Node(settings, parts, workflow)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def committing_archive() -> AsyncIterator[tuple[ArchiveParts, int]]:
    """An archive that commits what it has, and its port."""
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry = composition.build_services(settings, parts.archive, parts.stores, None)
        for work in registry.background_tasks:
            nursery.start_soon(work)
        server = await nursery.start(
            partial(serve, registry, [ListenAddress(host="127.0.0.1", port=0)])
        )
        yield parts, port_of(server)
        nursery.cancel_scope.cancel()


async def fill(here: Nodes, count: int) -> None:
    """Objects, by turns on both."""
    for number in range(1, count + 1):
        node = here.one if number % 2 else here.other
        await store(node.parts.archive, number)


async def test_each_object_is_forwarded_once(place: dict[str, dict[str, object]]) -> None:
    a = Destination("A")
    async with (
        serving(Scripted([CT], a.perform)) as server,
        nodes(place, '[{ name = "r", forward = ["A"] }]', f"A@127.0.0.1:{port_of(server)}") as here,
    ):
        await fill(here, 20)
        await here.until_states({"done": 20})
        assert (await here.one.parts.stores.rule_history.counts())["r"].sent == 20
    assert Counter(a.received) == dict.fromkeys(map(uid, range(1, 21)), 1)


async def test_what_is_committed_elsewhere_leaves_once(
    place: dict[str, dict[str, object]],
) -> None:
    rule = '[{ name = "r", forward = ["PACS"], commit = true, delete_after = true }]'
    async with (
        committing_archive() as (there, port),
        nodes(place, rule, f"PACS@127.0.0.1:{port}") as here,
    ):
        await fill(here, 10)
        await here.until_states({"done": 10})
        assert await here.instances() == []
        kept = await there.archive.index.get([uid(number) for number in range(1, 11)])
        assert len(kept) == 10
        left = [notice for notice in here.heard if isinstance(notice, InstancesDeleted)]
        # Each is told of once, by whichever process it was.
        assert sum(notice.study.instances for notice in left) == 10


async def test_what_is_past_its_time_goes_once(place: dict[str, dict[str, object]]) -> None:
    a = Destination("A")
    rule = '[{ name = "r", forward = ["A"], delete_after_days = 3 }]'
    async with (
        serving(Scripted([CT], a.perform)) as server,
        nodes(place, rule, f"A@127.0.0.1:{port_of(server)}") as here,
    ):
        await fill(here, 6)
        await here.until_states({"done": 6})

        async def keep(node: Node, days: float) -> None:
            trash = trash_of(node.settings, node.parts, "test")
            assert trash is not None
            await keep_to(
                partial(retention_rules, node.settings, node.parts.archive),
                node.parts.stores.retention,
                trash,
                studies_per_minute=9,
                now=lambda: node.parts.stores.clock() + days * DAY,
            )

        both = (here.one, here.other)
        async with trio.open_nursery() as nursery:
            for node in both:
                nursery.start_soon(keep, node, 2.0)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert len(await here.instances()) == 6
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for node in both:
                nursery.start_soon(keep, node, 4.0)
            with trio.fail_after(PATIENCE):
                while await here.instances():
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked(0.02)
            nursery.cancel_scope.cancel()
        assert (await here.one.parts.stores.rule_history.counts())["r"].deleted == 6
        rows = await here.other.parts.stores.trash.rows()
        assert sum(row.instances for row in rows) == 6
        assert {row.deletion.cause for row in rows} == {DeletionCause.RETENTION}


async def test_both_may_synchronize_at_once(place: dict[str, dict[str, object]]) -> None:
    async with other_archive() as (there, port), nodes(place) as here:
        await here.one.parts.stores.nodes.add(new_node(f"ISOCENTER@127.0.0.1:{port}", "OTHER"))
        for number in range(2, 12):
            study = f"1.2.{number // 2}"
            await store(there.archive, number, data_set(number, study=study, series=f"{study}.1"))
        await store(here.one.parts.archive, 1)
        task = new_task(
            "t", "sync", "every 1d", zone="UTC", parameters={"node": "OTHER", "direction": "both"}
        )
        both = []
        for node in (here.one, here.other):
            assert node.workflow.destinations is not None
            await node.workflow.destinations.look()
            synchronizer = synchronizer_of(node.settings, node.parts, node.workflow)
            assert synchronizer is not None
            both.append(synchronizer)
        async with trio.open_nursery() as nursery:
            for synchronizer in both:
                nursery.start_soon(synchronizer.run, task, False)
        jobs = here.one.parts.stores.jobs
        with trio.fail_after(PATIENCE):
            while not all(job.state.is_final for job in await jobs.jobs(limit=99)):
                await trio.testing.wait_all_tasks_blocked(0.01)
        ended = await jobs.jobs(limit=99)
        assert {job.state for job in ended} == {JobState.COMPLETED}
        wanted = sorted(uid(number) for number in range(1, 12))
        assert await here.instances() == wanted
        assert len(await there.archive.index.get(wanted)) == 11
        # What one has asked for, the other has not asked for as well while it was under way.
        retrieved = [job for job in ended if job.request.kind.value == "retrieve"]
        assert sum(job.progress.done for job in retrieved) == 10
