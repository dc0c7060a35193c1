"""Health checks and metrics that plug-ins bring."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.monitoring.metric_table import (
    DURATIONS,
    Counter,
    Gauge,
    Histogram,
    Metric,
    register,
)
from isocenter.services.service_classes.plugin import HealthCheck

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger("isocenter.plugins")

#: Combinations of labels of one metric in one process: each is a series that Prometheus keeps.
MOST_SERIES: Final = 100
#: What stands for those beyond.
OTHER: Final = "other"
_LONGEST_VALUE: Final = 200
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: Of ours, in a histogram.
_TAKEN_LABELS: Final = frozenset({"le", "pid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCheck:
    """A check of a plug-in.

    Attributes:
        name: ``PLUGIN.NAME``.
        is_vital: without it the server is of no use.
    """

    name: str
    check: HealthCheck
    is_vital: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HangingOperation:
    """An operation of a plug-in that the server could not end; *ended*: it has, all the same."""

    plugin: str
    command: str
    ended: trio.Event


class PluginMonitoring:
    """Checks and metrics that the plug-ins of a process have registered.

    Args:
        registry: where their metrics go, asked for when there is one; None: to nobody.

    Attributes:
        checks: of all plug-ins.
        hanging: operations that are left behind when the server ends.
    """

    def __init__(self, registry: Callable[[], CollectorRegistry] | None = None) -> None:
        self.checks: list[NamedCheck] = []
        self.hanging: list[HangingOperation] = []
        self._registry = registry

    def of(self, plugin: str) -> MonitorOfPlugin:
        """Takes what the plug-in of that name brings."""
        return MonitorOfPlugin(self, plugin)

    def register(self, metric: Metric) -> Any:
        """The metric of prometheus_client.

        Raises:
            ValueError: there is one of that name.
        """
        import prometheus_client as client

        return register(metric, self._registry() if self._registry else client.CollectorRegistry())


class MonitorOfPlugin:
    """A `PluginMonitor`."""

    def __init__(self, monitoring: PluginMonitoring, plugin: str) -> None:
        self._monitoring = monitoring
        self._plugin = plugin
        self._prefix = "plugin_" + re.sub(r"[^a-z0-9]+", "_", plugin.lower())

    def add_check(self, name: str, check: HealthCheck, *, is_vital: bool = False) -> None:
        """As `PluginMonitor`."""
        _check_name("check", name)
        if not callable(check):
            raise ValueError(f"the check {name!r} cannot be called")
        whole = f"{self._plugin}.{name}"
        if any(one.name == whole for one in self._monitoring.checks):
            raise ValueError(f"there is a check {name!r} already")
        self._monitoring.checks.append(NamedCheck(name=whole, check=check, is_vital=is_vital))

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> PluginMetric:
        """As `PluginMonitor`."""
        return self._series(Counter(self._name(name), text, _checked(labels)))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> PluginMetric:
        """As `PluginMonitor`."""
        return self._series(Gauge(self._name(name), text, _checked(labels)))

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] | None = None,
    ) -> PluginMetric:
        """As `PluginMonitor`."""
        bounds = DURATIONS if buckets is None else tuple(buckets)
        return self._series(Histogram(self._name(name), text, _checked(labels), bounds))

    def _name(self, name: str) -> str:
        _check_name("metric", name)
        return f"{self._prefix}_{name}"

    def _series(self, metric: Metric) -> PluginMetric:
        if metric.text != _label_value(str(metric.text)):
            raise ValueError(
                f"what {metric.name} counts is said in Unicode, in {_LONGEST_VALUE} characters"
            )
        return PluginMetric(self._monitoring.register(metric), metric)


class PluginMetric:
    """A metric of a plug-in, of whatever kind."""

    def __init__(self, registered: Any, metric: Metric) -> None:
        self._registered = registered
        self._metric = metric
        self._known: set[tuple[str, ...]] = set()

    def add(self, amount: float = 1, **labels: str) -> None:
        """Of a counter."""
        self._of(labels).inc(amount)

    def set(self, value: float, **labels: str) -> None:
        """Of a gauge."""
        self._of(labels).set(value)

    def observe(self, value: float, **labels: str) -> None:
        """Of a histogram."""
        self._of(labels).observe(value)

    def _of(self, labels: dict[str, str]) -> Any:
        names = self._metric.labels
        if labels.keys() != set(names):
            raise ValueError(f"{self._metric.name} has the labels {', '.join(names) or '(none)'}")
        if not names:
            return self._registered
        values = tuple(_label_value(str(labels[name])) for name in names)
        if values not in self._known:
            if len(self._known) < MOST_SERIES:
                self._known.add(values)
            else:
                values = (OTHER,) * len(names)
                if values not in self._known:
                    self._known.add(values)
                    log.warning(
                        "%s has more than %d combinations of labels; the others are counted as %r",
                        self._metric.name, MOST_SERIES, OTHER,
                    )  # fmt: skip
        return self._registered.labels(*values)


def _label_value(text: str) -> str:
    """*text* as the page can have it: one that is no Unicode would take the whole page away."""
    return text[:_LONGEST_VALUE].encode("utf-8", "replace").decode()


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a {what} cannot be called {name!r}: small letters, digits and _, at most 64"
        )


def _checked(labels: Sequence[str]) -> tuple[str, ...]:
    for label in labels:
        _check_name("label", label)
        if label in _TAKEN_LABELS:
            raise ValueError(f"a label cannot be called {label!r}")
    if len(set(labels)) < len(labels):
        raise ValueError("two labels have the same name")
    return tuple(labels)
