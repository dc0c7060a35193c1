"""Settings of the archive that a command works on."""

from __future__ import annotations

import argparse
from pathlib import Path

from isocenter.services import composition
from isocenter.services.cli.support.options import UsageError
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import overrides_from
from isocenter.services.settings.settings import Settings


def archive_settings(arguments: argparse.Namespace, *, must_exist: bool) -> Settings:
    """The settings of the archive that the options name.

    Raises:
        UsageError: a setting cannot be, or there is no archive.
    """
    try:
        settings = load_settings(arguments.config, overrides=overrides_from(arguments))
    except SettingsError as error:
        raise UsageError(str(error)) from error
    if settings.storage.is_in_memory:
        raise UsageError("an archive in memory ends with its server; give --data-dir DIR")
    data_dir = Path(settings.storage.data_dir)
    if must_exist and not composition.has_index(settings) and not (data_dir / "objects").is_dir():
        raise UsageError(f"{data_dir}: no archive is there; give its directory with --data-dir")
    return settings
