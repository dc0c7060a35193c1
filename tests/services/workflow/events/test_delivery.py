"""Delivery: at least once, in the order of each study, and nobody waits for another's fault."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from isocenter.services.errors import StorageError
from isocenter.services.workflow.events import delivery as delivery_module
from isocenter.services.workflow.events.consumer import Consumer, PythonFunction, Webhook
from isocenter.services.workflow.events.delivery import (
    ConsumerDelivery,
    retry_in,
)
from isocenter.services.workflow.events.event import Event, Kind
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.events.outbox import DatabaseOutbox, insert_events
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from services.service_classes.commitment.peers import Clock
from services.workflow.events.hooks import Hook, webhook
from services.workflow.events.samples import complete_study, opened_study

KINDS = tuple(kind.value for kind in Kind)
SECONDS = 120.0

#: Until the first attempt after one that failed.
FIRST_SECONDS = 5.0


class Site:
    """An index, and consumers that are delivered to."""

    def __init__(self, database: SqliteDatabase, clock: Callable[[], float]) -> None:
        self.database = database
        self.clock = clock
        self.outbox = DatabaseOutbox(database, now=clock)
        self.desk = DatabaseEventLog(database, now=clock)
        self.outcomes: list[str] = []

    async def happen(self, *studies: str | Event) -> None:
        """An event of each of the studies, in one transaction."""
        events = [opened_study(each) if isinstance(each, str) else each for each in studies]

        def write(connection: Any) -> None:
            insert_events(connection, events, self.clock())

        await self.database.write(write)

    @asynccontextmanager
    async def delivering(
        self, consumer: Consumer, outbox: Any = None
    ) -> AsyncIterator[ConsumerDelivery]:
        delivery = ConsumerDelivery(
            consumer,
            outbox or self.outbox,
            told=lambda name, outcome: self.outcomes.append(outcome),
            now=self.clock,
        )
        await self.outbox.begin([consumer.name])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.run)
            yield delivery
            nursery.cancel_scope.cancel()

    async def until_idle(self, name: str = "ris") -> None:
        """All was delivered or given up, and that is kept."""
        with trio.fail_after(SECONDS):
            while await self.outbox.backlog(name, KINDS):  # noqa: ASYNC110 (the database's)
                await trio.sleep(0.01)

    async def until_failing(self, studies: int, *, attempts: int = 1) -> None:
        """So many studies are held, after so many attempts, and that is kept."""
        with trio.fail_after(SECONDS):
            while True:
                held = await self.desk.held(["ris"], 99)
                if [each.attempts >= attempts for each in held] == [True] * studies:
                    return
                await trio.sleep(0.01)


@asynccontextmanager
async def site(clock: Callable[[], float] | None = None) -> AsyncIterator[Site]:
    async with open_sqlite_database(":memory:") as database:
        yield Site(database, clock or Clock())


def ris(hook: Hook, **options: Any) -> Consumer:
    return Consumer(name="ris", target=Webhook(url=hook.url), **options)


def studies_of(events: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(event["id"], event["study_instance_uid"]) for event in events]


async def wait(hook: Hook, count: int) -> list[dict[str, Any]]:
    """Until it took so many events."""
    return await trio.to_thread.run_sync(hook.wait, lambda events: len(events) >= count)


async def test_events_come_in_order_and_the_filter_holds() -> None:
    with webhook() as hook:
        async with site() as here:
            async with here.delivering(ris(hook)):
                await here.happen("1", "1", "2")
                await here.happen("1")
                events = await wait(hook, 4)
                await here.until_idle()
            assert [n for n, study in studies_of(events) if study == "1"] == [1, 2, 4]
            assert here.outcomes == ["delivered"] * 4
            async with here.delivering(
                Consumer(name="two", target=Webhook(url=hook.url), kinds=("study.complete",))
            ):
                await here.happen("3")
                await here.happen(complete_study("3"))
                assert studies_of(await wait(hook, 5))[4:] == [(6, "3")]


async def test_a_study_that_fails_holds_up_itself_alone() -> None:
    clock = Clock()
    with webhook() as hook:
        hook.status = lambda event: 500 if event["study_instance_uid"] == "1" else 204
        async with site(clock) as here, here.delivering(ris(hook)) as delivery:
            await here.happen("1", "2", "1", "3")
            await wait(hook, 2)
            await here.until_failing(1)
            (held,) = await here.desk.held(["ris"], 9)
            assert (held.study_instance_uid, held.event, held.fault) == ("1", 1, "HTTP 500")
            assert held.at == clock.now + FIRST_SECONDS
            await here.happen("2")
            delivery.wake()
            assert studies_of(await wait(hook, 3))[-1] == (5, "2")
            # Nothing of it is tried before its time.
            assert [each.event["id"] for each in hook.all if each.event["id"] in (1, 3)] == [1]
            hook.status = lambda event: 204
            clock.now += FIRST_SECONDS
            delivery.wake()
            assert studies_of(await wait(hook, 5))[-2:] == [(1, "1"), (3, "1")]
            again = [each for each in hook.all if each.event["id"] == 1]
            assert [each.headers["Isocenter-Delivery"] for each in again] == [
                "ris-1-1", "ris-1-2",
            ]  # fmt: skip
            await here.until_idle()
            assert await here.desk.held(["ris"], 9) == []


async def test_what_is_given_up_lets_the_next_go_on() -> None:
    clock = Clock()
    with webhook() as hook:
        hook.status = lambda event: 500 if event["id"] == 1 else 204
        async with site(clock) as here, here.delivering(ris(hook, give_up_after=12)) as delivery:
            await here.happen("1", "1")
            await here.until_failing(1)
            for attempts, seconds in ((2, 5), (3, 10)):
                clock.now += seconds
                delivery.wake()
                await here.until_failing(1, attempts=attempts)
            assert studies_of(await wait(hook, 1)) == [(2, "1")]
            await here.until_idle()
            (dead,) = await here.desk.held(["ris"], 9)
            assert (dead.event, dead.attempts, dead.is_dead) == (1, 3, True)
            (row,) = await here.desk.consumers({"ris": KINDS})
            assert (row.dead, row.held, row.delivered, row.last_fault) == (1, 0, 1, "HTTP 500")
        assert here.outcomes == ["failed", "failed", "given up", "delivered"]


async def test_what_is_as_old_is_given_up_with_it() -> None:
    clock = Clock()
    with webhook() as hook:
        hook.status = lambda event: 500
        async with site(clock) as here, here.delivering(ris(hook, give_up_after=12)) as delivery:
            await here.happen("1", "2", "1", "1")
            await here.until_failing(2)
            clock.now += 5
            await here.happen("1")
            delivery.wake()
            await here.until_failing(2, attempts=2)
            clock.now += 10
            delivery.wake()
            with trio.fail_after(SECONDS):
                while True:
                    rows = await here.desk.held(["ris"], 9)
                    if len(rows) == 5:
                        break
                    await trio.sleep(0.01)
    given_up = sorted((row.event, row.attempts) for row in rows if row.is_dead)
    assert given_up == [(1, 3), (2, 3), (3, 1), (4, 1)]  # not another 12 seconds each
    assert [row.event for row in rows if not row.is_dead] == [5]  # which is younger


async def test_a_consumer_that_cannot_be_used_later_on_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery_module, "_REOPEN_SECONDS", 0.01)
    secret = tmp_path / "secret"
    with webhook() as hook:
        target = Webhook(url=hook.url, secret_file=secret)
        async with site() as here, here.delivering(Consumer(name="ris", target=target)):
            await here.happen("1")
            with trio.fail_after(SECONDS):
                while "cannot read" not in caplog.text:  # noqa: ASYNC110 (the log's)
                    await trio.sleep(0.01)
            secret.touch(0o600)
            secret.write_text("s3cret")
            assert studies_of(await wait(hook, 1)) == [(1, "1")]


class _FirstFails:
    """An outbox whose database is away when it is asked first."""

    def __init__(self, outbox: DatabaseOutbox) -> None:
        self._outbox = outbox
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def position(self, consumer: str) -> int:
        if not self.failed:
            self.failed += 1
            raise StorageError("the disk is away")
        return await self._outbox.position(consumer)


async def test_a_database_that_is_away_at_the_beginning_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery_module, "_REST_SECONDS", 0.01)
    with webhook() as hook:
        async with site() as here:
            outbox = _FirstFails(here.outbox)
            async with here.delivering(ris(hook), outbox):
                await here.happen("1")
                assert studies_of(await wait(hook, 1)) == [(1, "1")]
    assert outbox.failed == 1


async def test_what_hangs_again_leaves_places_to_others() -> None:
    clock = Clock()
    released = threading.Event()

    def status(event: dict[str, Any]) -> int:
        if event["study_instance_uid"] != "new":
            released.wait(SECONDS)
        return 204

    with webhook() as hook:
        hook.status = lambda event: 500
        async with site(clock) as here, here.delivering(ris(hook, concurrency=2)) as delivery:
            try:
                await here.happen("1", "2", "3")
                await here.until_failing(3)
                hook.status = status
                clock.now += FIRST_SECONDS
                delivery.wake()
                await here.happen("new")
                delivery.wake()
                assert studies_of(await wait(hook, 1)) == [(4, "new")]
            finally:
                released.set()
            delivery.wake()
            await wait(hook, 4)


async def test_what_failed_has_its_turn_among_many_that_did_not() -> None:
    clock = Clock()
    begun: list[str] = []
    two, released = threading.Semaphore(0), threading.Event()

    def status(event: dict[str, Any]) -> int:
        begun.append(event["study_instance_uid"])
        two.release()
        released.wait(SECONDS)
        return 204

    with webhook() as hook:
        hook.status = status
        async with site(clock) as here:
            await here.outbox.begin(["ris"])
            await here.happen("failed")
            await here.outbox.route("ris", KINDS, 0)
            (lane,) = await here.outbox.lanes("ris", 9, failing=False, not_for=())
            (event,) = await here.outbox.waiting("ris", KINDS, lane, 9)
            await here.outbox.failed("ris", lane, event, "HTTP 500", 5.0, 0)
            await here.happen(*map(str, range(10)))
            clock.now += 5
            async with here.delivering(ris(hook, concurrency=2)):
                for _ in range(2):
                    await trio.to_thread.run_sync(two.acquire, True, SECONDS)
                assert "failed" in begun
                released.set()
                await wait(hook, 11)


async def test_a_long_study_leaves_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_TURN_EVENTS", 5)
    with webhook() as hook:
        async with site(FastClock()) as here:
            await here.outbox.begin(["ris"])
            await here.happen(*["1"] * 20, "2")
            async with here.delivering(ris(hook, concurrency=1)):
                events = studies_of(await wait(hook, 21))
                await here.until_idle()
    assert events.index((21, "2")) == 5
    assert [number for number, study in events if study == "1"] == list(range(1, 21))


async def test_what_was_delivered_is_kept_when_the_server_stops() -> None:
    arrived, released = threading.Event(), threading.Event()

    def status(event: dict[str, Any]) -> int:
        if event["id"] == 3:
            arrived.set()
            released.wait(SECONDS)
        return 204

    with webhook() as hook:
        hook.status = status
        async with site() as here:
            await here.outbox.begin(["ris"])
            await here.happen("1", "1", "1", "1")
            async with here.delivering(ris(hook)):
                await trio.to_thread.run_sync(arrived.wait, SECONDS)
            released.set()
            (lane,) = await here.outbox.lanes("ris", 9, failing=False, not_for=())
            assert (lane.from_event, lane.attempts) == (3, 0)
            hook.status = lambda event: 204
            async with here.delivering(ris(hook)):
                await here.until_idle()
    # The third was under way: it comes once more, those before it do not.
    assert [each.event["id"] for each in hook.all] == [1, 2, 3, 3, 4]


async def test_an_error_of_ours_is_a_fault_of_one_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with webhook() as hook:
        async with site() as here:
            await here.outbox.begin(["ris"])
            await here.happen("1", "2")

            def spoil(connection: Any) -> None:
                connection.execute("UPDATE event SET body = '{' WHERE event_pk = 1")

            await here.database.write(spoil)
            async with here.delivering(ris(hook)):
                assert studies_of(await wait(hook, 1)) == [(2, "2")]
                await here.until_failing(1)
                (held,) = await here.desk.held(["ris"], 9)
    assert (held.event, held.fault) == (1, "JSONDecodeError")
    assert "event 1: a delivery failed" in caplog.text


def test_intervals_grow_to_the_longest_and_end() -> None:
    consumer = Consumer(
        name="x", target=Webhook(url=""), longest_retry=900.0, give_up_after=10_000.0
    )
    intervals = [retry_in(consumer, n, 0.0, None if n == 0 else 0.0, 9_999.0) for n in range(10)]
    assert intervals == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert retry_in(consumer, 10**9, 0.0, 0.0, 9_999.0) == 900
    assert retry_in(consumer, 3, 0.0, 0.0, 10_000.0) is None
    assert retry_in(consumer, 0, 0.0, None, 1e12) == 5
    # An event that came when others of its study failed already has its own time.
    assert retry_in(consumer, 3, 5_000.0, 0.0, 10_000.0) == 40
    assert retry_in(consumer, 3, 5_000.0, 0.0, 15_000.0) is None


class Faulty:
    """An outbox whose database fails now and then, after what it was asked for, or before."""

    def __init__(self, outbox: DatabaseOutbox, random: Random) -> None:
        self._outbox = outbox
        self._random = random

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._outbox, name)

        async def call(*args: Any, **options: Any) -> Any:
            fate = self._random.random()
            if fate < 0.1:
                raise StorageError("the disk is away")
            result = await method(*args, **options)
            if fate < 0.2:
                raise StorageError("the disk went away")
            return result

        return call


_function: Callable[[dict[str, Any]], None] = lambda event: None  # noqa: E731


def _called(event: dict[str, Any]) -> None:
    _function(event)


async def test_a_database_that_cannot_be_written_floods_no_consumer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery_module, "_GATHER_SECONDS", 0.0)

    class Full:
        """Each outcome is refused."""

        def __init__(self, outbox: DatabaseOutbox) -> None:
            self._outbox = outbox
            self.refused = trio.Event()
            self.looks = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._outbox, name)

        async def lanes(self, *words: Any, **options: Any) -> Any:
            self.looks += 1
            return await self._outbox.lanes(*words, **options)

        async def advance(self, *_: object) -> None:
            self.refused.set()
            raise StorageError("no space left")

    with webhook() as hook:
        async with site() as here:
            await here.outbox.begin(["ris"])
            await here.happen("1")
            full = Full(here.outbox)
            async with here.delivering(ris(hook), full) as delivery:
                with trio.fail_after(SECONDS):
                    await full.refused.wait()
                    until = full.looks + 10
                    while full.looks < until:
                        delivery.wake()
                        await trio.lowlevel.checkpoint()
    assert len(hook.all) == 1


class FastClock:
    """Each look at it finds it an hour later: whatever waits is due."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 3_600.0
        return self.now


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_every_event_comes_in_the_order_of_its_study(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries fail, the database fails, the process ends and begins, at random."""
    random = Random(seed)
    monkeypatch.setattr(delivery_module, "_GATHER_SECONDS", 0.0)
    monkeypatch.setattr(delivery_module, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(delivery_module, "_REST_SECONDS", 0.005)
    monkeypatch.setattr(delivery_module, "_TURN_EVENTS", 3)
    monkeypatch.setitem(sys.modules, "site_delivery", sys.modules[__name__])
    taken: list[tuple[int, str]] = []

    def take(event: dict[str, Any]) -> None:
        fate = random.random()
        if fate >= 0.1:
            taken.append((event["id"], event["study_instance_uid"]))
        if fate < 0.2:  # it may have arrived, and we are told that it has not
            raise OSError("away")

    monkeypatch.setattr(sys.modules[__name__], "_function", take)
    consumer = Consumer(
        name="ris",
        target=PythonFunction("site_delivery:_called"),
        give_up_after=1e12,
        concurrency=3,
    )
    expected: list[tuple[int, str]] = []
    async with site(FastClock()) as here:
        await here.outbox.begin(["ris"])
        faulty = Faulty(here.outbox, random)
        for _ in range(6):
            studies = [random.choice("12345") for _ in range(random.randrange(1, 12))]
            expected += zip(range(len(expected) + 1, 1_000), studies, strict=False)
            await here.happen(*studies)
            try:
                async with here.delivering(consumer, faulty):
                    await trio.sleep(random.random() * 0.05)
            except* StorageError:
                pass
        async with here.delivering(consumer):
            await here.until_idle()
        assert await here.desk.held(["ris"], 9) == []
    by_study: defaultdict[str, list[int]] = defaultdict(list)
    for number, study in taken:
        by_study[study].append(number)
    for study, numbers in by_study.items():
        wanted = [number for number, of in expected if of == study]
        # It may go back, and then all of them come again, in order.
        first_times = list(dict.fromkeys(numbers))
        assert first_times == wanted
        for before, after in pairwise(numbers):
            assert after <= before or wanted.index(after) == wanted.index(before) + 1
    assert by_study.keys() == {study for _, study in expected}
