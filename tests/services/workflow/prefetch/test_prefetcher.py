"""Priors of scheduled patients, fetched from another archive in the same event loop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from isocenter.services import composition
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.jobs import node_finder, node_opener
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.notices import Notices
from isocenter.services.service_classes.worklist.entry import Entry, EntryState
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobState
from isocenter.services.workflow.nodes.node import new_node
from isocenter.services.workflow.prefetch import prefetcher as prefetcher_module
from isocenter.services.workflow.prefetch.prefetcher import Prefetcher, PrefetchOptions
from isocenter.services.workflow.prefetch.priors import PriorRules
from services.archive_support import data_set, store, uid
from services.service_classes.worklist.samples import entry as sample
from support.ports import free_port
from support.serving import port_of

TODAY = date(2026, 11, 30)


@dataclass
class World:
    """An archive with a worklist, the one with the priors, and what fetches them."""

    here: ArchiveParts
    there: ArchiveParts
    prefetcher: Prefetcher

    async def jobs(self) -> list[Job]:
        return list(await self.here.stores.jobs.jobs(limit=100))[::-1]

    async def wanted(self) -> list[str]:
        return [job.request.keys[0][1] for job in await self.jobs()]

    async def schedule(self, *entries: Entry) -> None:
        await self.here.stores.worklist.put(entries, source="command")


def entry(step: str = "S1", patient: str = "P1", day: str = "20261201") -> Entry:
    return sample(
        step_id=step, accession_no=f"A{step}", patient_id=patient, scheduled_datetime=f"{day}090000"
    )


@asynccontextmanager
async def world(
    *, interval: float = 0.0, most_per_minute: int = 0, **rules: int
) -> AsyncIterator[World]:
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with (
        composition.open_archive_parts(settings) as here,
        composition.open_archive_parts(settings) as there,
        trio.open_nursery() as nursery,
    ):
        registry = composition.build_services(settings, there.archive, there.stores, None)
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        server = await nursery.start(partial(serve, registry, binds))
        assert await here.stores.nodes.add(new_node(f"OLD@127.0.0.1:{port_of(server)}"))
        prefetcher = Prefetcher(
            here.stores.worklist,
            here.archive.index,
            JobDesk(here.stores.jobs, lambda: None),
            node_finder(here.stores.nodes, {}),
            node_opener(
                settings,
                OutgoingAssociations(settings, None),
                here.archive,
                Notices(),
                is_serving=False,
            ),
            PrefetchOptions(
                nodes=("OLD",),
                rules=PriorRules(**rules),
                pause=0.001,
                interval=interval,
                most_per_minute=most_per_minute,
            ),
            today=lambda: TODAY,
        )
        yield World(here, there, prefetcher)
        nursery.cancel_scope.cancel()


async def put_study(parts: ArchiveParts, number: int, day: str, patient: str = "P1") -> None:
    data = data_set(
        number, study=f"1.2.{number}", series=f"1.2.{number}.1", study_date=day, patient_id=patient
    )
    await store(parts.archive, number, data)


async def test_priors_of_who_is_scheduled_become_jobs_once() -> None:
    async with world(most=2) as found:
        for number, day in enumerate(("20200101", "20240101", "20250101", "20260101"), 1):
            await put_study(found.there, number, day)
        await put_study(found.there, 9, "20260101", patient="P2")
        await found.schedule(entry(), entry("S2", "P3"), entry("S3", "P2", day="20261205"))
        assert await found.prefetcher.look() == 2
        assert await found.wanted() == ["1.2.4", "1.2.3"]
        (first, *_) = await found.jobs()
        assert (first.request.node, first.request.requested_by) == ("OLD", "prefetch")
        assert await found.prefetcher.look() == 0, "it was looked at"
        assert await found.prefetcher.look() == 0


async def test_what_is_here_already_is_not_fetched_unless_the_node_has_more() -> None:
    async with world() as found:
        for number in (1, 2):
            await put_study(found.there, number, "20260101")
            await put_study(found.here, number, "20260101")
        more = data_set(
            22, instance=uid(22), study="1.2.2", series="1.2.2.1", study_date="20260101"
        )
        await store(found.there.archive, 22, more)
        await found.schedule(entry())
        await found.prefetcher.look()
        assert await found.wanted() == ["1.2.2"]


async def test_jobs_of_what_is_called_off_are_cancelled() -> None:
    async with world() as found:
        await put_study(found.there, 1, "20260101")
        await put_study(found.there, 2, "20260101", patient="P2")
        await found.schedule(entry(), entry("S2", "P2"))
        assert await found.prefetcher.look() == 2
        worklist = found.here.stores.worklist
        await worklist.set_state(entry().key, EntryState.DISCONTINUED)
        await worklist.set_state(entry("S2", "P2").key, EntryState.STARTED)
        await found.prefetcher.look()
        assert {job.request.keys[0][1]: job.state for job in await found.jobs()} == {
            "1.2.1": JobState.CANCELLED,
            "1.2.2": JobState.WAITING,
        }


async def test_a_node_that_is_away_is_asked_again_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "isocenter.prefetch")
    async with world() as found:
        await put_study(found.there, 1, "20260101")
        nodes = found.here.stores.nodes
        (node,) = await nodes.all()
        await nodes.remove("OLD")
        assert await nodes.add(new_node(f"OLD@127.0.0.1:{free_port()}"))
        await found.schedule(entry())
        assert [await found.prefetcher.look() for _ in range(2)] == [0, 0]
        assert caplog.text.count("no priors from node 'OLD'") == 1
        await nodes.remove("OLD")
        await nodes.add(node)
        assert await found.prefetcher.look() == 1


@pytest.mark.parametrize("patient", ["*", "P?", "P*1"])
async def test_a_patient_id_that_would_match_others_asks_nobody(patient: str) -> None:
    async with world() as found:
        await put_study(found.there, 1, "20260101")
        await found.schedule(entry(patient=patient))
        assert await found.prefetcher.look() == 0
        assert await found.jobs() == []


async def test_a_node_is_asked_so_much_in_a_minute_and_the_rest_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(most=5, most_per_minute=2) as found:
        for number in range(1, 5):
            await put_study(found.there, number, f"2026010{number}")
        await found.schedule(entry())
        assert await found.prefetcher.look() == 2
        assert await found.prefetcher.look() == 0
        monkeypatch.setattr(prefetcher_module, "_MINUTE_SECONDS", 0.0)
        assert await found.prefetcher.look() == 2
        assert await found.wanted() == ["1.2.4", "1.2.3", "1.2.2", "1.2.1"]


async def test_a_node_that_does_not_answer_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(interval=300.0) as found:
        nodes = found.here.stores.nodes
        (node,) = await nodes.all()
        await nodes.remove("OLD")
        assert await nodes.add(new_node(f"OLD@127.0.0.1:{free_port()}"))
        await found.schedule(entry(), entry("S2", "P2"), entry("S3", "P3"))
        await found.prefetcher.look()
        await nodes.remove("OLD")
        assert await nodes.add(new_node(node.address, "OLD"))
        await put_study(found.there, 1, "20260101")
        assert await found.prefetcher.look() == 0, "it rests"
        later = trio.current_time() + 301.0
        # Of the module alone: all of trio would sleep until then.
        moved = SimpleNamespace(current_time=lambda: later, sleep=trio.sleep)
        monkeypatch.setattr(prefetcher_module, "trio", moved)
        assert await found.prefetcher.look() == 1
