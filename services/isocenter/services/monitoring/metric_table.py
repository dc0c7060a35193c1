"""Table of the metrics, by subject: names, meanings, labels."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.fast_init import dataclass

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Seconds: from an answer without any waiting to a retrieval of a large study.
DURATIONS: Final = (
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
)  # fmt: skip
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Joined(Enum):
    """How the gauges of several processes become one; the values are prometheus_client's."""

    #: Each has its own; those that have ended have none.
    SUM = "livesum"
    MAX = "max"
    MIN = "min"
    #: Each measures what all of them share.
    LATEST = "mostrecent"


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that is counted: only grows, and its name on the page ends in ``_total``."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Something that is measured."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    joined: Joined = Joined.SUM


@dataclass(frozen=True, slots=True)
class Histogram:
    """Something of which there are many, counted by size."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = DURATIONS


Metric = Counter | Gauge | Histogram

ASSOCIATIONS: Final[tuple[Metric, ...]] = (
    Counter("associations_established", "A-ASSOCIATE-AC sent"),
    Counter(
        "associations_rejected", "A-ASSOCIATE-RJ sent (PS3.8 Table 9-21)", ("source", "reason")
    ),
    Counter("associations_ended", "associations that are over", ("ending",)),
    Histogram("association_duration_seconds", "from A-ASSOCIATE to the end"),
    Gauge("associations_active", "associations now"),
    Gauge(
        "associations_active_peak",
        "most at once in one worker since the start",
        joined=Joined.MAX,
    ),
)
CONNECTIONS: Final[tuple[Metric, ...]] = (
    Gauge("connections_active", "transport connections now"),
    Gauge("handshakes_active", "TLS handshakes under way now"),
    Counter("connections_refused", "connections that never became an association", ("refusal",)),
    Counter("received_bytes", "bytes of DICOM received"),
    Counter("sent_bytes", "bytes of DICOM sent"),
)
OPERATIONS: Final[tuple[Metric, ...]] = (
    Counter("operations", "DIMSE operations that have ended", ("command", "role", "status")),
    Histogram(
        "operation_duration_seconds",
        "from the command set to the end",
        ("command", "role", "status"),
    ),
    Gauge("operation_shortest_seconds", "the shortest since the start", ("command",), Joined.MIN),
    Gauge("operation_longest_seconds", "the longest since the start", ("command",), Joined.MAX),
    Counter("operations_denied", "operations answered with 0124H", ("command",)),
    Counter("queries", "C-FIND and searches over HTTP that have ended", ("outcome",)),
    Gauge("queries_active", "C-FIND under way now"),
    Counter("query_matches", "matches answered, of C-FIND and of searches over HTTP"),
    Counter("suboperations", "C-STORE sub-operations of C-MOVE and C-GET", ("command", "outcome")),
)
WEB: Final[tuple[Metric, ...]] = (
    Counter("http_requests", "requests answered over HTTP", ("method", "route", "status")),
    Histogram(
        "http_request_duration_seconds", "from the head to the end of the answer", ("route",)
    ),
    Counter("searches", "searches of studies, series and instances over HTTP", ("outcome",)),
    Counter("http_sent_bytes", "bytes of the bodies of answers", ("route",)),
    Gauge("http_requests_active", "connections for HTTP on which a request is under way"),
    Gauge("http_connections_active", "connections for HTTP now"),
    Counter("http_limits_reached", "times that a bound kept a client out, or ended it", ("limit",)),
    Counter("sign_ins_failed", "tokens that were not believed over HTTP", ("kind",)),
)
INSTANCES: Final[tuple[Metric, ...]] = (
    Counter("instances_stored", "objects kept, by what became of them", ("outcome",)),
    Counter(
        "instances_of_other_patients",
        "objects that name another patient than their study came with",
        ("outcome",),
    ),
    Counter("instances_validated", "objects held against their IODs on arrival", ("outcome",)),
    Counter("stored_bytes", "bytes of data sets kept"),
    Counter("objects_damaged", "objects found that are not what was stored"),
    Counter("instances_deleted", "objects that have left the archive", ("cause",)),
)
COMMITS: Final[tuple[Metric, ...]] = (
    Gauge("memory_budget_taken_bytes", "bytes of objects on their way in"),
    Gauge("memory_budget_limit_bytes", "the most of them"),
    Gauge("commits_waiting", "objects that wait to be made durable"),
    Gauge("commits_unsettled", "acknowledged objects whose files are yet to be synced"),
    Histogram("commit_batch_objects", "objects made durable in one round", buckets=_BATCHES),
    Histogram("commit_duration_seconds", "of one round"),
)
#: How the database does, beside what the pages show of the latest transactions.
DATABASE: Final[tuple[Metric, ...]] = (
    Counter("database_transactions", "transactions of the database", ("outcome",)),
    Histogram("database_transaction_duration_seconds", "of one, with the wait for its turn"),
    Counter("database_slow_transactions", "transactions that took a second or longer"),
    Gauge("database_connections", "connections with the database"),
    Gauge("database_connections_in_use", "those on which something is done now"),
)
#: What is kept, and where: for all processes together.
KEPT: Final[tuple[Metric, ...]] = (
    Gauge("patients", "patients in the archive", joined=Joined.LATEST),
    Gauge("studies", "studies in the archive", joined=Joined.LATEST),
    Gauge("series", "series in the archive", joined=Joined.LATEST),
    Gauge("instances", "instances in the archive", joined=Joined.LATEST),
    Gauge("instances_bytes", "bytes of their files", joined=Joined.LATEST),
    Gauge(
        "disk_total_bytes",
        "size of the file system of the data directory",
        joined=Joined.LATEST,
    ),
    Gauge("disk_free_bytes", "what of it is free for the server", joined=Joined.LATEST),
    Gauge("audit_trail_bytes", "bytes of the files of the audit trail", joined=Joined.LATEST),
)
#: The audit trail, and the collectors that get it.
AUDIT: Final[tuple[Metric, ...]] = (
    Counter("audit_messages", "audit messages, by what became of them", ("outcome",)),
    Gauge("audit_messages_waiting", "messages in memory that are not in the trail yet"),
    Counter("audit_sent", "records sent to a collector, some more than once", ("collector",)),
    Counter("audit_send_failures", "connections that could not be made, or broke", ("collector",)),
    Gauge(
        "audit_unsent",
        "records of the trail that a collector is not known to have",
        ("collector",),
        Joined.LATEST,
    ),
)
#: Gauges, also of what only grows: commands delete, too, and have no page of their own.
TRASH: Final[tuple[Metric, ...]] = (
    Gauge("trash_instances", "deleted objects that can be restored", joined=Joined.LATEST),
    Gauge("trash_bytes", "bytes of their files", joined=Joined.LATEST),
    Gauge("deleted_instances", "objects that were ever deleted", joined=Joined.LATEST),
    Gauge("deleted_bytes", "bytes of their files", joined=Joined.LATEST),
    Gauge(
        "quarantined_instances",
        "objects that are withheld until somebody releases them",
        joined=Joined.LATEST,
    ),
    Gauge("rejected_instances", "objects that a rejection note has withheld", joined=Joined.LATEST),
)
TIERS: Final[tuple[Metric, ...]] = (
    Counter("tier_moves", "objects that came into a tier, or could not", ("tier", "outcome")),
    Counter("tier_moved_bytes", "bytes of the files that came into a tier", ("tier",)),
    Gauge("tier_instances", "objects in a tier", ("tier",), Joined.LATEST),
    Gauge("tier_bytes", "bytes of their files", ("tier",), Joined.LATEST),
)
COMPRESSION: Final[tuple[Metric, ...]] = (
    Counter(
        "transcoded_objects",
        "objects that were made in a transfer syntax that a peer takes",
        ("target", "outcome"),
    ),
    Counter(
        "compressed_objects",
        "objects that rules had compressed, or were to",
        ("target", "outcome"),
    ),
    Counter("compressed_bytes", "bytes of their files, before and after", ("form",)),
)
WORKFLOW: Final[tuple[Metric, ...]] = (
    Counter("event_deliveries", "attempts to deliver an event", ("consumer", "outcome")),
    Gauge("events_waiting", "events that a consumer has yet to get", ("consumer",)),
    Gauge("studies_receiving", "studies that are not complete"),
    Counter("study_locks", "locks of studies that are over", ("kind", "outcome")),
    Histogram("study_lock_seconds", "how long locks of studies were held", ("kind",)),
    Counter("associations_taken", "uses of associations with peers for objects and jobs", ("how",)),
    Counter("forwards", "attempts to send objects on by rule", ("destination", "outcome")),
    Gauge(
        "forward_queue",
        "objects to be forwarded, of all processes",
        ("destination", "state"),
        Joined.LATEST,
    ),
    Counter("analyses", "requests to AI services that are over", ("service", "state")),
    Counter("analysis_results", "objects that AI services answered with", ("service", "outcome")),
    Gauge(
        "publications_behind",
        "studies of which a repository has another manifest than it ought to have",
        ("repository",),
        Joined.LATEST,
    ),
    Gauge(
        "publications_behind_seconds",
        "for how long the oldest of them",
        ("repository",),
        Joined.LATEST,
    ),
    Counter(
        "committed_instances", "objects whose storage commitment was requested of us", ("outcome",)
    ),
    Counter("print_jobs", "print jobs, by what became of them", ("what",)),
    Counter("workitem_changes", "changes of unified procedure steps", ("what", "state")),
    Counter("order_messages", "HL7 order messages answered", ("message_type", "acknowledgement")),
)
#: Of servers that have one archive together.
NODES: Final[tuple[Metric, ...]] = (
    Gauge("node_info", "which node this is", ("node",), Joined.MAX),
    Gauge("nodes", "nodes of the archive", ("state",), Joined.LATEST),
    Gauge(
        "node_clock_offset_seconds",
        "how far the clock of a node is ahead of the database's",
        ("node",),
        Joined.LATEST,
    ),
    Gauge(
        "node_database_seconds",
        "how long the database takes to answer a node",
        ("node",),
        Joined.LATEST,
    ),
)
SERVER: Final[tuple[Metric, ...]] = (
    Gauge("recent_rate", "per second, over the last minute", ("of",)),
    Counter("configuration_reloads", "attempts to read something again", ("what", "outcome")),
    Gauge("certificate_expiry_timestamp_seconds", "when it ends", ("what", "name"), Joined.MAX),
    Gauge("build_info", "which version this is", ("version",), Joined.MAX),
    Gauge("limit", "bounds in force", ("name",), Joined.MAX),
)

METRICS: Final[tuple[Metric, ...]] = (
    *ASSOCIATIONS, *CONNECTIONS, *OPERATIONS, *WEB, *INSTANCES, *COMMITS, *DATABASE, *KEPT, *AUDIT,
    *TRASH, *TIERS, *COMPRESSION, *WORKFLOW, *NODES, *SERVER,
)  # fmt: skip


def register(metric: Metric, registry: CollectorRegistry) -> Any:
    """What counts it: a metric of prometheus_client."""
    import prometheus_client as client

    name = f"isocenter_{metric.name}"
    match metric:
        case Counter():
            return client.Counter(name, metric.text, metric.labels, registry=registry)
        case Gauge():
            return client.Gauge(
                name,
                metric.text,
                metric.labels,
                registry=registry,
                multiprocess_mode=metric.joined.value,
            )
        case Histogram():
            return client.Histogram(
                name, metric.text, metric.labels, registry=registry, buckets=metric.buckets
            )
