"""Where a server is put together: settings in, adapters and services chosen and joined.

The only package beside the command line that knows the adapters of `isocenter.storage`.
"""

from isocenter.services.composition.archive import (
    INDEX_FILE,
    ArchiveParts,
    open_archive,
    open_archive_parts,
    open_stores,
    trash_of,
)
from isocenter.services.composition.background_tasks import keep_house
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
from isocenter.services.composition.services import binds_of, registry_of, server_limits_of
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca
from isocenter.services.composition.workflow import (
    events_of,
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
    "events_of",
    "files_of_private_ca",
    "inspect_archive",
    "inspect_room",
    "installed",
    "keep_house",
    "load_plugin",
    "open_archive",
    "open_archive_parts",
    "open_stores",
    "order_bind_of",
    "order_listener_of",
    "registry_of",
    "server_limits_of",
    "trash_of",
]
