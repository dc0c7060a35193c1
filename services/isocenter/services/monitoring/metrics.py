"""Numbers for Prometheus, counted from the notices of the server.

Names and units follow Prometheus' rules: base units, ``_total`` on counters.  Every label has
few values, none of which a stranger chooses: no AE titles but of peers in the configuration,
no addresses, no UIDs.

With several worker processes each counts in a file of its own, and whoever is asked adds
them up (prometheus_client's multiprocess mode, which `shared_folder` prepares).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.monitoring.metric_table import METRICS, register
from isocenter.services.net.http.notices import HttpLimitReached, RequestAnswered
from isocenter.services.notices import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    ConfigurationReloaded,
    ConnectionRefused,
    EventBacklogMeasured,
    EventDelivery,
    ForwardAttempted,
    ForwardQueueMeasured,
    InstancesCompressed,
    InstancesSent,
    InstanceStored,
    Notice,
    ObjectDamaged,
    ObjectTranscoded,
    OperationEnded,
    OrderMessageAnswered,
    QueryAnswered,
    SearchAnswered,
    TrashMeasured,
)
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.certificates.expiry import Expiry

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from isocenter.services.archive.archive import Archive
    from isocenter.services.association.server import Server
    from isocenter.services.net.http.server import HttpServer

#: Where prometheus_client looks for the files of all processes, when it is imported.
_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_CHILDREN: Final = 512


def shared_folder(folder: Path) -> None:
    """Have the processes that are forked from now on count into files in *folder*.

    Files of processes before are removed.  To be called before anybody imports
    prometheus_client.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink()
    os.environ[_FOLDER_VARIABLE] = str(folder)


