"""Sections of the server and of what it offers in the clear."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import COUNT, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """AE titles, limits on connections, and the port without TLS."""

    ae_title: str = setting(
        "ISOCENTER", kinds.AE_TITLE, "AE title of the archive", "--ae-title", "AET"
    )
    additional_ae_titles: tuple[str, ...] = setting(
        (), kinds.ListOf(kinds.AE_TITLE), "further called AE titles to accept"
    )
    accept_any_called_ae_title: bool = setting(False, kinds.Boolean(), "accept any called AE title")
    host: str = setting(
        "127.0.0.1",
        kinds.HOST,
        "address to listen on without TLS; on a network everybody on the path can read and "
        "change what is sent",
        "--host",
        "H",
    )
    port: int = setting(
        11112, kinds.PORT, "port without TLS; 0: any free port, which is printed", "--port", "N"
    )
    max_connections: int = setting(
        2_000,
        COUNT,
        "connections at once, including those without an association yet; this and the "
        "following limits apply to each worker",
    )
    max_handshakes: int = setting(100, COUNT, "TLS handshakes at once")
    max_associations: int = setting(1_000, COUNT, "associations at once")
    max_associations_per_address: int = setting(500, COUNT, "associations at once from one address")
    max_associations_per_ae_title: int = setting(
        400, COUNT, "associations at once with one calling AE title"
    )
    max_pdu_length: int = setting(
        DEFAULT_LIMITS.max_pdu_length,
        kinds.Integer(4_096, DEFAULT_LIMITS.unlimited_pdu_length, "bytes", zero="no limit"),
        "maximum PDU length to announce",
    )
    operations_window: int = setting(
        16,
        kinds.Integer(1, 65_535),
        "operations at once on one association, for peers that negotiate it (PS3.7 D.3.3.3)",
    )
    time_zone: str = setting(
        "",
        kinds.Text(
            "a name of the IANA time zone database, like Europe/Berlin; empty: the machine's",
            lambda text: not text or kinds.is_time_zone(text),
        ),
        "time zone of dates and times in objects that say no offset from UTC, where others have "
        "to know it: in FHIR, manifests of studies, and timezone query adjustment",
    )
    workers: int = setting(
        1, kinds.Integer(1, 256), "processes that serve the same ports", "--workers", "N"
    )
    capture: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "folder in which to record the bytes of each association, for isocenter dissect; they "
        "contain patient data",
        "--capture",
        "DIR",
    )

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone; None: that of this machine."""
        return ZoneInfo(self.time_zone) if self.time_zone else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSettings:
    """DICOM without TLS, on server.host and server.port."""

    enabled: bool = setting(
        True,
        kinds.Boolean(),
        "serve without TLS",
        off_flag="--no-plain",
        off_help="do not serve without TLS",
    )
