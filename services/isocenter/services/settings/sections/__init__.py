"""Sections of the settings.

Each field says what it may hold, what it is for and which option of ``isocenter serve``
sets it.  Loading, checking, ``--help`` and ``isocenter config show`` are made from that
(`isocenter.services.settings.loading`, where everything here can be imported from, too).

Each module holds the sections of one area; `isocenter.services.settings.settings` joins them, and
`isocenter.services.settings.field` says how a setting is written down.
"""

from isocenter.services.settings.sections.access import (
    AccessSettings,
    IdentitySettings,
    TlsIdentity,
    TlsSettings,
)
from isocenter.services.settings.sections.limits import (
    DeadlineSettings,
    LimitSettings,
    default_bytes_in_flight,
)
from isocenter.services.settings.sections.monitoring import (
    AuditSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    MonitoringSettings,
    OnAuditFailure,
)
from isocenter.services.settings.sections.network import PlainSettings, ServerSettings
from isocenter.services.settings.sections.storage import (
    IN_MEMORY,
    Durability,
    QuerySettings,
    StorageSettings,
    TransferSyntaxSettings,
    default_data_dir,
)
from isocenter.services.settings.sections.workflow import (
    CommitmentSettings,
    DiscontinuedSteps,
    EventSettings,
    ForwardingSettings,
    Hl7Settings,
    MppsSettings,
    WorklistSettings,
)
from isocenter.services.settings.settings import SETTINGS, Setting, Settings

__all__ = [
    "AccessSettings",
    "AuditSettings",
    "CommitmentSettings",
    "DeadlineSettings",
    "DiscontinuedSteps",
    "Durability",
    "EventSettings",
    "ForwardingSettings",
    "Hl7Settings",
    "IN_MEMORY",
    "IdentitySettings",
    "LimitSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "MonitoringSettings",
    "MppsSettings",
    "OnAuditFailure",
    "PlainSettings",
    "QuerySettings",
    "SETTINGS",
    "ServerSettings",
    "Setting",
    "Settings",
    "StorageSettings",
    "TlsIdentity",
    "TlsSettings",
    "TransferSyntaxSettings",
    "WorklistSettings",
    "default_bytes_in_flight",
    "default_data_dir",
]
