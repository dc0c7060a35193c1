"""The tree of all values, and the table that is read from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import Limits
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.object_location import ObjectLocation
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.rules.evaluation import Rule
from isocenter.services.association.peer import Peer
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.ai_services import AI_SERVICES
from isocenter.services.settings.deidentification import PROJECTS
from isocenter.services.settings.field import FieldSpec, setting
from isocenter.services.settings.peers import PeerKind
from isocenter.services.settings.plugins import PluginEntry, PluginKind
from isocenter.services.settings.retention_rules import RETENTION_RULES
from isocenter.services.settings.rules import RULES
from isocenter.services.settings.sections.access import (
    AccessSettings,
    IdentitySettings,
    OidcSettings,
    TlsSettings,
)
from isocenter.services.settings.sections.cluster import ClusterSettings
from isocenter.services.settings.sections.database import DatabaseSettings
from isocenter.services.settings.sections.limits import DeadlineSettings, LimitSettings
from isocenter.services.settings.sections.monitoring import (
    AuditSettings,
    LogSettings,
    MonitoringSettings,
)
from isocenter.services.settings.sections.network import PlainSettings, ServerSettings
from isocenter.services.settings.sections.objects import ObjectsSettings
from isocenter.services.settings.sections.pixels import CompressionSettings, TranscodingSettings
from isocenter.services.settings.sections.print import PrintSettings
from isocenter.services.settings.sections.sharing import SharingSettings
from isocenter.services.settings.sections.storage import (
    QuerySettings,
    RejectionSettings,
    SignatureSettings,
    StorageSettings,
    TransferSyntaxSettings,
)
from isocenter.services.settings.sections.tiers import TierSettings
from isocenter.services.settings.sections.web import WebSettings
from isocenter.services.settings.sections.workflow import (
    CommitmentSettings,
    EventSettings,
    ForwardingSettings,
    Hl7Settings,
    JobSettings,
    MppsSettings,
    PrefetchSettings,
    ScheduleSettings,
    UpsSettings,
    WorklistSettings,
)
from isocenter.services.system.environment import PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set."""

    server: ServerSettings = field(default_factory=ServerSettings)
    plain: PlainSettings = field(default_factory=PlainSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    oidc: OidcSettings = field(default_factory=OidcSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    rejection: RejectionSettings = field(default_factory=RejectionSettings)
    objects: ObjectsSettings = field(default_factory=ObjectsSettings)
    tiers: TierSettings = field(default_factory=TierSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    query: QuerySettings = field(default_factory=QuerySettings)
    worklist: WorklistSettings = field(default_factory=WorklistSettings)
    mpps: MppsSettings = field(default_factory=MppsSettings)
    ups: UpsSettings = field(default_factory=UpsSettings)
    print: PrintSettings = field(default_factory=PrintSettings)
    commitment: CommitmentSettings = field(default_factory=CommitmentSettings)
    events: EventSettings = field(default_factory=EventSettings)
    forwarding: ForwardingSettings = field(default_factory=ForwardingSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    prefetch: PrefetchSettings = field(default_factory=PrefetchSettings)
    schedules: ScheduleSettings = field(default_factory=ScheduleSettings)
    deadlines: DeadlineSettings = field(default_factory=DeadlineSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    transfer_syntaxes: TransferSyntaxSettings = field(default_factory=TransferSyntaxSettings)
    transcoding: TranscodingSettings = field(default_factory=TranscodingSettings)
    signatures: SignatureSettings = field(default_factory=SignatureSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    log: LogSettings = field(default_factory=LogSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    web: WebSettings = field(default_factory=WebSettings)
    hl7: Hl7Settings = field(default_factory=Hl7Settings)
    sharing: SharingSettings = field(default_factory=SharingSettings)
    peers: tuple[Peer, ...] = setting(
        (),
        kinds.ListOf(PeerKind()),
        "a destination of C-MOVE (repeatable)",
        "--peer",
        "AET@host:port",
    )
    rules: tuple[Rule, ...] = setting((), RULES, "what is done with which objects: [[rules]]")
    retention: tuple[RetentionRule, ...] = setting(
        (),
        RETENTION_RULES,
        "which studies are deleted, and when: [[retention]]",
    )
    deidentification: tuple[Project, ...] = setting(
        (),
        PROJECTS,
        "projects of de-identification, and who is given nothing else: [[deidentification]]",
    )
    ai_services: tuple[AiService, ...] = setting(
        (),
        AI_SERVICES,
        "services that analyse images, to which alone series are sent for that: [[ai_services]]",
    )
    plugins: tuple[PluginEntry, ...] = setting(
        (),
        kinds.ListOf(PluginKind()),
        "a service class of another distribution that is switched on (repeatable); in a file as a "
        "table, [[plugins]], with settings of its own",
        "--plugin",
        "NAME",
    )

    @property
    def ae_titles(self) -> frozenset[str]:
        """What we may be called; empty: anything."""
        if self.server.accept_any_called_ae_title:
            return frozenset()
        return frozenset({self.server.ae_title, *self.server.additional_ae_titles})

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may have the same archive: all of it is outside of this machine."""
        return bool(self.database.url) and self.objects.url is not None

    @property
    def object_store(self) -> ObjectLocation | None:
        """Where objects are under keys that are used once; None: they are files of this server
        alone."""
        return self.objects.url if self.is_shared else self.objects.in_bucket

    def bytes_in_flight_of_one_worker(self) -> int:
        """Its share of ``limits.bytes_in_flight``."""
        return self.limits.bytes_in_flight // self.server.workers

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
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: a key, what it may hold and what sets it.

    Attributes:
        key: ``section.name``, or ``peers``.
        default: its value when nobody sets it.
        flag: the option of ``isocenter serve`` that sets it; empty: none.
        off_flag: the option that sets it to false; empty: none.
        off_help: what that option does.
        default_text: what the default is where it depends on the machine.
    """

    key: str
    kind: kinds.ValueType[object]
    help: str
    default: object
    flag: str
    off_flag: str
    metavar: str
    is_secret: bool
    off_help: str
    default_text: str

    @property
    def is_of_machine(self) -> bool:
        """Whether it is for the machine's own file, variables and commands alone to say: whoever
        may change settings from afar may not have files of this machine read or written for it."""
        return kinds.names_place(self.kind)

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


def _row(key: str, spec: FieldSpec, default: object) -> Setting:
    return Setting(
        key=key,
        kind=spec.kind,
        help=spec.help,
        default=default,
        flag=spec.flag,
        off_flag=spec.off_flag,
        metavar=spec.metavar,
        is_secret=spec.is_secret,
        off_help=spec.off_help,
        default_text=spec.default_text,
    )


#: The table, in the order in which it is shown.
SETTINGS: Final = tuple(_rows())
