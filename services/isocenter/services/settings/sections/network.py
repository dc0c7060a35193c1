"""Who we are, and where and with how many we speak."""

from __future__ import annotations

from pathlib import Path

from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import COUNT, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Who we are, and where we listen in the clear."""

    ae_title: str = setting(
        "ISOCENTER", kinds.AE_TITLE, "AE title of the archive", "--ae-title", "AET"
    )
    additional_ae_titles: tuple[str, ...] = setting(
        (), kinds.ListOf(kinds.AE_TITLE), "other AE titles that it may be called"
    )
    accept_any_called_ae_title: bool = setting(
        False, kinds.Switch(), "serve whatever AE title a peer calls"
    )
    host: str = setting(
        "127.0.0.1",
        kinds.HOST,
        "where to listen in the clear; beyond this machine everybody on the way can read "
        "and change what is sent",
        "--host",
        "H",
    )
    port: int = setting(
        11112, kinds.PORT, "port in the clear; 0: any free one, printed", "--port", "N"
    )
    max_connections: int = setting(
        2_000,
        COUNT,
        "transport connections at once, with those that have no association yet; this and the "
        "following bounds are those of one worker",
    )
    max_handshakes: int = setting(100, COUNT, "TLS handshakes under way at once")
    max_associations: int = setting(1_000, COUNT, "associations at once")
    max_associations_per_address: int = setting(500, COUNT, "associations at once from one address")
    max_associations_per_ae_title: int = setting(
        400, COUNT, "associations at once with one calling AE title"
    )
    max_pdu_length: int = setting(
        DEFAULT_LIMITS.max_pdu_length,
        kinds.Integer(4_096, DEFAULT_LIMITS.unlimited_pdu_length, "bytes", zero="no limit"),
        "largest P-DATA-TF that we announce to receive",
    )
    operations_window: int = setting(
        16,
        kinds.Integer(1, 65_535),
        "operations at once on one association, for peers that negotiate it (PS3.7 D.3.3.3)",
    )
    workers: int = setting(
        1, kinds.Integer(1, 256), "processes that serve the same ports", "--workers", "N"
    )
    capture: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "record the bytes of each association there, for isocenter dissect; they hold PHI",
        "--capture",
        "DIR",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSettings:
    """DICOM in the clear, on server.host and server.port."""

    enabled: bool = setting(
        True,
        kinds.Switch(),
        "serve in the clear",
        off_flag="--no-plain",
        off_help="do not serve in the clear",
    )
