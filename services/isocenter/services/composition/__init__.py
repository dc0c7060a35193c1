"""Composition: settings in, adapters and services chosen and joined.

The only package that knows the adapters of `isocenter.storage`.
"""

from isocenter.services.composition.archive import (
    INDEX_FILE,
    ArchiveParts,
    open_archive,
    open_archive_parts,
    open_stores,
    recover_after_crash,
    trash_of,
)
from isocenter.services.composition.background_tasks import run_background_tasks
from isocenter.services.composition.inspection import inspect_archive, inspect_room
from isocenter.services.composition.outgoing_associations import StartError, deadlines_of
from isocenter.services.composition.plugins import (
    Plugin,
    PluginError,
    check_plugins,
    declared_by,
    installed,
    load_plugin,
)
from isocenter.services.composition.services import binds_of, build_services, server_limits_of
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca
from isocenter.services.composition.workflow import (
    build_events,
    order_bind_of,
    order_listener_of,
)

__all__ = [
    "INDEX_FILE",
    "ArchiveParts",
    "Plugin",
    "PluginError",
    "StartError",
    "TlsContexts",
    "binds_of",
    "check_plugins",
    "deadlines_of",
    "declared_by",
    "build_events",
    "files_of_private_ca",
    "inspect_archive",
    "inspect_room",
    "installed",
    "run_background_tasks",
    "load_plugin",
    "open_archive",
    "open_archive_parts",
    "open_stores",
    "order_bind_of",
    "order_listener_of",
    "recover_after_crash",
    "build_services",
    "server_limits_of",
    "trash_of",
]
