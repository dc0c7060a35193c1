"""Events of print jobs and of the printer, as whoever prints hears them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from isocenter.engine.dimse.message_codec import NEventReportRequest, response_to
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.notices import Notices, PrintJobChanged
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.job import PrintJobState
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.storage.stores import open_sqlite_stores
from services.service_classes.print.samples import PrinterCaller, composed
from support.serving import port_of, serving


class Listener:
    """A provider that keeps the events that it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int, str]] = []
        self._came = trio.Event()

    async def __call__(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, NEventReportRequest)
        told = AttributeList.read(await operation.data_set(), EXPLICIT_VR_LITTLE_ENDIAN)
        self.events.append(
            (
                request.affected_sop_class_uid,
                request.affected_sop_instance_uid,
                request.event_type_id,
                told.text(0x21100020) or told.text(0x21000030),
            )
        )
        await operation.respond(response_to(request, 0))
        self._came.set()
        self._came = trio.Event()

    async def until(self, count: int) -> None:
        with trio.fail_after(120):
            while len(self.events) < count:
                await self._came.wait()


async def test_jobs_and_the_printer_are_told_of_as_they_change() -> None:
    told: list[Any] = []
    notices = Notices()
    notices.subscribe(told.append, [PrintJobChanged])
    async with open_sqlite_stores(":memory:") as stores:
        jobs = stores.print_jobs
        manager = PrintJobManager(jobs, most=9, notices=notices)
        scp = PrintScp(Printer(), manager, composed)
        contexts = [
            (uid, (EXPLICIT_VR_LITTLE_ENDIAN,)) for uid in (tags.GRAYSCALE_META, tags.PRINT_JOB)
        ]
        listener = Listener()
        async with serving(scp) as server, trio.open_nursery() as nursery:
            nursery.start_soon(scp.run)
            peer = Peer("PRINTER", "127.0.0.1", port_of(server))
            async with open_association(peer, contexts, provider=listener) as association:
                caller = PrinterCaller(association, scp, stores)
                assert await caller.session() == 0
                assert await caller.box() == 0
                assert await caller.image() == 0
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert await caller.print() == 0
                uid = caller.job
                job = await jobs.claim("w", 60)
                assert job is not None
                scp.job_changed(job)
                await listener.until(1)
                await jobs.again(job, "no paper", 0)
                scp.job_changed(job)
                await listener.until(3)
                job = await jobs.claim("w", 60)
                assert job is not None
                assert await jobs.settle(job, PrintJobState.DONE)
                manager.ended(job)
                scp.job_changed(job)
                await listener.until(5)
            nursery.cancel_scope.cancel()
    events = [event for event in listener.events if event[0] == tags.PRINT_JOB]
    assert {event[1] for event in events} == {uid}
    assert [event[2] for event in events] == [2, 1, 3]
    printer = [event[2:] for event in listener.events if event[0] == tags.PRINTER]
    assert printer == [(2, "CHECK PRINTER"), (1, "NORMAL")]
    assert [(each.what, each.films) for each in told] == [("submitted", 1), ("printing", 1)]
    assert told[0].caller.calling_ae_title == "ISOCENTER"


async def test_a_fault_of_ours_ends_no_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = trio.Event()

    async def broken(_: object) -> None:
        asked.set()
        raise ZeroDivisionError

    async with open_sqlite_stores(":memory:") as stores:
        manager = PrintJobManager(stores.print_jobs, most=9, notices=Notices())
        scp = PrintScp(Printer(), manager, composed)
        contexts = [
            (uid, (EXPLICIT_VR_LITTLE_ENDIAN,)) for uid in (tags.GRAYSCALE_META, tags.PRINT_JOB)
        ]
        async with serving(scp) as server, trio.open_nursery() as nursery:
            nursery.start_soon(scp.run)
            peer = Peer("PRINTER", "127.0.0.1", port_of(server))
            async with open_association(peer, contexts, provider=Listener()) as association:
                caller = PrinterCaller(association, scp, stores)
                monkeypatch.setattr(stores.print_jobs, "states", broken)
                assert await caller.session() == 0
                assert await caller.box() == 0
                assert await caller.image() == 0
                assert await caller.print() == 0
                job = await stores.print_jobs.claim("w", 60)
                assert job is not None
                scp.job_changed(job)
                with trio.fail_after(120):
                    await asked.wait()
            async with open_association(peer, contexts, provider=Listener()) as association:
                assert await PrinterCaller(association, scp, stores).session() == 0
            nursery.cancel_scope.cancel()
    assert "internal error (ZeroDivisionError)" in caplog.text
