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
from contextlib import suppress
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, assert_never

from isocenter.engine.dimse.message_codec import CFindRequest
from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.archive.locks.lock import LockEnded
from isocenter.services.archive.tiers.mover import StudyMoved
from isocenter.services.archive.tiers.worker import TiersMeasured
from isocenter.services.association.pool import AssociationTaken
from isocenter.services.cluster.member import Member, MemberState
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.integration.sharing.publication_upkeep import PublicationsMeasured
from isocenter.services.monitoring.metric_table import METRICS, register
from isocenter.services.monitoring.recent_rates import RecentRates
from isocenter.services.net.http.notices import HttpLimitReached, RequestAnswered
from isocenter.services.notices import (
    AccessDenied,
    AnalysisEnded,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    CommitmentDone,
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
    PrintJobChanged,
    QueryAnswered,
    SearchAnswered,
    TrashMeasured,
    WorkitemChanged,
)
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.certificates.expiry import Expiry

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from isocenter.services.archive.archive import Archive
    from isocenter.services.archive.query_times.ports import QueryTimer
    from isocenter.services.association.server import Server
    from isocenter.services.net.http.server import HttpServer
    from isocenter.services.security.audit.recorder import AuditRecorder

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
        server, archive, web, audit, database: what they hold now is looked at when somebody asks;
            None: nothing.
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
        self.audit: AuditRecorder | None = None
        self.database: QueryTimer | None = None
        #: What was counted elsewhere, when it was last taken up.
        self._seen: dict[tuple[str, ...], int] = {}
        self._rates = RecentRates()
        #: Of each command that peers asked for, the shortest and the longest, in seconds.
        self._extremes: dict[str, tuple[float, float]] = {}
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
                self._ended(notice)
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
                self._of("queries", notice.outcome).inc()
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
            case WorkitemChanged() | PrintJobChanged() | AnalysisEnded() | CommitmentDone():
                self._on_work(notice)
            case OrderMessageAnswered():
                self._of("order_messages", notice.message_type, notice.acknowledgement).inc()
            case ForwardAttempted():
                self._of("forwards", notice.destination, notice.outcome).inc(notice.objects)
            case ObjectTranscoded():
                self._of("transcoded_objects", name_of(notice.target), notice.outcome).inc()
            case InstancesDeleted():
                cause = notice.cause.value.replace(" ", "_")
                self._of("instances_deleted", cause).inc(notice.study.instances)
            case ForwardQueueMeasured():
                for names in self._queued_before | notice.counts.keys():
                    self._of("forward_queue", *names).set(notice.counts.get(names, 0))
                self._queued_before |= notice.counts.keys()
            case ConfigurationReloaded():
                self._of(
                    "configuration_reloads", notice.what, "failed" if notice.fault else "done"
                ).inc()
            case AssociationTaken() | LockEnded():
                self._on_use(notice)
            case _:
                self._on_objects(notice)

    def _ended(self, notice: OperationEnded) -> None:
        command, seconds = notice.command, notice.seconds
        count, durations = self._operation(command, notice.as_scp, notice.status)
        count.inc()
        durations.observe(seconds)
        if not notice.as_scp:
            return
        shortest, longest = self._extremes.get(command, (inf, -inf))
        if shortest <= seconds <= longest:
            return
        if seconds < shortest:
            shortest = seconds
            self._of("operation_shortest_seconds", command).set(seconds)
        if seconds > longest:
            longest = seconds
            self._of("operation_longest_seconds", command).set(seconds)
        self._extremes[command] = (shortest, longest)

    def _on_work(
        self, notice: WorkitemChanged | PrintJobChanged | AnalysisEnded | CommitmentDone
    ) -> None:
        """What is to be done, or was."""
        match notice:
            case WorkitemChanged():
                self._of(
                    "workitem_changes",
                    notice.what.replace(" ", "_"),
                    notice.state.replace(" ", "_").lower(),
                ).inc()
            case PrintJobChanged():
                self._of("print_jobs", notice.what).inc()
            case AnalysisEnded():
                self._of("analyses", notice.service, notice.state).inc()
                for outcome in ("stored", "withheld", "refused"):
                    count = self._of("analysis_results", notice.service, outcome)
                    count.inc(getattr(notice, outcome))
            case CommitmentDone():
                self._of("committed_instances", "committed").inc(len(notice.committed))
                self._of("committed_instances", "failed").inc(len(notice.failed))
            case _:
                assert_never(notice)

    def _on_use(self, notice: AssociationTaken | LockEnded) -> None:
        """Of what tasks share."""
        match notice:
            case LockEnded():
                kind = notice.kind.value
                self._of("study_locks", kind, notice.outcome).inc()
                if notice.outcome != "refused":
                    self._of("study_lock_seconds", kind).observe(notice.seconds)
            case AssociationTaken():
                how = "reused" if notice.is_reused else "opened"
                self._of("associations_taken", how).inc()
            case _:
                assert_never(notice)

    def _on_objects(self, notice: Notice) -> None:
        """What became of objects that the archive has."""
        match notice:
            case InstancesCompressed():
                count = self._of("compressed_objects", name_of(notice.target), notice.outcome)
                count.inc(notice.instances)
                self._of("compressed_bytes", "before").inc(notice.size_before)
                self._of("compressed_bytes", "after").inc(notice.size)
            case StudyMoved():
                self._of("tier_moves", notice.tier, "moved").inc(notice.instances)
                self._of("tier_moves", notice.tier, "failed").inc(notice.failed)
                self._of("tier_moved_bytes", notice.tier).inc(notice.size)
            case TiersMeasured():
                for each in notice.usage:
                    self._of("tier_instances", each.tier.value).set(each.instances)
                    self._of("tier_bytes", each.tier.value).set(each.size)
            case PublicationsMeasured():
                for name, count in notice.behind.items():
                    self._of("publications_behind", name).set(count)
                for name, seconds in notice.seconds.items():
                    self._of("publications_behind_seconds", name).set(seconds)
            case TrashMeasured():
                self._of("trash_instances").set(notice.instances)
                self._of("trash_bytes").set(notice.size)
                self._of("deleted_instances").set(notice.deleted)
                self._of("deleted_bytes").set(notice.deleted_size)
                self._of("quarantined_instances").set(notice.quarantined)
                self._of("rejected_instances").set(notice.rejected)
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

    def sees(self, node: str, members: Sequence[Member]) -> None:
        """The nodes of the archive as they are now, of which this server is one."""
        self._of("node_info", node).set(1)
        for state in MemberState:
            self._of("nodes", state.value).set(sum(one.state is state for one in members))
        for one in members:
            self._of("node_clock_offset_seconds", one.name).set(one.clock_offset)
            self._of("node_database_seconds", one.name).set(one.answer_seconds)

    def committed(self, objects: int, seconds: float) -> None:
        """A round of the committer is over (`Committer`, *on_round*)."""
        self._of("commit_batch_objects").observe(objects)
        self._of("commit_duration_seconds").observe(seconds)

    def transaction(self, what: str, seconds: float, has_failed: bool) -> None:
        """A listener of `QueryTimer`: a transaction of the database is over."""
        self._of("database_transactions", "failed" if has_failed else "done").inc()
        self._of("database_transaction_duration_seconds").observe(seconds)

    def met_other_patient(self, kept: bool) -> None:
        """An object names another patient than its study (`Committer`, *on_other_patient*)."""
        self._of("instances_of_other_patients", "kept" if kept else "refused").inc()

    def validated(self, is_valid: bool, is_refused: bool) -> None:
        """An object was held against its IOD on arrival (`Intake`, *on_validated*)."""
        outcome = "valid" if is_valid else "refused" if is_refused else "kept"
        self._of("instances_validated", outcome).inc()

    def refresh(self) -> None:
        """Take up what is not told but can be seen; now and then, and before a page is made."""
        totals: dict[str, float] = {}
        if self.server is not None:
            self._of("associations_active").set(self.server.associations)
            self._of("associations_active_peak").set(self.server.most_associations)
            self._of("connections_active").set(self.server.connections)
            self._of("handshakes_active").set(self.server.handshakes)
            self._of("queries_active").set(self.server.under_way(CFindRequest))
            received, sent = self.server.traffic()
            self._counted(received, "received_bytes")
            self._counted(sent, "sent_bytes")
            totals |= {"received_bytes": received, "sent_bytes": sent}
        if self.web is not None:
            self._of("http_requests_active").set(self.web.requests)
            self._of("http_connections_active").set(self.web.connections)
        if self.archive is not None:
            self._of("memory_budget_taken_bytes").set(self.archive.budget.taken)
            self._of("memory_budget_limit_bytes").set(self.archive.budget.limit)
            self._of("commits_waiting").set(self.archive.committer.waiting)
            self._of("commits_unsettled").set(self.archive.committer.unsettled)
        if self.database is not None:
            times = self.database.times()
            self._counted(times.slow, "database_slow_transactions")
            self._of("database_connections").set(times.connections.total)
            self._of("database_connections_in_use").set(times.connections.in_use)
            totals |= {
                "database_transactions": times.total,
                "database_failures": times.failed,
            }
        for name, rate in self._rates.rates(totals).items():
            self._of("recent_rate", name).set(rate)
        if self.audit is not None:
            self._counted(self.audit.writer.statistics.recorded, "audit_messages", "recorded")
            self._counted(self.audit.writer.statistics.lost, "audit_messages", "lost")
            self._of("audit_messages_waiting").set(self.audit.writer.waiting)
            for delivery in self.audit.deliveries:
                collector = str(delivery.collector)
                self._counted(delivery.statistics.sent, "audit_sent", collector)
                self._counted(delivery.statistics.failures, "audit_send_failures", collector)
        for expiry in self._expiries():
            self._of("certificate_expiry_timestamp_seconds", expiry.what, expiry.name).set(
                expiry.ends.timestamp()
            )

    def _counted(self, total: int, name: str, *labels: str) -> None:
        """Somebody else has counted so many since the start."""
        key = (name, *labels)
        self._of(*key).inc(total - self._seen.get(key, 0))
        self._seen[key] = total

    async def look_at_collectors(self) -> None:
        """Take up how far each collector of the audit trail has got; what cannot be read now is
        left as it was."""
        for delivery in self.audit.deliveries if self.audit is not None else ():
            with suppress(OSError):
                unsent = await delivery.unsent()
                if unsent is not None:
                    self._of("audit_unsent", str(delivery.collector)).set(unsent)

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
