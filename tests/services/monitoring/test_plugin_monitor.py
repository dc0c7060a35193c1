"""Checks and metrics that plug-ins bring: in bounds, and never the end of a server."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

import pytest
import trio
import trio.testing

from isocenter.services.archive.archive import Archive
from isocenter.services.monitoring import plugin_monitor
from isocenter.services.monitoring.health import (
    CACHE_SECONDS,
    CHECK_SECONDS,
    LEAVE_SECONDS,
    Health,
    Level,
)
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.monitoring.other_names import as_values
from isocenter.services.monitoring.plugin_monitor import PluginMonitoring
from isocenter.services.testing.clocks import patient_clock
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.serving import serving


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    with patient_clock(0.05) as clock:
        yield clock


async def fine() -> str:
    return ""


async def full() -> str:
    return "the cupboard is full"


async def silent() -> str:
    await trio.sleep_forever()
    return "never"


async def broken() -> str:
    raise ZeroDivisionError


async def leaving() -> str:
    sys.exit(3)


async def odd() -> str:
    return True  # type: ignore[return-value]


async def test_what_checks_say_is_part_of_health(
    clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "isocenter")
    monkeypatch.setattr(logging.getLogger("isocenter"), "propagate", True)
    monitoring = PluginMonitoring()
    monitor = monitoring.of("raw-data")
    async with Archive(MemoryStore(), MemoryIndex()) as archive, serving() as server:
        health = Health(
            archive,
            server,
            folder=None,
            version="1",
            warning=80,
            critical=95,
            checks=monitoring.checks,
        )

        async def level() -> Level:
            await trio.sleep(CACHE_SECONDS + 0.1)
            return (await health.report()).level

        monitor.add_check("room", fine)
        assert await level() is Level.HEALTHY
        # None of them can end the server, nor keep others from being asked.
        for name, check in (
            ("full", full), ("silent", silent), ("silent2", silent), ("broken", broken),
            ("leaving", leaving), ("odd", odd),
        ):  # fmt: skip
            monitor.add_check(name, check)
        began = trio.current_time()
        assert await level() is Level.DEGRADED
        # All at once: those that do not answer take their time together.
        assert trio.current_time() - began < CACHE_SECONDS + 2 * CHECK_SECONDS
        report = await health.report()
        assert report.details["checks"] == {
            "raw-data.room": {"ok": True},
            "raw-data.full": {"ok": False, "message": "the cupboard is full"},
            "raw-data.silent": {"ok": False, "message": "no answer within 5 s"},
            "raw-data.silent2": {"ok": False, "message": "no answer within 5 s"},
            "raw-data.broken": {"ok": False, "message": "the check fails: ZeroDivisionError"},
            "raw-data.leaving": {"ok": False, "message": "the check fails: SystemExit"},
            "raw-data.odd": {"ok": False, "message": "the check fails: TypeError"},
        }
        assert report.is_operational
        assert "raw-data.full: the cupboard is full" in report.messages
        monitor.add_check("vital", full, is_vital=True)
        assert await level() is Level.UNHEALTHY
    # What fails again and again is logged once.
    assert sum("raw-data.broken fails" in one.getMessage() for one in caplog.records) == 1


async def test_who_cannot_be_cancelled_keeps_nobody_waiting(
    clock: trio.testing.MockClock,
) -> None:
    released = trio.Event()

    async def stuck() -> str:
        with trio.CancelScope(shield=True):
            await released.wait()
        return ""

    async def breaks_when_cancelled() -> str:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async def breaks_in_a_nursery() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await breaks_when_cancelled()
        return ""

    monitoring = PluginMonitoring()
    monitor = monitoring.of("x")
    monitor.add_check("stuck", stuck)
    monitor.add_check("nursery", breaks_in_a_nursery)
    async with Archive(MemoryStore(), MemoryIndex()) as archive, serving() as server:
        health = Health(
            archive,
            server,
            folder=None,
            version="1",
            warning=80,
            critical=95,
            cache_seconds=0,
            checks=monitoring.checks,
        )
        try:
            report = await health.report()
            assert report.level is Level.DEGRADED
            assert report.details["checks"]["x.stuck"]["message"] == "no answer within 5 s"
            assert not report.details["checks"]["x.nursery"]["ok"]
            del monitoring.checks[1]
            began = trio.current_time()
            report = await health.report()
            assert trio.current_time() - began < CHECK_SECONDS  # it is not waited for again
            assert report.details["checks"]["x.stuck"]["message"] == "no answer within 5 s"
        finally:
            released.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (await health.report()).level is Level.HEALTHY


async def test_checks_under_way_are_ended_with_the_server_and_those_that_hang_are_named(
    clock: trio.testing.MockClock,
) -> None:
    released = trio.Event()
    ended: list[str] = []

    async def stuck() -> str:
        with trio.CancelScope(shield=True):
            await released.wait()
        return ""

    async def slow() -> str:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("slow")
        return ""

    monitoring = PluginMonitoring()
    monitor = monitoring.of("x")
    monitor.add_check("fine", fine)
    monitor.add_check("slow", slow)
    monitor.add_check("stuck", stuck)
    async with Archive(MemoryStore(), MemoryIndex()) as archive, serving() as server:
        health = Health(
            archive,
            server,
            folder=None,
            version="1",
            warning=80,
            critical=95,
            checks=monitoring.checks,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(health.report)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            began = trio.current_time()
            assert await health.close() == ["x.stuck"]
            assert trio.current_time() - began <= LEAVE_SECONDS
            assert ended == ["slow"]
            assert "checks" not in (await health.report()).details
        finally:
            released.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await health.close() == []


async def test_a_server_that_looks_at_itself_logs_when_its_health_changes(
    clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "isocenter")
    monkeypatch.setattr(logging.getLogger("isocenter"), "propagate", True)
    monitoring = PluginMonitoring()
    fault = ""

    async def mood() -> str:
        return fault

    monitoring.of("room").add_check("mood", mood)
    async with Archive(MemoryStore(), MemoryIndex()) as archive, serving() as server:
        health = Health(
            archive,
            server,
            folder=None,
            version="1",
            warning=80,
            critical=95,
            cache_seconds=0,
            checks=monitoring.checks,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.watch, 30.0)
            await trio.sleep(100)
            fault = "too hot"
            await trio.sleep(100)
            fault = ""
            await trio.sleep(100)
            monkeypatch.setattr(health, "_check_server", None)  # a fault of ours
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
    said = [one.getMessage() for one in caplog.records if one.name == "isocenter.server"]
    said = [line for line in said if "the archive is" in line or "health" in line]
    assert said[:2] == ["the archive is degraded: room.mood: too hot",
                        "the archive is healthy: all is well"]  # fmt: skip
    assert set(said[2:]) == {"health cannot be looked at: TypeError"}


def test_metrics_of_a_plugin_stand_beside_ours() -> None:
    metrics = Metrics(version="1")
    monitor = PluginMonitoring(lambda: metrics.registry).of("Raw-data")
    kept = monitor.counter("kept", "objects", ["kind"])
    kept.add(kind="a")
    kept.add(2.5, kind="a")
    monitor.gauge("queue", "waiting").set(7)
    monitor.histogram("wait_seconds", "of one", buckets=(1, 2)).observe(1.5)
    page = metrics.page().decode()
    for line in (
        'isocenter_plugin_raw_data_kept_total{kind="a"} 3.5',
        "isocenter_plugin_raw_data_queue 7.0",
        'isocenter_plugin_raw_data_wait_seconds_bucket{le="1.0"} 0.0',
        'isocenter_plugin_raw_data_wait_seconds_bucket{le="2.0"} 1.0',
    ):
        assert line in page
    assert "isocenter_plugin_raw_data_kept" in {
        one["name"] for one in as_values(metrics.families())
    }


def test_labels_without_end_are_counted_together(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plugin_monitor, "MOST_SERIES", 3)
    monkeypatch.setattr(logging.getLogger("isocenter"), "propagate", True)
    metrics = Metrics(version="1")
    kept = PluginMonitoring(lambda: metrics.registry).of("x").counter("kept", "objects", ["uid"])
    for number in range(50):
        kept.add(uid=f"1.2.{number}")
    kept.add(uid="1.2.0")
    (family,) = (one for one in metrics.families() if one.name == "isocenter_plugin_x_kept")
    values = {one.labels["uid"]: one.value for one in family.samples if "total" in one.name}
    assert values == {"1.2.0": 2, "1.2.1": 1, "1.2.2": 1, "other": 47}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("name", "labels", "fault"),
    [
        ("Kept", (), "a metric cannot be called 'Kept'"),
        ("", (), "a metric cannot be called ''"),
        ("a" * 65, (), "at most 64"),
        ("kept", ("A",), "a label cannot be called 'A'"),
        ("kept", ("le",), "a label cannot be called 'le'"),
        ("kept", ("a", "a"), "two labels have the same name"),
        ("there", (), "Duplicated timeseries"),
    ],
)
def test_what_cannot_be_a_metric(name: str, labels: Sequence[str], fault: str) -> None:
    metrics = Metrics(version="1")
    monitor = PluginMonitoring(lambda: metrics.registry).of("x")
    monitor.counter("there", "objects")
    with pytest.raises(ValueError, match=fault):
        monitor.counter(name, "objects", labels)


def test_what_cannot_be_a_check() -> None:
    monitor = PluginMonitoring().of("x")
    monitor.add_check("there", fine)
    for name, check, fault in (
        ("there", fine, "there is a check 'there' already"),
        ("There", fine, "a check cannot be called 'There'"),
        ("other", "text", "the check 'other' cannot be called"),
    ):
        with pytest.raises(ValueError, match=fault):
            monitor.add_check(name, check)  # type: ignore[arg-type]


def test_labels_that_a_metric_does_not_have() -> None:
    kept = PluginMonitoring().of("x").counter("kept", "objects", ["kind"])
    with pytest.raises(ValueError, match="plugin_x_kept has the labels kind"):
        kept.add(colour="red")


def test_labels_that_are_no_unicode_leave_the_page_as_it_is() -> None:
    metrics = Metrics(version="1")
    monitor = PluginMonitoring(lambda: metrics.registry).of("x")
    kept = monitor.counter("kept", "objects", ["kind"])
    kept.add(kind="CT\udce9")
    kept.add(kind="y" * 1_000)
    page = metrics.page().decode()
    assert 'isocenter_plugin_x_kept_total{kind="CT?"} 1.0' in page
    assert f'{{kind="{"y" * 200}"}} 1.0' in page
    for text in ("\udce9", "y" * 201, None):
        with pytest.raises(ValueError, match="what plugin_x_other counts is said in Unicode"):
            monitor.counter("other", text)  # type: ignore[arg-type]
