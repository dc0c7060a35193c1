"""The judge of late writes finds them where the product does not refuse them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from isocenter.services.cluster import leasing
from isocenter.services.cluster.leasing import LEASE_SECONDS
from isocenter.services.errors import StorageError
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.storage.database import fencing
from isocenter.storage.database.jobs import claims, queue
from isocenter.storage.stores import StoresOptions, join_stores
from simulation.judge import CLAIM, GIVEN_UP, LEASE, JudgedDatabase, WatchedLeasing
from simulation.links import Link, Trouble
from simulation.world import World
from support.virtual_database import database_clock, database_server

Spoil = Callable[[pytest.MonkeyPatch], None]


def _nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def _without_claim(module: ModuleType, name: str) -> Spoil:
    def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, name, getattr(module, name).replace("AND claims = :claim", ""))

    return spoil


def _end(jobs: Any, job: Job) -> Any:
    return jobs.end(job, JobState.COMPLETED)


def _release(jobs: Any, job: Job) -> Any:
    return jobs.release(job)


def _give_way(jobs: Any, job: Job) -> Any:
    return jobs.give_way(job)


def _again(jobs: Any, job: Job) -> Any:
    return jobs.again(job, "it is away", 1.0)


def _fences_without_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "_check", lambda connection, fences: None)


def _leases_without_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        def get(self) -> tuple[()]:
            return ()

        def set(self, fences: object) -> None:
            pass

        def reset(self, token: object) -> None:
            pass

    monkeypatch.setattr(leasing, "HELD", Held())


@pytest.mark.parametrize("is_found", [False, True])
@pytest.mark.parametrize(
    ("late", "spoil"),
    [
        (_end, _without_claim(queue, "END")),
        (_release, _without_claim(queue, "RELEASE")),
        (_give_way, _without_claim(queue, "GIVE_WAY")),
        (_again, _without_claim(claims, "AGAIN")),
    ],
)
async def test_a_job_is_not_given_up_by_whoever_slept_with_that_in_hand(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    late: Callable[[Any, Job], Any],
    spoil: Spoil,
    is_found: bool,
) -> None:
    if is_found:
        spoil(monkeypatch)
    world = World(0)
    with database_server() as server:
        links = [Link(world, name, Trouble()) for name in ("one", "other")]
        one, other = (
            join_stores(JudgedDatabase(server, link), StoresOptions(now=database_clock)).jobs
            for link in links
        )
        await one.submit(JobRequest(kind=JobKind.VERIFY, node=""))
        claimed = await one.claim("one", 60.0, not_for=())
        assert claimed is not None
        async with trio.open_nursery() as nursery:
            for kind in (CLAIM, GIVEN_UP):
                links[0].pause_at(kind, 100.0)
            nursery.start_soon(late, one, claimed)
            await trio.sleep(70)
            assert await other.claim("other", 60.0, not_for=()) is not None
    assert any("writes too late" in line for line in world.last_lines)
    assert bool(world.violations) is is_found


@pytest.mark.parametrize(
    ("spoil", "is_found"),
    [(_nothing, False), (_fences_without_check, True), (_leases_without_fence, True)],
)
async def test_nothing_is_written_by_whoever_slept_through_its_lease(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, is_found: bool
) -> None:
    spoil(monkeypatch)
    world = World(0)
    with database_server() as server:
        link = Link(world, "one", Trouble())
        stores: Any = join_stores(JudgedDatabase(server, link), StoresOptions(now=database_clock))

        async def change() -> None:
            async with WatchedLeasing(stores.leases).hold("trash"):
                link.pause_at(LEASE, 10 * LEASE_SECONDS)
                await stores.jobs.submit(JobRequest(kind=JobKind.VERIFY, node=""))
                await trio.sleep_forever()

        with pytest.raises(StorageError):
            await change()
    assert any("writes too late" in line for line in world.last_lines)
    assert bool(world.violations) is is_found
