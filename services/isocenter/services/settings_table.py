"""Every setting, once: the tree of values, and the table that is read from it.

Each field says what it may hold, what it is for and which option of ``isocenter serve``
sets it.  Loading, checking, ``--help`` and ``isocenter config show`` are made from that
(`isocenter.services.settings`, where everything here can be imported from, too).
"""

# ruff: noqa: RUF009 - `_setting` makes a `dataclasses.field`, which is no shared default

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal

from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services import setting_kinds as kinds
from isocenter.services.audit.collector import Collector, CollectorKind
from isocenter.services.events.completion import CompletionRules, Condition
from isocenter.services.events.consumer import Consumer, ConsumersKind, QuietKind
from isocenter.services.hl7.character_sets import codec_of
from isocenter.services.naming import NamingScheme
from isocenter.services.peer import Peer, PeerKind
from isocenter.services.policy.tokens import ALGORITHMS
from isocenter.services.ports import DuplicatePolicy
from isocenter.services.rules.evaluation import Rule
from isocenter.services.rules.parsing import RulesKind
from isocenter.services.tls import DEFAULT_PROFILE, PROFILES, ClientCertificates
from isocenter.services.worklist.state import EntryState

PREFIX: Final = "ISOCENTER__"
#: ``--data-dir :memory:`` keeps nothing.
IN_MEMORY: Final = ":memory:"
_MIB: Final = 1 << 20


#: What an acknowledged object survives: power failure (synced, file and index), or
#: the end of the process only.
Durability = Literal["full", "relaxed"]


class TlsIdentity(Enum):
    """What the certificate of a peer has to do with its AE title."""

    #: The common name, or an alternative name, is the calling AE title.
    CN = "cn"
    #: Any certificate of the CA may use any AE title.
    ANY = "any"


