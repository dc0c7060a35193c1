"""Sections of log, audit trail and monitoring."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_host
from isocenter.services.security.audit.repository import SyslogRepository
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.audit_repositories import CollectorKind
from isocenter.services.settings.field import MIB, setting


def _is_endpoint(text: str) -> bool:
    """Whether it is empty, or a URL that nobody's secret stands in."""
    if not text:
        return True
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  (it is read, and may be none)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and is_host(parts.hostname or "")
        and "@" not in parts.netloc
        and not parts.query
        and not parts.fragment
    )


class LogLevel(Enum):
    """The lowest severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The log; it contains no attribute values."""

    level: LogLevel = setting(
        LogLevel.INFO,
        kinds.Choice(LogLevel),
        "lowest severity that is logged",
        "--log-level",
        "L",
    )
    format: LogFormat = setting(
        LogFormat.TEXT, kinds.Choice(LogFormat), "format of lines", "--log-format", "text|json"
    )
    file: Path | None = setting(
        None,
        kinds.FilePath(),
        "file to log to instead of standard error; another program may rename it at any time",
    )
    rotate: int = setting(
        64 * MIB,
        kinds.Integer(65_536, 1 << 40, "bytes", zero="leave that to another program"),
        "size at which log.file becomes FILE.1, and FILE.1 becomes FILE.2 …",
    )
    keep_files: int = setting(10, kinds.Integer(1, 10_000), "number of renamed files to keep")


class OnAuditFailure(Enum):
    """What happens when the audit trail cannot be written."""

    #: Serve on, and say so in the log; messages wait in memory, within a bound.
    CONTINUE = "continue"
    #: Stop serving, gracefully: nothing happens that is not recorded.
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit trail (PS3.15 A.5); it holds patient IDs and names."""

    enabled: bool = setting(
        True,
        kinds.Boolean(),
        "keep an audit trail",
        off_flag="--no-audit",
        off_help="keep no audit trail",
    )
    source_id: str = setting(
        "", kinds.SECRET, "Audit Source ID: the name of this server in messages (empty: AE title)"
    )
    site_id: str = setting("", kinds.SECRET, "Audit Enterprise Site ID: the site of this server")
    storage: bool = setting(True, kinds.Boolean(), "record instances stored and imported")
    query: bool = setting(True, kinds.Boolean(), "record queries")
    retrieve: bool = setting(True, kinds.Boolean(), "record instances sent")
    authentication: bool = setting(True, kinds.Boolean(), "record authentication of users")
    security_alerts: bool = setting(
        True, kinds.Boolean(), "record rejected peers, and changes of configuration"
    )
    on_failure: OnAuditFailure = setting(
        OnAuditFailure.CONTINUE,
        kinds.Choice(OnAuditFailure),
        "when the trail cannot be written: continue to serve, or stop",
    )
    folder: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "folder of the trail (unset: audit in the data directory); existing files are not moved",
    )
    rotate: int = setting(
        64 * MIB,
        kinds.Integer(65_536, 1 << 40, "bytes"),
        "size at which a new file of the trail is begun, after which the old one does not "
        "change any more",
    )
    compress: bool = setting(
        True, kinds.Boolean(), "compress files of the trail that do not change any more (gzip)"
    )
    keep_days: int = setting(
        0,
        kinds.Integer(1, 36_500, zero="for ever"),
        "days after which files of the trail are removed, in a way that the rest can still be "
        "verified",
    )
    hmac_key_file: Path | None = setting(
        None,
        kinds.FilePath(),
        "file with a key that protects the trail against changes by somebody who cannot read "
        "the key",
    )
    collectors: tuple[SyslogRepository, ...] = setting(
        (),
        kinds.ListOf(CollectorKind()),
        "syslog collectors to send the trail to (repeatable)",
        "--audit-collector",
        "tls://HOST:PORT",
    )
    certificate: Path | None = setting(
        None, kinds.FilePath(), "own certificate for collectors (unset: that of the server)"
    )
    key: Path | None = setting(None, kinds.FilePath(), "its private key (PEM, mode 600)")
    ca: Path | None = setting(
        None, kinds.FilePath(), "CAs that sign the collectors' certificates (unset: the server's)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings:
    """Metrics and health over HTTP."""

    enabled: bool = setting(
        True,
        kinds.Boolean(),
        "offer metrics and health over HTTP",
        off_flag="--no-monitoring",
        off_help="answer no HTTP",
    )
    host: str = setting("127.0.0.1", kinds.HOST, "address to listen on for HTTP")
    port: int = setting(
        11180, kinds.PORT, "port for HTTP; 0 takes a free one", "--monitoring-port", "N"
    )
    token_file: Path | None = setting(
        None,
        kinds.FilePath(),
        "file with the token that is required to see figures (Authorization: Bearer); unset: "
        "only this machine sees figures, others only the state of health",
    )
    check_interval: int = setting(
        0,
        kinds.Integer(1, 86_400, "seconds", zero="only when somebody asks"),
        "how often the server looks at its own health; the log says when that changes",
    )
    check_timeout: int = setting(
        5,
        kinds.Integer(1, 300, "seconds"),
        "time for each check of health: of the index, of the disk, of a plug-in",
    )
    cache_seconds: int = setting(
        5,
        kinds.Integer(0, 3_600, "seconds"),
        "how old an answer about health may be; those who ask in between cost nothing",
    )
    tracing_endpoint: str = setting(
        "",
        kinds.Text("an http:// or https:// URL without user, query and fragment", _is_endpoint),
        "collector that traces are sent to (OTLP over HTTP; without a path, /v1/traces); unset: "
        "as OTEL_EXPORTER_OTLP_ENDPOINT says, and none without that",
    )
    service_name: str = setting(
        "isocenter",
        kinds.Text("a name", bool),
        "name of this server in traces, unless OTEL_SERVICE_NAME says another",
    )
    export_interval: int = setting(
        5, kinds.Integer(1, 3_600, "seconds"), "how often traces are sent"
    )
    disk_notice: int = setting(
        70,
        kinds.Integer(1, 100, "percent"),
        "disk usage from which on the log says once a day how full the disk is",
    )
    disk_warning: int = setting(
        80, kinds.Integer(1, 100, "percent"), "disk usage from which on the archive is degraded"
    )
    disk_critical: int = setting(
        95, kinds.Integer(1, 100, "percent"), "disk usage from which on the archive is unhealthy"
    )
