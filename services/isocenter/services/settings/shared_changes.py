"""Changed settings that all nodes of an archive share; each has some for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from isocenter.services.settings.changed_settings import (
    ChangedSettings,
    Changes,
    changes_of_text,
    text_of_changes,
)
from isocenter.services.settings.errors import SettingsError

NAME: Final = "settings"
#: Of one machine: sections, and settings of others.
_OF_A_NODE: Final = frozenset(
    {"cluster", "database", "objects", "log", "monitoring", "plain", "audit", "plugins"}
)
_SETTINGS_OF_A_NODE: Final = frozenset(
    {
        "server.host", "server.port", "server.workers", "server.capture", "storage.data_dir",
        "tls.host", "tls.port", "tls.certificate", "tls.key", "tls.key_password", "tls.ca",
        "tls.crl", "web.host", "web.port", "web.https_host", "web.https_port",
        "hl7.host", "hl7.port",
    }
)  # fmt: skip


def is_shared(key: str) -> bool:
    """Whether a setting is to be the same on all nodes."""
    return key.partition(".")[0] not in _OF_A_NODE and key not in _SETTINGS_OF_A_NODE


class SharedChanges:
    """What somebody changed while a server ran, as far as all nodes share it; a
    `isocenter.services.cluster.sharing.SharedText`."""

    name = NAME
    is_joined = False

    def __init__(self, folder: Path) -> None:
        self._changed = ChangedSettings(folder)

    def read(self) -> str:
        """See `SharedText.read`."""
        if not self._changed.path.exists():
            return ""
        try:
            return _shared(self._changed.read())
        except SettingsError as error:
            raise OSError(str(error)) from error

    def write(self, content: str, *, instead_of: str) -> bool:
        """See `SharedText.write`."""
        try:
            came = changes_of_text(content.encode())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OSError("the settings that nodes share cannot be read") from error
        # Whoever writes to the database has no say in what is of this machine alone.
        came = {key: one for key, one in came.items() if is_shared(key)}
        is_there = self._changed.path.exists()
        is_written = False

        def edit(found: Changes) -> Changes:
            nonlocal is_written
            if (_shared(found) if is_there else "") != instead_of:
                return found
            is_written = True
            own = {key: one for key, one in found.items() if not is_shared(key)}
            return {**own, **came}

        try:
            self._changed.change(edit)
        except SettingsError as error:
            raise OSError(str(error)) from error
        return is_written


def _shared(changes: Changes) -> str:
    return text_of_changes({key: one for key, one in changes.items() if is_shared(key)}).decode()