class LogLevel(Enum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


class OnAuditFailure(Enum):
    """What happens when the audit trail cannot be written."""

    #: Serve on, and say so in the log; messages wait in memory, within a bound.
    CONTINUE = "continue"
    #: Stop serving, gracefully: nothing happens that is not recorded.
    STOP = "stop"


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where the archive lies when nobody says: ``$XDG_DATA_HOME/isocenter``, by default
    ``~/.local/share/isocenter``; on Windows ``%LOCALAPPDATA%\\isocenter``."""
    environ = os.environ if environ is None else environ
    base = environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_DATA_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "isocenter"
    try:
        return Path("~/.local/share/isocenter").expanduser()
    except RuntimeError:  # no home directory, as for some service users
        return Path("isocenter-data").absolute()


def default_bytes_in_flight() -> int:
    """A quarter of the machine's memory, at most 1 GiB; where nobody tells that, 256 MiB."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        memory = 1 << 30
    return max(_MIB, min(1 << 30, memory // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    kind: kinds.Kind[object]
    help: str
    flag: str = ""
    off_flag: str = ""
    metavar: str = ""
    is_secret: bool = False


def _setting(
    default: Any,
    kind: kinds.Kind[object],
    text: str,
    flag: str = "",
    metavar: str = "",
    *,
    off_flag: str = "",
    is_secret: bool = False,
) -> Any:
    spec = _Spec(
        kind=kind, help=text, flag=flag, metavar=metavar, off_flag=off_flag, is_secret=is_secret
    )
    if callable(default):
        return field(default_factory=default, metadata={"spec": spec}, repr=not is_secret)
    return field(default=default, metadata={"spec": spec}, repr=not is_secret)


def _seconds(default: float, text: str) -> Any:
    return _setting(default, kinds.Seconds(), text)


def _limit(name: str, minimum: int, maximum: int, text: str, unit: str = "bytes") -> Any:
    return _setting(getattr(DEFAULT_LIMITS, name), kinds.Integer(minimum, maximum, unit), text)


_COUNT: Final = kinds.Integer(1, 1_000_000, zero="no limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Who we are, and where we listen in the clear."""

    ae_title: str = _setting(
        "ISOCENTER", kinds.AE_TITLE, "AE title of the archive", "--ae-title", "AET"
    )
    additional_ae_titles: tuple[str, ...] = _setting(
        (), kinds.ListOf(kinds.AE_TITLE), "other AE titles that it may be called"
    )
    accept_any_called_ae_title: bool = _setting(
        False, kinds.Switch(), "serve whatever AE title a peer calls"
    )
    host: str = _setting(
        "127.0.0.1",
        kinds.HOST,
        "where to listen in the clear; beyond this machine everybody on the way can read "
        "and change what is sent",
        "--host",
        "H",
    )
    port: int = _setting(
        11112, kinds.PORT, "port in the clear; 0: any free one, printed", "--port", "N"
    )
    max_connections: int = _setting(
        2_000, _COUNT, "transport connections at once, with those that have no association yet"
    )
    max_handshakes: int = _setting(100, _COUNT, "TLS handshakes under way at once")
    max_associations: int = _setting(1_000, _COUNT, "associations at once")
    max_associations_per_address: int = _setting(
        500, _COUNT, "associations at once from one address"
    )
    max_associations_per_ae_title: int = _setting(
        400, _COUNT, "associations at once with one calling AE title"
    )
    max_pdu_length: int = _setting(
        DEFAULT_LIMITS.max_pdu_length,
        kinds.Integer(4_096, DEFAULT_LIMITS.unlimited_pdu_length, "bytes", zero="no limit"),
        "largest P-DATA-TF that we announce to receive",
    )
    operations_window: int = _setting(
        16,
        kinds.Integer(1, 65_535),
        "operations at once on one association, for peers that negotiate it (PS3.7 D.3.3.3)",
    )
    workers: int = _setting(
        1, kinds.Integer(1, 256), "processes that serve the same ports", "--workers", "N"
    )
    capture: Path | None = _setting(
        None,
        kinds.FilePath("a directory"),
        "record the bytes of each association there, for isocenter dissect; they hold PHI",
        "--capture",
        "DIR",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSettings:
    """DICOM in the clear, on server.host and server.port."""

    enabled: bool = _setting(
        True, kinds.Switch(), "do not serve in the clear", off_flag="--no-plain"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """DICOM over TLS.  Without files of your own, the private CA in the data directory is used."""

    enabled: bool = _setting(True, kinds.Switch(), "do not serve over TLS", off_flag="--no-tls")
    host: str = _setting("0.0.0.0", kinds.HOST, "where to listen for TLS", "--tls-host", "H")  # noqa: S104 - mutual TLS is what may be reached from everywhere
    port: int = _setting(
        2762, kinds.PORT, "port for TLS; 0: any free one, printed", "--tls-port", "N"
    )
    certificate: Path | None = _setting(
        None, kinds.FilePath(), "own certificate (PEM)", "--tls-cert", "FILE"
    )
    key: Path | None = _setting(
        None, kinds.FilePath(), "its private key (PEM, mode 600)", "--tls-key", "FILE"
    )
    key_password: str | None = _setting(
        None, kinds.SECRET, "password of the private key", is_secret=True
    )
    ca: Path | None = _setting(
        None, kinds.FilePath(), "CAs that sign the peers' certificates (PEM)", "--tls-ca", "FILE"
    )
    crl: Path | None = _setting(
        None,
        kinds.FilePath("a path"),
        "certificates that were revoked (PEM): a file, or a folder of them",
        "--tls-crl",
        "FILE",
    )
    profile: str = _setting(
        DEFAULT_PROFILE,
        kinds.one_of(*PROFILES),
        "TLS profile (PS3.15 Annex B)",
        "--tls-profile",
        "NAME",
    )
    identity: TlsIdentity = _setting(
        TlsIdentity.CN,
        kinds.Choice(TlsIdentity),
        "cn: the common name of the certificate must be the calling AE title; "
        "any: a certificate of the CA may use any AE title",
        "--tls-identity",
        "cn|any",
    )
    client_certificates: ClientCertificates = _setting(
        ClientCertificates.REQUIRED,
        kinds.Choice(ClientCertificates),
        "whether peers must show a certificate",
    )
    strict: bool = _setting(
        False, kinds.Switch(), "refuse certificates that do not follow RFC 5280 to the letter"
    )

    @property
    def uses_private_ca(self) -> bool:
        """Whether no files were given, so that the CA in the data directory serves."""
        return self.certificate is None and self.key is None and self.ca is None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may associate."""

    allow: tuple[str, ...] = _setting(
        (),
        kinds.ListOf(kinds.AE_TITLE_PATTERN),
        "a calling AE title that is admitted, with * and ? as wild cards (repeatable; none: all)",
        "--allow",
        "AET",
    )
    uniform_rejection: bool = _setting(
        False,
        kinds.Switch(),
        "reject every unknown called or calling AE title, certificate and user with the same "
        "answer (1/1/1), so that nobody learns which of them is known",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Users who prove who they are in the association request (PS3.7 D.3.3.7)."""

    required: bool = _setting(
        False, kinds.Switch(), "reject associations without a user who is proven"
    )
    jwt_keys: Path | None = _setting(
        None, kinds.FilePath(), "public keys of the tokens' issuer (JWK set or PEM); unset: none"
    )
    jwt_issuer: str = _setting("", kinds.SECRET, "who must have issued a token (iss)")
    jwt_audience: str = _setting("", kinds.SECRET, "whom a token must be meant for (aud)")
    jwt_algorithms: tuple[str, ...] = _setting(
        ("RS256", "PS256", "ES256", "EdDSA"),
        kinds.ListOf(kinds.one_of(*ALGORITHMS)),
        "signatures that are believed",
    )
    jwt_user_claim: str = _setting("sub", kinds.SECRET, "the claim that names the user")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where objects are kept, and how."""

    data_dir: Path = _setting(
        default_data_dir,
        kinds.FilePath(f"a directory, or {IN_MEMORY}"),
        f"where everything is kept ({IN_MEMORY}: nowhere)",
        "--data-dir",
        "DIR",
    )
    accept: bool = _setting(True, kinds.Switch(), "take objects from peers (C-STORE)")
    naming: NamingScheme = _setting(
        NamingScheme.UID, kinds.Choice(NamingScheme), "how the folders of new objects are named"
    )
    duplicates: DuplicatePolicy = _setting(
        DuplicatePolicy.IGNORE,
        kinds.Choice(DuplicatePolicy),
        "what to do with an object whose SOP Instance UID is there already",
    )
    private_sop_classes: bool = _setting(
        False, kinds.Switch(), "store objects of SOP classes that are not DICOM's own, too"
    )
    durability: Durability = _setting(
        "full",
        kinds.one_of("full", "relaxed"),
        "full: an acknowledged object survives power failure; relaxed: it may not",
        "--durability",
        "full|relaxed",
    )
    scrub_days: int = _setting(
        0,
        kinds.Integer(1, 3_650, "days", zero="never"),
        "read everything once in so many days, and name in the log what a disk has lost",
    )

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing is kept."""
        return str(self.data_dir) == IN_MEMORY


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySettings:
    """Answers to C-FIND, C-MOVE and C-GET."""

    enabled: bool = _setting(True, kinds.Switch(), "answer them")
    relational: bool = _setting(
        True, kinds.Switch(), "accept relational queries where a peer negotiates them"
    )
    always_relational: bool = _setting(
        False,
        kinds.Switch(),
        "do without the unique keys above the level also where a peer did not negotiate it",
    )
    max_results: int = _setting(
        0, kinds.Integer(1, 1_000_000_000, zero="no limit"), "answers to one C-FIND"
    )
    max_suboperations: int = _setting(
        100_000, _COUNT, "instances of one C-MOVE or C-GET; more get A701H"
    )
    move_associations: int = _setting(
        2,
        kinds.Integer(1, 64),
        "associations with one C-MOVE destination at once; 1 for destinations that take one only",
    )


class DiscontinuedSteps(Enum):
    """What a scheduled step becomes when it was begun and then discontinued."""

    #: It stays to be done, and is offered again.
    SCHEDULED = "scheduled"
    #: It leaves the worklist; whoever ordered it says what follows.
    CLOSED = "closed"

    @property
    def state(self) -> EntryState:
        """Of the entry."""
        return EntryState.SCHEDULED if self is self.SCHEDULED else EntryState.DISCONTINUED


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistSettings:
    """Modality worklist (PS3.4 Annex K)."""

    enabled: bool = _setting(True, kinds.Switch(), "answer worklist queries")
    offer: tuple[EntryState, ...] = _setting(
        (EntryState.SCHEDULED,),
        kinds.ListOf(kinds.Choice(EntryState)),
        "states of the entries that are offered to queries that do not ask for one",
    )
    discontinued: DiscontinuedSteps = _setting(
        DiscontinuedSteps.SCHEDULED,
        kinds.Choice(DiscontinuedSteps),
        "what becomes of an entry whose step was discontinued",
    )
    max_results: int = _setting(
        0, kinds.Integer(1, 1_000_000_000, zero="no limit"), "answers to one worklist query"
    )
    keep_days: int = _setting(
        30,
        kinds.Integer(1, 36_500, zero="for ever"),
        "days after which completed and discontinued entries are removed",
    )
    folder: Path | None = _setting(
        None,
        kinds.FilePath("a directory"),
        "its files are on the list: JSON, DICOM, *.wl and text dumps of DCMTK",
    )
    folder_seconds: float = _seconds(5.0, "between two looks into that folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsSettings:
    """Modality performed procedure steps (PS3.4 Annex F)."""

    enabled: bool = _setting(True, kinds.Switch(), "take performed procedure steps")
    strict: bool = _setting(
        False, kinds.Switch(), "refuse steps also for type 2 attributes that are missing"
    )
    notify: tuple[str, ...] = _setting(
        (),
        kinds.ListOf(kinds.AE_TITLE),
        "peers that are told of each change by N-EVENT-REPORT; they have to be among the peers",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentSettings:
    """Storage commitment (PS3.4 Annex J)."""

    enabled: bool = _setting(True, kinds.Switch(), "promise to keep what is stored, when asked")
    checksums: bool = _setting(
        True, kinds.Switch(), "read each file again and compare its checksum before the promise"
    )
    readers: int = _setting(2, kinds.Integer(1, 64), "files that are read for that at once")
    same_association: bool = _setting(
        True,
        kinds.Switch(),
        "report the outcome on the association that asked while it is open; "
        "false for peers that cannot take it there",
    )
    longest_retry: float = _seconds(
        900.0, "between two attempts to report the outcome, at the most; the first come sooner"
    )
    give_up_after: float = _setting(
        7 * 86_400.0, kinds.Seconds(365 * 86_400.0), "until a report is given up"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingSettings:
    """Sending on what rules queue (``[[rules]]`` with ``forward``)."""

    associations: int = _setting(
        2, kinds.Integer(1, 64), "associations with one destination at once, per worker"
    )
    batch: int = _setting(
        100, kinds.Integer(1, 10_000), "objects that are taken out of the queue at once"
    )
    warnings: Literal["retry", "accept"] = _setting(
        "retry",
        kinds.one_of("retry", "accept"),
        "an object that the destination took with a warning (Bxxx): retry sends it again, and "
        "gives up in the end; accept takes it for sent",
    )
    first_retry: float = _seconds(
        5.0, "until the second attempt; each later one waits twice as long"
    )
    longest_retry: float = _seconds(900.0, "between two attempts, at the most")
    give_up_after: float = _setting(
        3 * 86_400.0, kinds.Seconds(365 * 86_400.0), "until an object is given up: a dead letter"
    )
    commit_wait: float = _seconds(
        3_600.0, "for a report of storage commitment; then it is asked for once more"
    )
    keep_days: int = _setting(
        7, kinds.Integer(1, 3_650, "days"), "how long the queue remembers what was done"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineSettings:
    """How long each wait may last; progress restarts those that measure progress."""

    connect: float = _seconds(10.0, "from connecting to a connection")
    tls_handshake: float = _seconds(5.0, "TLS handshake with a peer that we connect to")
    association_request: float = _seconds(
        5.0, "from accepting a connection over TLS handshake to A-ASSOCIATE-AC; also ARTIM"
    )
    association_response: float = _seconds(30.0, "A-ASSOCIATE-AC from a peer")
    idle: float = _seconds(60.0, "an association on which nothing happens")
    response: float = _seconds(60.0, "a DIMSE response from a peer")
    release: float = _seconds(10.0, "A-RELEASE-RP from a peer")
    write_blocked: float = _seconds(30.0, "a peer that takes no byte")
    suboperation: float = _seconds(60.0, "a C-STORE sub-operation of C-MOVE or C-GET")
    abort: float = _seconds(2.0, "sending A-ABORT and closing")
    shutdown: float = _seconds(10.0, "associations that are busy when the server stops")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What peers may make us hold; the reasons stand in `isocenter.engine.limits`."""

    bytes_in_flight: int = _setting(
        default_bytes_in_flight,
        kinds.Integer(_MIB, 1 << 40, "bytes"),
        "received and not yet written, all associations together (unset: a quarter of the "
        "machine's memory, at most 1 GiB)",
    )
    associate_pdu: int = _limit("associate_pdu", 16_384, 1 << 26, "an A-ASSOCIATE PDU")
    command_set: int = _limit("command_set", 4_096, 1 << 24, "a command set")
    identifier: int = _limit("identifier", 4_096, 1 << 28, "an identifier")
    identifier_elements: int = _limit(
        "identifier_elements", 1_000, 10_000_000, "elements of an identifier", ""
    )
    empty_fragments: int = _limit(
        "empty_fragments", 0, 1_000_000, "fragments without data in one message", ""
    )
    nesting: int = _limit("nesting", 1, 1_000, "sequences within sequences", "")
    elements: int = _limit("elements", 1_000, 1_000_000_000, "elements of a data set", "")
    inflate_ratio: int = _limit(
        "inflate_ratio", 1, 1_032, "inflated bytes for one deflated byte", ""
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntaxSettings:
    """How objects come in."""

    preference: tuple[str, ...] = _setting(
        (),
        kinds.ListOf(kinds.UID),
        "transfer syntaxes to choose first, in this order, among those that a peer proposes "
        "(then explicit VR little endian, implicit VR little endian, all others)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written about all this; never attribute values."""

    level: LogLevel = _setting(
        LogLevel.INFO,
        kinds.Choice(LogLevel),
        "least severe lines that are written",
        "--log-level",
        "L",
    )
    format: LogFormat = _setting(
        LogFormat.TEXT, kinds.Choice(LogFormat), "how lines look", "--log-format", "text|json"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit trail (PS3.15 A.5), in the data directory; it holds patient IDs and names."""

    enabled: bool = _setting(True, kinds.Switch(), "keep no audit trail", off_flag="--no-audit")
    source_id: str = _setting(
        "", kinds.SECRET, "Audit Source ID: how this server is called in messages (empty: AE title)"
    )
    site_id: str = _setting("", kinds.SECRET, "Audit Enterprise Site ID: where it stands")
    storage: bool = _setting(True, kinds.Switch(), "record instances stored and imported")
    query: bool = _setting(True, kinds.Switch(), "record queries")
    retrieve: bool = _setting(True, kinds.Switch(), "record instances sent")
    authentication: bool = _setting(True, kinds.Switch(), "record users who prove who they are")
    security_alerts: bool = _setting(
        True, kinds.Switch(), "record peers that were turned away, and changes of configuration"
    )
    on_failure: OnAuditFailure = _setting(
        OnAuditFailure.CONTINUE,
        kinds.Choice(OnAuditFailure),
        "when the trail cannot be written, serve on (continue), or stop",
    )
    rotate: int = _setting(
        64 * _MIB,
        kinds.Integer(65_536, 1 << 40, "bytes"),
        "size at which a file of the trail gets a successor; none is ever deleted",
    )
    hmac_key_file: Path | None = _setting(
        None,
        kinds.FilePath(),
        "key that protects the trail against whoever may write its files and not read the key",
    )
    collectors: tuple[Collector, ...] = _setting(
        (),
        kinds.ListOf(CollectorKind()),
        "syslog collectors that get the trail (repeatable)",
        "--audit-collector",
        "tls://HOST:PORT",
    )
    certificate: Path | None = _setting(
        None, kinds.FilePath(), "own certificate for collectors (unset: that of the server)"
    )
    key: Path | None = _setting(None, kinds.FilePath(), "its private key (PEM, mode 600)")
    ca: Path | None = _setting(
        None, kinds.FilePath(), "CAs that sign the collectors' certificates (unset: the server's)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """What other programs are told, and when a study is complete."""

    enabled: bool = _setting(True, kinds.Switch(), "write events, and judge studies")
    include_patient: bool = _setting(
        False, kinds.Switch(), "put patient ID, name and birth date into events of studies"
    )
    keep_days: int = _setting(
        7, kinds.Integer(1, 3_650, "days"), "how long events are kept that every consumer has got"
    )
    complete_by: tuple[Condition, ...] = _setting(
        tuple(Condition), kinds.ListOf(kinds.Choice(Condition)), "what makes a study complete"
    )
    quiet_seconds: float = _seconds(60.0, "without a new object, then a study is complete")
    quiet_by_modality: Mapping[str, float] = _setting(
        dict, QuietKind(), "the same for studies with objects of these modalities"
    )
    settle_seconds: float = _seconds(
        5.0, "the same once MPPS or storage commitment say that all of the study is here"
    )
    longest_wait_seconds: float = _setting(
        86_400.0,
        kinds.Seconds(30 * 86_400.0),
        "the same for a study whose MPPS is still in progress, or that nothing else ends",
    )
    consumers: tuple[Consumer, ...] = _setting(
        (), ConsumersKind(), "who gets events: webhooks, commands, Python functions"
    )

    def rules(self) -> CompletionRules:
        """When a study is complete."""
        return CompletionRules(
            complete_by=frozenset(self.complete_by),
            quiet_seconds=self.quiet_seconds,
            quiet_by_modality=self.quiet_by_modality,
            settle_seconds=self.settle_seconds,
            longest_wait_seconds=self.longest_wait_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings:
    """Metrics and health over HTTP, for programs on this machine."""

    enabled: bool = _setting(True, kinds.Switch(), "answer no HTTP", off_flag="--no-monitoring")
    host: str = _setting("127.0.0.1", kinds.HOST, "address that HTTP is answered on")
    port: int = _setting(
        11180, kinds.PORT, "port for HTTP; 0 takes a free one", "--monitoring-port", "N"
    )
    disk_warning: int = _setting(
        80, kinds.Integer(1, 100, "percent"), "a disk that is fuller makes the archive degraded"
    )
    disk_critical: int = _setting(
        95, kinds.Integer(1, 100, "percent"), "a disk that is fuller makes it unhealthy"
    )


def _is_row_of_stations(text: str) -> bool:
    name, _, value = text.partition("=")
    return bool(name.strip()) and kinds.is_ae_title(value)


def _is_row_of_modalities(text: str) -> bool:
    return re.fullmatch(r"[^=]+=[A-Z0-9_]{1,16}", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hl7Settings:
    """Orders for the worklist: HL7 v2 messages (ORM^O01, OMI^O23, OMG^O19) over MLLP."""

    enabled: bool = _setting(False, kinds.Switch(), "take HL7 orders")
    host: str = _setting(
        "127.0.0.1",
        kinds.HOST,
        "where to listen for them; MLLP knows no identity, whoever reaches it can order",
    )
    port: int = _setting(2575, kinds.PORT, "port for HL7; 0 takes a free one")
    tls: bool = _setting(
        False, kinds.Switch(), "take HL7 over TLS only, with the certificates of [tls]"
    )
    max_message_bytes: int = _setting(
        1 << 20, kinds.Integer(1_024, 1 << 26, "bytes"), "one message"
    )
    max_connections: int = _setting(32, kinds.Integer(1, 10_000), "connections for HL7 at once")
    idle: float = _seconds(3_600.0, "a connection on which no message comes")
    character_set: str = _setting(
        "ASCII",
        kinds.Text("a character set of HL7 Table 0211", lambda text: codec_of(text) is not None),
        "of messages that do not say theirs in MSH-18",
    )
    processing_ids: tuple[str, ...] = _setting(
        ("P",), kinds.ListOf(kinds.one_of("P", "T", "D")), "which of MSH-11 is processed"
    )
    stations: tuple[str, ...] = _setting(
        (),
        kinds.ListOf(kinds.Text("NAME=AET", _is_row_of_stations)),
        "AE titles for orders that name none: NAME is a station name, a location or a modality "
        "of the order, or * for all others",
    )
    modalities: tuple[str, ...] = _setting(
        ("NMR=MR", "RUS=US", "NMS=NM"),
        kinds.ListOf(kinds.Text("NAME=MODALITY", _is_row_of_modalities)),
        "modalities by what senders call them; * is for orders that name none",
    )
    reject_folder: Path | None = _setting(
        None,
        kinds.FilePath("a directory"),
        "where refused messages are kept; they hold PHI (unset: hl7-rejected in the data "
        "directory)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set."""

    server: ServerSettings = field(default_factory=ServerSettings)
    plain: PlainSettings = field(default_factory=PlainSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    query: QuerySettings = field(default_factory=QuerySettings)
    worklist: WorklistSettings = field(default_factory=WorklistSettings)
    mpps: MppsSettings = field(default_factory=MppsSettings)
    commitment: CommitmentSettings = field(default_factory=CommitmentSettings)
    events: EventSettings = field(default_factory=EventSettings)
    forwarding: ForwardingSettings = field(default_factory=ForwardingSettings)
    deadlines: DeadlineSettings = field(default_factory=DeadlineSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    transfer_syntaxes: TransferSyntaxSettings = field(default_factory=TransferSyntaxSettings)
    log: LogSettings = field(default_factory=LogSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    hl7: Hl7Settings = field(default_factory=Hl7Settings)
    peers: tuple[Peer, ...] = _setting(
        (),
        kinds.ListOf(PeerKind()),
        "a destination of C-MOVE (repeatable)",
        "--peer",
        "AET@host:port",
    )
    rules: tuple[Rule, ...] = _setting(
        (), RulesKind(), "what happens to which objects that are stored: [[rules]]"
    )

    @property
    def ae_titles(self) -> frozenset[str]:
        """What we may be called; empty: anything."""
        if self.server.accept_any_called_ae_title:
            return frozenset()
        return frozenset({self.server.ae_title, *self.server.additional_ae_titles})

    def engine_limits(self) -> Limits:
        """The bounds that the engine enforces."""
        return Limits(
            associate_pdu=self.limits.associate_pdu,
            max_pdu_length=self.server.max_pdu_length,
            command_set=self.limits.command_set,
            identifier=self.limits.identifier,
            identifier_elements=self.limits.identifier_elements,
            empty_fragments=self.limits.empty_fragments,
            nesting=self.limits.nesting,
            elements=self.limits.elements,
            inflate_ratio=self.limits.inflate_ratio,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: a key, what it may hold and what sets it.

    Attributes:
        key: ``section.name``, or ``peers``.
        default: its value when nobody sets it.
        flag: the option of ``isocenter serve`` that sets it; empty: none.
        off_flag: the option that sets it to false; empty: none.
    """

    key: str
    kind: kinds.Kind[object]
    help: str
    default: object
    flag: str
    off_flag: str
    metavar: str
    is_secret: bool

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.key.upper().replace(".", "__")


def _rows() -> Iterator[Setting]:
    defaults = Settings()
    for section in dataclasses.fields(Settings):
        value = getattr(defaults, section.name)
        if "spec" in section.metadata:
            yield _row(section.name, section.metadata["spec"], value)
            continue
        for name in dataclasses.fields(value):
            key = f"{section.name}.{name.name}"
            yield _row(key, name.metadata["spec"], getattr(value, name.name))


def _row(key: str, spec: _Spec, default: object) -> Setting:
    return Setting(
        key=key,
        kind=spec.kind,
        help=spec.help,
        default=default,
        flag=spec.flag,
        off_flag=spec.off_flag,
        metavar=spec.metavar,
        is_secret=spec.is_secret,
    )


#: The table, in the order in which it is shown.
SETTINGS: Final = tuple(_rows())
