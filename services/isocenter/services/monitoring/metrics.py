"""Numbers for Prometheus, counted from the notices of the server.

Names and units follow Prometheus' rules: base units, ``_total`` on counters.  Every label has
few values, none of which a stranger chooses: no AE titles but of peers in the configuration,
no addresses, no UIDs.

With several worker processes each counts in a file of its own, and whoever is asked adds
them up (prometheus_client's multiprocess mode, which `shared_folder` prepares).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.dicom.uid_registry import name_of
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
    TrashMeasured,
)
from isocenter.services.security.certificates.expiry import Expiry

if TYPE_CHECKING:
    from isocenter.services.archive.archive import Archive
    from isocenter.services.association.server import Server

#: Where prometheus_client looks for the files of all processes, when it is imported.
_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
#: Seconds: from an answer without any waiting to a retrieval of a large study.
_DURATIONS: Final = (
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
)  # fmt: skip
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
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
        server, archive: what they hold now is looked at when somebody asks; None: nothing.
        expiries: when certificates end.
        limits: bounds in force, by name.
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
        self._seen_bytes = (0, 0)

        def counter(name: str, text: str, *labels: str) -> Any:
            return client.Counter(f"isocenter_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: Any = "livesum") -> Any:
            return client.Gauge(
                f"isocenter_{name}", text, labels, registry=registry, multiprocess_mode=mode
            )

        def histogram(name: str, text: str, *labels: str, buckets: Any = _DURATIONS) -> Any:
            return client.Histogram(
                f"isocenter_{name}", text, labels, registry=registry, buckets=buckets
            )

        self._established = counter("associations_established", "A-ASSOCIATE-AC sent")
        self._rejected = counter(
            "associations_rejected", "A-ASSOCIATE-RJ sent (PS3.8 Table 9-21)", "source", "reason"
        )
        self._ended = counter("associations_ended", "associations that are over", "ending")
        self._association_seconds = histogram(
            "association_duration_seconds", "from A-ASSOCIATE to the end"
        )
        self._active = gauge("associations_active", "associations now")
        self._peak = gauge(
            "associations_active_peak", "most at once in one worker since the start", mode="max"
        )
        self._connections = gauge("connections_active", "transport connections now")
        self._handshakes = gauge("handshakes_active", "TLS handshakes under way now")
        self._refused = counter(
            "connections_refused", "connections that never became an association", "refusal"
        )
        self._operations = counter(
            "operations", "DIMSE operations that have ended", "command", "role", "status"
        )
        self._operation_seconds = histogram(
            "operation_duration_seconds", "from the command set to the end",
            "command", "role", "status",
        )  # fmt: skip
        self._received = counter("received_bytes", "bytes of DICOM received")
        self._sent = counter("sent_bytes", "bytes of DICOM sent")
        self._stored = counter(
            "instances_stored", "objects kept, by what became of them", "outcome"
        )
        self._of_other_patients = counter(
            "instances_of_other_patients",
            "objects that name another patient than their study came with",
            "outcome",
        )
        self._deleted = counter("instances_deleted", "objects that have left the archive", "cause")
        self._stored_bytes = counter("stored_bytes", "bytes of data sets kept")
        self._matches = counter("query_matches", "matches of C-FIND answered")
        self._suboperations = counter(
            "suboperations", "C-STORE sub-operations of C-MOVE and C-GET", "command", "outcome"
        )
        self._denied = counter("operations_denied", "operations answered with 0124H", "command")
        self._deliveries = counter(
            "event_deliveries", "attempts to deliver an event", "consumer", "outcome"
        )
        self._events_waiting = gauge(
            "events_waiting", "events that a consumer has yet to get", "consumer"
        )
        self._receiving = gauge("studies_receiving", "studies that are not complete")
        self._damaged = counter("objects_damaged", "objects found that are not what was stored")
        self._orders = counter(
            "order_messages", "HL7 order messages answered", "message_type", "acknowledgement"
        )
        self._reloads = counter(
            "configuration_reloads", "attempts to read something again", "what", "outcome"
        )
        self._forwarded = counter(
            "forwards", "attempts to send objects on by rule", "destination", "outcome"
        )
        self._transcoded = counter(
            "transcoded_objects",
            "objects that were made in a transfer syntax that a peer takes",
            "target",
            "outcome",
        )
        self._compressed = counter(
            "compressed_objects", "objects that rules had compressed, or were to", "target",
            "outcome",
        )  # fmt: skip
        self._compressed_bytes = counter(
            "compressed_bytes", "bytes of their files, before and after", "form"
        )
        self._queued = gauge(
            "forward_queue", "objects to be forwarded, of all processes", "destination", "state",
            mode="mostrecent",
        )  # fmt: skip
        #: Gauges, also of what only grows: commands delete, too, and have no page of their own.
        self._trash = {
            name: gauge(name, text, mode="mostrecent")
            for name, text in (
                ("trash_instances", "deleted objects that can be restored"),
                ("trash_bytes", "bytes of their files"),
                ("deleted_instances", "objects that were ever deleted"),
                ("deleted_bytes", "bytes of their files"),
            )
        }
        #: What is kept, and where: for all processes together.
        self._kept = {
            name: gauge(name, text, mode="mostrecent")
            for name, text in (
                ("patients", "patients in the archive"),
                ("studies", "studies in the archive"),
                ("series", "series in the archive"),
                ("instances", "instances in the archive"),
                ("instances_bytes", "bytes of their files"),
                ("disk_total_bytes", "size of the file system of the data directory"),
                ("disk_free_bytes", "what of it is free for the server"),
                ("audit_trail_bytes", "bytes of the files of the audit trail"),
            )
        }
        self._queued_before: set[tuple[str, str]] = set()
        self._budget = gauge("memory_budget_taken_bytes", "bytes of objects on their way in")
        self._budget_limit = gauge("memory_budget_limit_bytes", "the most of them")
        self._waiting = gauge("commits_waiting", "objects that wait to be made durable")
        self._unsettled = gauge(
            "commits_unsettled", "acknowledged objects whose files are yet to be synced"
        )
        self._batch = histogram(
            "commit_batch_objects", "objects made durable in one round", buckets=_BATCHES
        )
        self._batch_seconds = histogram("commit_duration_seconds", "of one round")
        self._ends = gauge(
            "certificate_expiry_timestamp_seconds", "when it ends", "what", "name", mode="max"
        )
        gauge("build_info", "which version this is", "version", mode="max").labels(version).set(1)
        bounds = gauge("limit", "bounds in force", "name", mode="max")
        for name, value in (limits or {}).items():
            bounds.labels(name).set(value)
        if not self._is_shared:
            client.ProcessCollector(registry=registry)
            client.PlatformCollector(registry=registry)
        #: `labels` costs more than counting.
        self._operation = lru_cache(_CHILDREN)(self._children_of_operation)

    def _children_of_operation(
        self, command: str, as_scp: bool, status: int | None
    ) -> tuple[Any, Any]:
        role = "scp" if as_scp else "scu"
        kind = "none" if status is None else _STATUS_NAMES[classify(status)]
        return (
            self._operations.labels(command, role, kind),
            self._operation_seconds.labels(command, role, kind),
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
                self._stored.labels(notice.outcome).inc()
                self._stored_bytes.inc(notice.size)
            case AssociationEstablished():
                self._established.inc()
                self._refresh_associations()
            case AssociationEnded():
                self._ended.labels(notice.ending.value).inc()
                self._association_seconds.observe(notice.seconds)
            case AssociationRejected():
                self._rejected.labels(notice.source, notice.reason).inc()
            case ConnectionRefused():
                self._refused.labels(notice.refusal.value).inc()
            case QueryAnswered():
                self._matches.inc(notice.matches)
            case InstancesSent() if notice.command != "C-STORE":
                for outcome in ("completed", "failed", "warning"):
                    count = self._suboperations.labels(notice.command, outcome)
                    count.inc(getattr(notice, outcome))
            case AccessDenied():
                self._denied.labels(notice.command).inc()
            case EventDelivery():
                self._deliveries.labels(notice.consumer, notice.outcome.replace(" ", "_")).inc()
            case EventBacklogMeasured():
                for name, number in notice.waiting.items():
                    self._events_waiting.labels(name).set(number)
                self._receiving.set(notice.receiving)
            case ObjectDamaged():
                self._damaged.inc()
            case OrderMessageAnswered():
                self._orders.labels(notice.message_type, notice.acknowledgement).inc()
            case ForwardAttempted():
                self._forwarded.labels(notice.destination, notice.outcome).inc(notice.objects)
            case ObjectTranscoded():
                self._transcoded.labels(name_of(notice.target), notice.outcome).inc()
            case InstancesCompressed():
                count = self._compressed.labels(name_of(notice.target), notice.outcome)
                count.inc(notice.instances)
                self._compressed_bytes.labels("before").inc(notice.size_before)
                self._compressed_bytes.labels("after").inc(notice.size)
            case InstancesDeleted():
                cause = notice.cause.value.replace(" ", "_")
                self._deleted.labels(cause).inc(notice.study.instances)
            case ForwardQueueMeasured():
                for names in self._queued_before | notice.counts.keys():
                    self._queued.labels(*names).set(notice.counts.get(names, 0))
                self._queued_before |= notice.counts.keys()
            case TrashMeasured():
                self._trash["trash_instances"].set(notice.instances)
                self._trash["trash_bytes"].set(notice.size)
                self._trash["deleted_instances"].set(notice.deleted)
                self._trash["deleted_bytes"].set(notice.deleted_size)
            case ConfigurationReloaded():
                self._reloads.labels(notice.what, "failed" if notice.fault else "done").inc()
            case _:
                pass  # nothing to count

    def keeps(self, figures: Mapping[str, int]) -> None:
        """What the archive and its disk hold now, by name of the metric."""
        for name, value in figures.items():
            self._kept[name].set(value)

    def committed(self, objects: int, seconds: float) -> None:
        """A round of the committer is over (`Committer`, *on_round*)."""
        self._batch.observe(objects)
        self._batch_seconds.observe(seconds)

    def met_other_patient(self, kept: bool) -> None:
        """An object names another patient than its study (`Committer`, *on_other_patient*)."""
        self._of_other_patients.labels("kept" if kept else "refused").inc()

    def _refresh_associations(self) -> None:
        if self.server is not None:
            now = self.server.associations
            self._active.set(now)
            self._most = max(getattr(self, "_most", 0), now)
            self._peak.set(self._most)

    def refresh(self) -> None:
        """Take up what is not told but can be seen; now and then, and before a page is made."""
        self._refresh_associations()
        if self.server is not None:
            self._connections.set(self.server.connections)
            self._handshakes.set(self.server.handshakes)
            received, sent = self.server.traffic()
            self._received.inc(received - self._seen_bytes[0])
            self._sent.inc(sent - self._seen_bytes[1])
            self._seen_bytes = (received, sent)
        if self.archive is not None:
            self._budget.set(self.archive.budget.taken)
            self._budget_limit.set(self.archive.budget.limit)
            self._waiting.set(self.archive.committer.waiting)
            self._unsettled.set(self.archive.committer.unsettled)
        for expiry in self._expiries():
            self._ends.labels(expiry.what, expiry.name).set(expiry.ends.timestamp())

    # -- Showing ----------------------------------------------------------------------

    def page(self) -> bytes:
        """All numbers of all processes, in Prometheus' text format."""
        import prometheus_client as client

        self.refresh()
        registry = self.registry
        if self._is_shared:
            from prometheus_client import multiprocess

            registry = client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        page: bytes = client.generate_latest(registry)
        return page

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
