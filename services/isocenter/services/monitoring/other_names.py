"""Metrics under the names that other PACS servers give them, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final

from isocenter.engine.fast_init import dataclass

#: In their names → ours.
_OPERATIONS: Final = {
    "c_echo": "C-ECHO",
    "c_store": "C-STORE",
    "c_find": "C-FIND",
    "c_move": "C-MOVE",
    "c_get": "C-GET",
    "n_create": "N-CREATE",
    "n_set": "N-SET",
    "n_get": "N-GET",
    "n_action": "N-ACTION",
    "n_event": "N-EVENT-REPORT",
    "n_delete": "N-DELETE",
}
_MICROSECONDS: Final = 1_000_000
_BITS: Final = 8
_MEGA: Final = 1_000_000
_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)
#: How an operation ended that was done.
_DONE: Final = frozenset({"success", "warning", "pending"})
_ABORTED: Final = "aborted"


class _Samples:
    """Sums of what was measured, by metric and labels."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._of: dict[str, list[Any]] = {}
        for family in families:
            for sample in family.samples:
                self._of.setdefault(sample.name.removeprefix("isocenter_"), []).append(sample)

    def sum(self, name: str, **labels: str | Callable[[str], bool]) -> float:
        """Of all samples of a metric whose labels are so."""
        return sum(
            float(sample.value)
            for sample in self._of.get(name, ())
            if all(_fits(sample.labels.get(key, ""), wanted) for key, wanted in labels.items())
        )

    def first(self, name: str, **labels: str) -> float | None:
        """One sample, where there is one."""
        for sample in self._of.get(name, ()):
            if sample.labels == labels:
                return float(sample.value)
        return None

    def buckets(
        self, name: str, **labels: str | Callable[[str], bool]
    ) -> Sequence[tuple[float, float]]:
        """Of a histogram: each upper bound, and how many are not above it, rising."""
        bounds = {float(sample.labels["le"]) for sample in self._of.get(f"{name}_bucket", ())}
        texts = [(bound, _bound_text(bound)) for bound in sorted(bounds)]
        return [(bound, self.sum(f"{name}_bucket", le=text, **labels)) for bound, text in texts]


@dataclass(frozen=True, slots=True)
class OtherMetric:
    """One number under another name.

    Attributes:
        family: the name of the metric that it is of, where that is another: of a histogram or
            summary.
    """

    name: str
    kind: str
    value: float
    labels: Mapping[str, str]
    family: str = ""


def in_other_names(families: Iterable[Any], ae_title: str) -> Iterator[OtherMetric]:
    """What ``pacs_…`` and ``dicom_…`` metrics say, of ours.

    Args:
        families: of `Metrics.families`.
        ae_title: ours, which the latter have as a label.

    What there is none of is left out: the shortest of no operations is not 0.
    """
    samples = _Samples(families)
    for name, command in _OPERATIONS.items():
        yield from _of_operation(samples, name, command)
    yield from _of_associations(samples, ae_title)
    yield from _of_traffic(samples, ae_title)
    yield from _of_database(samples)


def page_in_other_names(families: Iterable[Any], ae_title: str) -> bytes:
    """The same, in Prometheus' text format."""
    lines: list[str] = []
    named = ""
    for one in in_other_names(families, ae_title):
        labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in one.labels.items())
        family = one.family or one.name
        if family != named:
            lines.append(f"# TYPE {family} {one.kind}")
        named = family
        lines.append(f"{one.name}{{{labels}}} {one.value}" if labels else f"{one.name} {one.value}")
    return ("\n".join(lines) + "\n").encode()


def as_values(families: Iterable[Any]) -> list[dict[str, object]]:
    """All metrics for JSON: name, kind, what it is, and each sample with its labels."""
    return [
        {
            "name": family.name,
            "kind": family.type,
            "text": family.documentation,
            "samples": [
                {"name": sample.name, "labels": dict(sample.labels), "value": sample.value}
                for sample in _plain(family.samples)
            ],
        }
        for family in families
    ]


def _of_operation(samples: _Samples, name: str, command: str) -> Iterator[OtherMetric]:
    ours: dict[str, str | Callable[[str], bool]] = {"command": command, "role": "scp"}
    total = samples.sum("operations_total", **ours)
    done = samples.sum("operations_total", **ours, status=_is_done)
    seconds = samples.sum("operation_duration_seconds_sum", **ours)
    labels = {"operation": name}
    for prefix, first, own in (
        (f"pacs_dimse_{name}", "total", {}),
        (f"dicom_{name}", "requests_total", labels),
    ):
        yield OtherMetric(f"{prefix}_{first}", "counter", total, own)
        yield OtherMetric(f"{prefix}_success_total", "counter", done, own)
        yield OtherMetric(f"{prefix}_failure_total", "counter", total - done, own)
    micros, plain = f"pacs_dimse_{name}_duration_microseconds", f"dicom_{name}_duration_seconds"
    yield OtherMetric(f"{micros}_sum", "gauge", seconds * _MICROSECONDS, {})
    yield OtherMetric(f"{plain}_sum", "gauge", seconds, labels)
    for part, which in (("min", "shortest"), ("max", "longest")):
        found = samples.first(f"operation_{which}_seconds", command=command)
        if found is not None:
            yield OtherMetric(f"{micros}_{part}", "gauge", found * _MICROSECONDS, {})
            yield OtherMetric(f"{plain}_{part}", "gauge", found, labels)
    if total:
        yield OtherMetric(f"{plain}_avg", "gauge", seconds / total, labels)
        family = f"pacs_dimse_{name}_duration_seconds"
        for bound, count in samples.buckets("operation_duration_seconds", **ours):
            yield OtherMetric(
                f"{family}_bucket", "histogram", count, {"le": _bound_text(bound)}, family
            )
        yield OtherMetric(f"{family}_sum", "histogram", seconds, {}, family)
        yield OtherMetric(f"{family}_count", "histogram", total, {}, family)


