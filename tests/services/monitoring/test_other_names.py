"""Metrics under the names of others: each number is what our own say."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.services.monitoring.metric_table import DURATIONS
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.monitoring.other_names import page_in_other_names, quantile
from isocenter.services.monitoring.recent_rates import RecentRates
from isocenter.services.notices import Caller, OperationEnded
from isocenter.storage.database.timed import SLOW_SECONDS, Timer

CALLER = Caller(
    association="1", address="127.0.0.1:1", calling_ae_title="CT1", called_ae_title="US",
    is_tls=False,
)  # fmt: skip


class Clock:
    """A clock that the test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def ended(command: str, seconds: float, status: int = 0, *, as_scp: bool = True) -> OperationEnded:
    return OperationEnded(
        caller=CALLER, command=command, sop_class_uid="", status=status, seconds=seconds,
        as_scp=as_scp,
    )  # fmt: skip


def page(metrics: Metrics) -> Mapping[tuple[str, str], float]:
    """Name and the value of its first label → number; by Prometheus' own parser."""
    text = page_in_other_names(metrics.families(), "US").decode()
    return {
        (sample.name, next((text for key, text in sample.labels.items() if key != "ae"), "")):
            sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip


def test_durations_of_operations() -> None:
    metrics = Metrics(version="1")
    for seconds in (0.25, 0.5, 0.125):
        metrics.on_notice(ended("C-FIND", seconds))
    metrics.on_notice(ended("C-FIND", 9.0, as_scp=False))  # that we asked for
    found = page(metrics)
    stem = "pacs_dimse_c_find_duration"
    assert found[f"{stem}_microseconds_min", ""] == 125_000
    assert found[f"{stem}_microseconds_max", ""] == 500_000
    assert found[f"{stem}_microseconds_sum", ""] == 875_000
    for part, value in (("min", 0.125), ("max", 0.5), ("sum", 0.875), ("avg", 0.875 / 3)):
        assert found[f"dicom_c_find_duration_seconds_{part}", "c_find"] == pytest.approx(value)
    buckets = {bound: found[f"{stem}_seconds_bucket", str(bound)] for bound in DURATIONS}
    assert [buckets[bound] for bound in (0.1, 0.3, 1.0)] == [0, 2, 3]
    assert found[f"{stem}_seconds_bucket", "+Inf"] == found[f"{stem}_seconds_count", ""] == 3
    # Of what was never asked for nothing is the shortest.
    assert ("pacs_dimse_c_get_duration_microseconds_min", "") not in found
    assert ("dicom_c_get_duration_seconds_avg", "c_get") not in found
    assert found["pacs_dimse_c_get_total", ""] == 0


def test_images_are_counted_by_direction() -> None:
    metrics = Metrics(version="1")
    for status, as_scp in ((0, True), (0xB007, True), (0xA700, True), (0, False)):
        metrics.on_notice(ended("C-STORE", 0.1, status, as_scp=as_scp))
    found = page(metrics)
    assert found["dicom_images_received_total", ""] == 2
    assert found["dicom_images_sent_total", ""] == 1


def test_the_database() -> None:
    clock = Clock()
    timer = Timer(connections=lambda: ConnectionCounts(8, 2), clock=clock, now=clock)
    metrics = Metrics(version="1")
    metrics.database = timer
    timer.listen(metrics.transaction)
    for seconds in (0.002, 0.002, 0.02, SLOW_SECONDS, 2 * SLOW_SECONDS):
        with timer.timing("find"):
            clock.now += seconds
    found = page(metrics)
    assert found["pacs_db_connections", ""] == 8
    assert found["pacs_db_connection_utilization", ""] == 0.25
    assert found["pacs_db_slow_queries", ""] == 2
    name = "pacs_db_query_duration_microseconds"
    assert found[f"{name}_count", ""] == 5
    assert found[f"{name}_sum", ""] == pytest.approx(3_024_000)
    assert 10_000 < found[name, "0.5"] <= 30_000
    assert 1_000_000 < found[name, "0.95"] <= 3_000_000
    # Counted once, however often somebody looks.
    assert page(metrics)["pacs_db_slow_queries", ""] == 2


def test_rates_are_those_of_the_last_minute() -> None:
    clock = Clock()
    rates = RecentRates(clock)
    assert rates.rates({"bytes": 1_000}) == {"bytes": 0}
    clock.now += 0.1
    assert rates.rates({"bytes": 9_000}) == {"bytes": 0}  # too soon to tell
    clock.now += 9.9
    assert rates.rates({"bytes": 11_000}) == {"bytes": 1_000}
    for _ in range(2_000):  # somebody looks all the time, and nothing comes
        clock.now += 0.05
        last = rates.rates({"bytes": 11_000})
    assert last == {"bytes": 0}
    assert len(rates._looks) < 70
    # What is new among them grew from nothing.
    clock.now += 30
    assert rates.rates({"bytes": 11_000, "more": 90})["more"] == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_lie_in_the_bucket_of_the_true_one(part: float) -> None:
    drawn = random.Random(7)
    for _ in range(200):
        values = sorted(drawn.lognormvariate(-3, 2) for _ in range(drawn.randrange(1, 60)))
        bounds: Sequence[float] = (*DURATIONS, float("inf"))
        buckets = [(bound, float(sum(one <= bound for one in values))) for bound in bounds]
        found = quantile(buckets, part)
        true = values[max(0, -int(-part * len(values) // 1) - 1)]
        low = max((bound for bound in (0.0, *DURATIONS) if bound < true), default=0.0)
        high = min((bound for bound in DURATIONS if bound >= true), default=DURATIONS[-1])
        assert found is not None
        assert low <= found <= high
    assert quantile([(1.0, 0.0), (float("inf"), 0.0)], part) is None
    assert quantile([], part) is None
    assert quantile([(1.0, 0.0), (float("inf"), 3.0)], part) == 1.0
