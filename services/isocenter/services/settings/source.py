"""Source of the settings of a server, read again and changed while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings.changed_settings import ChangedSetting, Changes
from isocenter.services.settings.errors import InvalidSettingsError, SettingsError
from isocenter.services.settings.loading import (
    BY_KEY,
    DATA_DIR,
    Loaded,
    load,
    load_settings,
    unknown_setting,
)
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.toml_text import HIDDEN

_REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsSource:
    """Where the settings of a server come from.

    Attributes:
        config_file, environ, overrides: as of `load_settings`.
        changes: what was changed while it ran; None: that of the data directory.
    """

    config_file: str | Path | None = None
    environ: Mapping[str, str] | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    changes: Changes | None = None

    @property
    def place(self) -> str:
        """Where a person sets what cannot be changed from afar, for messages."""
        return "its configuration file" if self.config_file is None else str(self.config_file)

    def settings(self) -> Settings:
        """The settings as they are now.

        Raises:
            SettingsError: they cannot be.
        """
        return load_settings(self.config_file, self.environ, self.overrides, self.changes)

    def load(self) -> Loaded:
        """The same with where each is from, and all faults instead of an exception."""
        return load(self.config_file, self.environ, self.overrides, self.changes)

    def changed(
        self, before: Changes, values: Mapping[str, object | None], *, by: str, at: str
    ) -> Changes:
        """What the changed settings are with these, which are checked with all others.

        Args:
            before: what they are.
            values: by key, as a TOML file would have them; None: what it would be without.
            by, at: who changes them, and when.

        Raises:
            SettingsError: one cannot be, or contradicts another; all that is wrong.
        """
        loaded = replace(self, changes=before).load()
        faults = [
            fault
            for key, value in values.items()
            if (fault := _refused(key, value, loaded)) is not None
        ]
        after = {key: one for key, one in before.items() if key not in values}
        wanted = {key: value for key, value in values.items() if value is not None}
        if not faults:
            tried = {key: ChangedSetting(value=one, by=by, at="") for key, one in wanted.items()}
            faults += replace(self, changes={**after, **tried}).load().faults
        if faults:
            raise faults[0] if len(faults) == 1 else InvalidSettingsError(faults)
        kept = {key: ChangedSetting(value=one, by=by, at=at) for key, one in wanted.items()}
        return {**after, **kept}


def _refused(key: str, value: object | None, loaded: Loaded) -> SettingsError | None:
    """Why a setting cannot be changed while the server runs, whatever its value."""
    setting = BY_KEY.get(key)
    if setting is None:
        return unknown_setting(key, _REQUEST)
    fault = ""
    if key in loaded.fixed:
        fault = f"is set by {loaded.fixed[key]}; change it there"
    elif key == DATA_DIR:
        fault = "is where the changes are kept; change it in the configuration file"
    elif setting.is_secret:
        fault = f"is a secret; set {setting.variable}_FILE"
    elif value is not None and _has_hidden(value):
        fault = f"holds {HIDDEN} in the place of a secret; name a file with it: secret_file"
    return SettingsError(key, _REQUEST, fault) if fault else None


def _has_hidden(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_hidden, value.values()))
    if isinstance(value, list):
        return any(map(_has_hidden, value))
    return value == HIDDEN