class Metrics:
    """A listener that counts, and the page that shows the numbers.

    Args:
        expiries: when certificates end.
        limits: bounds in force, by name.

    Attributes:
        server, archive, web: what they hold now is looked at when somebody asks; None: nothing.
    """

    def __init__(
        self,
        *,
        version: str,
        limits: dict[str, float] | None = None,
        expiries: Callable[[], Iterable[Expiry]] = tuple,
    ) -> None:
        import prometheus_client as client

        self.registry = registry = client.CollectorRegistry()
        self._is_shared = _FOLDER_VARIABLE in os.environ
        self._expiries = expiries
        self.server: Server | None = None
        self.archive: Archive | None = None
        self.web: HttpServer | None = None
        self._seen_bytes = (0, 0)
        self._queued_before: set[tuple[str, str]] = set()
        self._metrics = {metric.name: register(metric, registry) for metric in METRICS}
        self._metrics["build_info"].labels(version).set(1)
        for name, value in (limits or {}).items():
            self._metrics["limit"].labels(name).set(value)
        if not self._is_shared:
            client.ProcessCollector(registry=registry)
            client.PlatformCollector(registry=registry)
        #: Looking one up by its labels costs more than counting.
        self._of = lru_cache(_CHILDREN)(self._child)
        self._operation = lru_cache(_CHILDREN)(self._children_of_operation)

    def _child(self, name: str, *labels: object) -> Any:
        metric = self._metrics[name]
        return metric.labels(*labels) if labels else metric

    def _children_of_operation(
        self, command: str, as_scp: bool, status: int | None
    ) -> tuple[Any, Any]:
        role = "scp" if as_scp else "scu"
        kind = "none" if status is None else _STATUS_NAMES[classify(status)]
        return (
            self._of("operations", command, role, kind),
            self._of("operation_duration_seconds", command, role, kind),
        )

    # -- Counting ---------------------------------------------------------------------

    def on_notice(self, notice: Notice) -> None:
        """A listener for `Notices`."""
        match notice:
            case OperationEnded():
                count, seconds = self._operation(notice.command, notice.as_scp, notice.status)
                count.inc()
                seconds.observe(notice.seconds)
            case InstanceStored():
                self._of("instances_stored", notice.outcome).inc()
                self._of("stored_bytes").inc(notice.size)
            case AssociationEstablished():
                self._of("associations_established").inc()
            case AssociationEnded():
                self._of("associations_ended", notice.ending.value).inc()
                self._of("association_duration_seconds").observe(notice.seconds)
            case AssociationRejected():
                self._of("associations_rejected", notice.source, notice.reason).inc()
            case ConnectionRefused():
                self._of("connections_refused", notice.refusal.value).inc()
            case QueryAnswered():
                self._of("query_matches").inc(notice.matches)
            case SearchAnswered():
                self._of("searches", notice.outcome.value).inc()
            case InstancesSent() if notice.command != "C-STORE":
                for outcome in ("completed", "failed", "warning"):
                    count = self._of("suboperations", notice.command, outcome)
                    count.inc(getattr(notice, outcome))
            case AccessDenied():
                self._of("operations_denied", notice.command).inc()
            case EventDelivery():
                self._of(
                    "event_deliveries", notice.consumer, notice.outcome.replace(" ", "_")
                ).inc()
            case EventBacklogMeasured():
                for name, number in notice.waiting.items():
                    self._of("events_waiting", name).set(number)
                self._of("studies_receiving").set(notice.receiving)
            case ObjectDamaged():
                self._of("objects_damaged").inc()
            case OrderMessageAnswered():
                self._of("order_messages", notice.message_type, notice.acknowledgement).inc()
            case ForwardAttempted():
                self._of("forwards", notice.destination, notice.outcome).inc(notice.objects)
            case ObjectTranscoded():
                self._of("transcoded_objects", name_of(notice.target), notice.outcome).inc()
            case InstancesCompressed():
                count = self._of("compressed_objects", name_of(notice.target), notice.outcome)
                count.inc(notice.instances)
                self._of("compressed_bytes", "before").inc(notice.size_before)
                self._of("compressed_bytes", "after").inc(notice.size)
            case InstancesDeleted():
                cause = notice.cause.value.replace(" ", "_")
                self._of("instances_deleted", cause).inc(notice.study.instances)
            case ForwardQueueMeasured():
                for names in self._queued_before | notice.counts.keys():
                    self._of("forward_queue", *names).set(notice.counts.get(names, 0))
                self._queued_before |= notice.counts.keys()
            case TrashMeasured():
                self._of("trash_instances").set(notice.instances)
                self._of("trash_bytes").set(notice.size)
                self._of("deleted_instances").set(notice.deleted)
                self._of("deleted_bytes").set(notice.deleted_size)
                self._of("quarantined_instances").set(notice.quarantined)
                self._of("rejected_instances").set(notice.rejected)
            case ConfigurationReloaded():
                self._of(
                    "configuration_reloads", notice.what, "failed" if notice.fault else "done"
                ).inc()
            case _:
                self._on_web(notice)

    def _on_web(self, notice: Notice) -> None:
        match notice:
            case RequestAnswered():
                route = notice.route or "none"
                self._of("http_requests", notice.method, route, notice.status).inc()
                self._of("http_request_duration_seconds", route).observe(notice.seconds)
                self._of("http_sent_bytes", route).inc(notice.size)
            case HttpLimitReached():
                self._of("http_limits_reached", notice.limit).inc()
            case SignInFailed():
                self._of("sign_ins_failed", notice.kind).inc()
            case _:
                pass  # nothing to count

    def keeps(self, figures: Mapping[str, int]) -> None:
        """What the archive and its disk hold now, by name of the metric."""
        for name, value in figures.items():
            self._of(name).set(value)

    def committed(self, objects: int, seconds: float) -> None:
        """A round of the committer is over (`Committer`, *on_round*)."""
        self._of("commit_batch_objects").observe(objects)
        self._of("commit_duration_seconds").observe(seconds)

    def met_other_patient(self, kept: bool) -> None:
        """An object names another patient than its study (`Committer`, *on_other_patient*)."""
        self._of("instances_of_other_patients", "kept" if kept else "refused").inc()

    def refresh(self) -> None:
        """Take up what is not told but can be seen; now and then, and before a page is made."""
        if self.server is not None:
            self._of("associations_active").set(self.server.associations)
            self._of("associations_active_peak").set(self.server.most_associations)
            self._of("connections_active").set(self.server.connections)
            self._of("handshakes_active").set(self.server.handshakes)
            received, sent = self.server.traffic()
            self._of("received_bytes").inc(received - self._seen_bytes[0])
            self._of("sent_bytes").inc(sent - self._seen_bytes[1])
            self._seen_bytes = (received, sent)
        if self.web is not None:
            self._of("http_requests_active").set(self.web.requests)
            self._of("http_connections_active").set(self.web.connections)
        if self.archive is not None:
            self._of("memory_budget_taken_bytes").set(self.archive.budget.taken)
            self._of("memory_budget_limit_bytes").set(self.archive.budget.limit)
            self._of("commits_waiting").set(self.archive.committer.waiting)
            self._of("commits_unsettled").set(self.archive.committer.unsettled)
        for expiry in self._expiries():
            self._of("certificate_expiry_timestamp_seconds", expiry.what, expiry.name).set(
                expiry.ends.timestamp()
            )

    # -- Showing ----------------------------------------------------------------------

    def page(self) -> bytes:
        """All numbers of all processes, in Prometheus' text format."""
        import prometheus_client as client

        page: bytes = client.generate_latest(self._collected())
        return page

    def families(self) -> Sequence[Any]:
        """The same, metric by metric, as `prometheus_client` has them."""
        return list(self._collected().collect())

    def _collected(self) -> CollectorRegistry:
        """What all processes have counted, brought up to date."""
        self.refresh()
        if not self._is_shared:
            return self.registry
        import prometheus_client as client
        from prometheus_client import multiprocess

        registry = client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return registry

    def names(self) -> Iterator[str]:
        """Of all metrics, as they stand on the page."""
        for family in self.registry.collect():
            yield family.name


def forget_process(pid: int) -> None:
    """A worker has ended: what it held is no more, what it counted stays."""
    if _FOLDER_VARIABLE in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)


_STATUS_NAMES: Final = {kind: kind.name.lower() for kind in StatusClass}
