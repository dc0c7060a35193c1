"""Events beside a server: refusals, open studies, and who is on duty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services import composition
from isocenter.services.composition.events import build_events
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.notices import (
    AccessDenied,
    AssociationRejected,
    Caller,
    ConnectionRefused,
    EventBacklogMeasured,
    EventDelivery,
    ForwardAttempted,
    Notice,
    Notices,
    RefusalReason,
)
from isocenter.services.settings.loading import load_settings
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.workflow.events import service as keeping_module
from isocenter.services.workflow.events.consumer import Consumer, PythonFunction, Webhook
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.events.targets import ConsumerError
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.events.open_studies import DatabaseOpenStudies
from isocenter.storage.database.events.outbox import DatabaseOutbox
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from services.service_classes.commitment.peers import Clock
from services.workflow.events.hooks import webhook
from storage.database.events.test_events import record

RULES = CompletionRules(quiet_seconds=60, settle_seconds=5)
SECONDS = 120.0
CALLER = Caller(
    association="a-1",
    address="[::1]:49152",
    calling_ae_title="STRANGER",
    called_ae_title="ISOCENTER",
)


async def always(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def never(work: Callable[[], Awaitable[None]]) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def kept(
    database: SqliteDatabase,
    *consumers: Consumer,
    clock: Clock | None = None,
    duty: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] = always,
    heard: list[Notice] | None = None,
) -> AsyncIterator[EventService]:
    clock = clock or Clock()
    notices = Notices() if heard is None else Notices(heard.append)
    keeping = EventService(
        DatabaseOutbox(database, now=clock),
        DatabaseOpenStudies(database, now=clock),
        rules=RULES,
        consumers=consumers,
        keep_seconds=86_400.0,
        on_duty=duty,
        notices=notices,
        now=clock,
    )
    await keeping.begin()
    notices.subscribe(keeping.on_notice)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeping.run)
        yield keeping
        nursery.cancel_scope.cancel()


async def until(database: SqliteDatabase, count: int) -> Sequence[StoredEvent]:
    with trio.fail_after(SECONDS):
        while True:
            events = await DatabaseEventLog(database).events(EventSelection(after=0))
            if len(events) >= count:
                return events
            await trio.sleep(0.01)


async def test_refusals_become_events() -> None:
    async with open_sqlite_database(":memory:") as database, kept(database, duty=never) as keeping:
        refused = ConnectionRefused(
            address="10.0.0.9:1234", refusal=RefusalReason.TLS_HANDSHAKE, detail="no certificate"
        )
        rejected = AssociationRejected(
            caller=CALLER, result=1, source=1, reason=3, why="'STRANGER' is not known"
        )
        denied = AccessDenied(
            caller=CALLER, command="C-FIND", sop_class_uid="1.2", why="may not query"
        )
        for notice in (refused, rejected, rejected, denied):
            keeping.on_notice(notice)
        events = [each.members() for each in await until(database, 3)]
        assert [(e["what"], e["address"], e["why"], e["count"]) for e in events] == [
            ("connection", "10.0.0.9", "no certificate", 1),
            ("association", "[::1]", "'STRANGER' is not known", 2),
            ("operation", "[::1]", "C-FIND: may not query", 1),
        ]
        assert events[1]["calling_ae_title"] == "STRANGER"


async def test_failed_forwarding_becomes_an_event_with_its_objects() -> None:
    async with open_sqlite_database(":memory:") as database, kept(database, duty=never) as keeping:
        for outcome, objects in (
            ("delivered", 7), ("failed", 2), ("failed", 3), ("given_up", 1),
        ):  # fmt: skip
            keeping.on_notice(
                ForwardAttempted(destination="PACS2", outcome=outcome, objects=objects)
            )
        events = [each.members() for each in await until(database, 2)]
        assert [(e["kind"], e["destination"], e["is_given_up"], e["count"]) for e in events] == [
            ("forward.failed", "PACS2", False, 5),
            ("forward.failed", "PACS2", True, 1),
        ]


async def test_a_flood_of_refusals_is_few_events() -> None:
    async with open_sqlite_database(":memory:") as database, kept(database, duty=never) as keeping:
        for number in range(1_000):
            keeping.on_notice(
                ConnectionRefused(
                    address=f"10.0.{number // 250}.{number % 250}:1",
                    refusal=RefusalReason.TOO_MANY,
                    detail="too many",
                )
            )
        events = [each.members() for each in await until(database, 21)]
        assert len(events) == 21
        assert (events[-1]["what"], events[-1]["count"]) == ("others", 980)


class _Times:
    """An outbox that notes when how many events are written."""

    def __init__(self) -> None:
        self.writes: list[tuple[float, int]] = []

    async def begin(self, consumers: object) -> None:
        pass

    async def write(self, events: Sequence[object]) -> None:
        self.writes.append((trio.current_time(), len(events)))


async def test_after_a_flood_refusals_are_told_more_rarely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outbox = _Times()
    keeping = EventService(
        outbox,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        rules=RULES,
        consumers=[],
        keep_seconds=1.0,
        on_duty=never,
        notices=Notices(),
    )
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeping.run)
        for second in range(200):
            for number in range(50 if second < 100 else 1):
                keeping.on_notice(
                    ConnectionRefused(
                        address=f"10.0.0.{number}:1", refusal=RefusalReason.TOO_MANY, detail="no"
                    )
                )
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    writes = [(round(at - start), count) for at, count in outbox.writes]
    # A stranger's 50 a second are 21 a minute, and not 21 every five seconds.
    assert writes[:3] == [(0, 21), (60, 21), (120, 21)]
    assert writes[3:5] == [(180, 1), (185, 1)]


async def test_a_study_becomes_complete_and_that_is_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(keeping_module, "_FIGURES_SECONDS", 0.01)
    clock, heard = Clock(), list[Notice]()
    with webhook() as hook:
        consumer = Consumer(name="ris", target=Webhook(url=hook.url), kinds=("study.complete",))
        async with (
            open_sqlite_database(":memory:") as database,
            kept(database, consumer, clock=clock, heard=heard),
        ):
            writer = EventHooks(RULES, now=clock)
            await DatabaseIndex(database, on_add=[writer.stored]).add([record(1)])
            await until_told(heard, EventBacklogMeasured(waiting={"ris": 0}, receiving=1))
            assert hook.all == []
            clock.now += 60
            await trio.to_thread.run_sync(hook.wait, len)
            await until_told(heard, EventDelivery(consumer="ris", outcome="delivered"))
            await until_told(heard, EventBacklogMeasured(waiting={"ris": 0}, receiving=0))
        assert hook.all[0].event["reason"] == "quiet"


async def until_told(heard: list[Notice], notice: Notice) -> None:
    with trio.fail_after(SECONDS):
        while notice not in heard:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_one_process_delivers_and_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.services.system.exclusive_task.LOOK_SECONDS", 0.01)
    path, clock = tmp_path / "index.db", Clock()

    async def duty(work: Callable[[], Awaitable[None]]) -> None:
        await run_exclusively(tmp_path / "events.lock", work)

    with webhook() as hook:
        consumer = Consumer(name="ris", target=Webhook(url=hook.url))
        async with (
            open_sqlite_database(path) as one,
            open_sqlite_database(path) as two,
            trio.open_nursery() as nursery,
        ):
            writer = EventHooks(RULES, now=clock)
            indexes = [DatabaseIndex(each, on_add=[writer.stored]) for each in (one, two)]
            await DatabaseOutbox(two).begin(["ris"])
            first = trio.CancelScope()

            async def run_first() -> None:
                with first:
                    async with kept(one, consumer, clock=clock, duty=duty):
                        await trio.sleep_forever()

            nursery.start_soon(run_first)
            await indexes[1].add([record(1)])
            # It was written through the other connection, as by another process.
            with trio.fail_after(2 * SECONDS):
                async with kept(two, consumer, clock=clock, duty=duty):
                    await indexes[1].add([record(1, study="1.2.3")])
                    await trio.to_thread.run_sync(hook.wait, lambda events: len(events) >= 6)
                    # How far it got is kept, too.
                    while await DatabaseOutbox(two).backlog("ris", consumer.kinds):  # noqa: ASYNC110
                        await trio.sleep(0.01)
                    first.cancel()
                    await indexes[1].add([record(2, study="1.2.3")])
                    await trio.to_thread.run_sync(hook.wait, lambda events: len(events) >= 7)
            nursery.cancel_scope.cancel()
        numbers = [event["id"] for event in hook.accepted]
    # Two that delivered would deliver twice.
    assert sorted(numbers) == list(range(1, 8))


async def test_events_that_are_switched_off_are_not_written(tmp_path: Path) -> None:
    for enabled in (False, True):
        settings = load_settings(
            None,
            {},
            {"storage.data_dir": tmp_path / str(enabled), "events.enabled": enabled},
        )
        async with composition.open_archive_parts(settings) as parts:
            events = await build_events(settings, parts, None, Notices(), {})
            assert (events is not None) == enabled
            await parts.stores.index.add([record(1)])
            assert bool(await parts.stores.event_log.last_number()) == enabled


def test_they_are_counted() -> None:
    metrics = Metrics(version="1")
    metrics.on_notice(EventDelivery(consumer="ris", outcome="given up"))
    metrics.on_notice(EventBacklogMeasured(waiting={"ris": 7}, receiving=3))
    page = metrics.page().decode()
    for line in (
        'isocenter_event_deliveries_total{consumer="ris",outcome="given_up"} 1.0',
        'isocenter_events_waiting{consumer="ris"} 7.0',
        "isocenter_studies_receiving 3.0",
    ):
        assert f"\n{line}\n" in page


def test_a_consumer_that_cannot_be_used_is_told_at_once() -> None:
    with pytest.raises(ConsumerError, match=r"cannot import no\.such:function"):
        EventService(
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            rules=RULES,
            consumers=[Consumer(name="x", target=PythonFunction("no.such:function"))],
            keep_seconds=1.0,
            on_duty=always,
            notices=Notices(),
        )
