"""Composition: settings in, adapters and services chosen and joined.

The only package that knows the adapters of `isocenter.storage`.
"""

from isocenter.services.composition.archive import (
    ArchiveParts,
    corrections_of,
    fullness_of,
    open_archive,
    open_archive_parts,
    open_stores,
    recover_after_crash,
    rejections_of,
    trash_of,
)
from isocenter.services.composition.background_tasks import run_background_tasks
from isocenter.services.composition.database import (
    INDEX_FILE,
    has_index,
    inspect_database,
)
from isocenter.services.composition.inspection import inspect_archive, inspect_room
from isocenter.services.composition.metadata import check_metadata, make_metadata
from isocenter.services.composition.objects import try_bucket
from isocenter.services.composition.outgoing_associations import StartError, build_deadlines
from isocenter.services.composition.plugins import (
    Plugin,
    PluginError,
    check_plugins,
    declared_by,
    installed,
    load_plugin,
)
from isocenter.services.composition.rewrapping import rewrap_objects
from isocenter.services.composition.services import (
    build_server_limits,
    build_services,
    build_services_and_workflow,
    listen_addresses,
)
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca

__all__ = [
    "INDEX_FILE",
    "ArchiveParts",
    "Plugin",
    "PluginError",
    "StartError",
    "TlsContexts",
    "listen_addresses",
    "check_metadata",
    "corrections_of",
    "fullness_of",
    "check_plugins",
    "build_deadlines",
    "declared_by",
    "files_of_private_ca",
    "has_index",
    "inspect_archive",
    "inspect_database",
    "inspect_room",
    "installed",
    "run_background_tasks",
    "load_plugin",
    "make_metadata",
    "open_archive",
    "open_archive_parts",
    "open_stores",
    "recover_after_crash",
    "build_services",
    "build_services_and_workflow",
    "build_server_limits",
    "rejections_of",
    "rewrap_objects",
    "trash_of",
    "try_bucket",
]