def _of_associations(samples: _Samples, ae_title: str) -> Iterator[OtherMetric]:
    established = samples.sum("associations_established_total")
    rejected = samples.sum("associations_rejected_total")
    aborted = samples.sum("associations_ended_total", ending=lambda one: _ABORTED in one)
    active, peak = samples.sum("associations_active"), samples.sum("associations_active_peak")
    for prefix, labels, total in (
        ("pacs", {}, "established_total"),
        ("dicom", {"ae": ae_title}, "total"),
    ):
        stem = f"{prefix}_associations"
        yield OtherMetric(f"{stem}_{total}", "counter", established, labels)
        yield OtherMetric(f"{stem}_rejected_total", "counter", rejected, labels)
        yield OtherMetric(f"{stem}_aborted_total", "counter", aborted, labels)
        yield OtherMetric(f"{stem}_active", "gauge", active, labels)
        yield OtherMetric(f"{stem}_peak_active", "gauge", peak, labels)
    asked = established + rejected
    rate = established / asked if asked else 1.0
    yield OtherMetric("dicom_associations_success_rate", "gauge", rate, {"ae": ae_title})


def _of_traffic(samples: _Samples, ae_title: str) -> Iterator[OtherMetric]:
    """Bytes and images; images that are sent or received are those of DICOM, however they end
    up."""
    stored = samples.sum("instances_stored_total", outcome="stored")
    retrieved = samples.sum("suboperations_total", outcome=_is_sent)
    for prefix, labels in (("pacs", {}), ("dicom", {"ae": ae_title})):
        for what in ("sent", "received"):
            value = samples.sum(f"{what}_bytes_total")
            yield OtherMetric(f"{prefix}_bytes_{what}_total", "counter", value, labels)
        yield OtherMetric(f"{prefix}_images_stored_total", "counter", stored, labels)
        yield OtherMetric(f"{prefix}_images_retrieved_total", "counter", retrieved, labels)
    labels = {"ae": ae_title}
    both = 0.0
    for what, role in (("sent", "scu"), ("received", "scp")):
        images = samples.sum("operations_total", command="C-STORE", role=role, status=_is_done)
        yield OtherMetric(f"dicom_images_{what}_total", "counter", images, labels)
        rate = samples.sum("recent_rate", of=f"{what}_bytes")
        yield OtherMetric(f"dicom_bytes_{what}_rate", "gauge", rate, labels)
        both += rate
    yield OtherMetric("dicom_transfer_rate_mbps", "gauge", both * _BITS / _MEGA, labels)


def _of_database(samples: _Samples) -> Iterator[OtherMetric]:
    for outcome, status in (("done", "success"), ("failed", "error")):
        value = samples.sum("database_transactions_total", outcome=outcome)
        yield OtherMetric("pacs_db_queries_total", "counter", value, {"status": status})
    rate = samples.sum("recent_rate", of="database_transactions")
    failures = samples.sum("recent_rate", of="database_failures")
    yield OtherMetric("pacs_db_queries_per_second", "gauge", rate, {})
    yield OtherMetric("pacs_db_error_rate", "gauge", failures / rate if rate else 0.0, {})
    name, ours = "pacs_db_query_duration_microseconds", "database_transaction_duration_seconds"
    buckets = samples.buckets(ours)
    for part in _QUANTILES:
        seconds = quantile(buckets, part)
        if seconds is not None:
            labels = {"quantile": f"{part:g}"}
            yield OtherMetric(name, "summary", seconds * _MICROSECONDS, labels)
    total = samples.sum(f"{ours}_sum") * _MICROSECONDS
    yield OtherMetric(f"{name}_sum", "summary", total, {}, name)
    yield OtherMetric(f"{name}_count", "summary", samples.sum(f"{ours}_count"), {}, name)
    there, in_use = samples.sum("database_connections"), samples.sum("database_connections_in_use")
    yield OtherMetric("pacs_db_connections", "gauge", there, {})
    used = in_use / there if there else 0.0
    yield OtherMetric("pacs_db_connection_utilization", "gauge", used, {})
    slow = samples.sum("database_slow_transactions_total")
    yield OtherMetric("pacs_db_slow_queries", "gauge", slow, {})


def quantile(buckets: Sequence[tuple[float, float]], part: float) -> float | None:
    """As Prometheus' ``histogram_quantile``: within its bucket it is taken for evenly spread, and
    beyond the last bound for that bound.  None: nothing was measured.

    Args:
        buckets: upper bound and how many are not above it, rising, the last bound infinite.
    """
    if not buckets or not buckets[-1][1]:
        return None
    wanted = part * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted and count > below:
            if bound == inf:
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return lower


def _is_done(status: str) -> bool:
    return status in _DONE


def _is_sent(outcome: str) -> bool:
    return outcome in ("completed", "warning")


def _bound_text(bound: float) -> str:
    return "+Inf" if bound == inf else str(bound)


def _fits(value: str, wanted: str | Callable[[str], bool]) -> bool:
    return wanted(value) if callable(wanted) else value == wanted


def _plain(samples: Sequence[Any]) -> Iterator[Any]:
    """Without the moment at which each series began, which Prometheus derives itself."""
    return (sample for sample in samples if not sample.name.endswith("_created"))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
