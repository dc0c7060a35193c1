"""``isocenter config set`` and ``reset``: settings kept in the data directory."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.support.recorded_changes import RecordedChanges
from isocenter.services.composition.reloading import RELOADED
from isocenter.services.security.audit.alert_messages import settings_text
from isocenter.services.settings.changed_settings import ChangedSettings, Changes
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.former_names import current_name
from isocenter.services.settings.loading import BY_KEY, unknown_setting
from isocenter.services.settings.source import SettingsSource
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.system.users import acting_user


def add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of set."""
    parser.add_argument("key", metavar="KEY", help="a setting: log.level")
    parser.add_argument("value", metavar="VALUE", help="as an environment variable would have it")
    _add_archive(parser)


def add_reset_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of reset."""
    parser.add_argument(
        "keys",
        nargs="+",
        metavar="KEY",
        help="a setting that was changed; those that were not stay",
    )
    _add_archive(parser)


def _add_archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    parser.add_argument("--config", metavar="FILE", help="settings of the archive (TOML)")


def set_setting(arguments: argparse.Namespace) -> int:
    """Check a value, keep it, and tell the server; the exit code.

    Raises:
        SettingsError: it cannot be.
    """
    key = _current(arguments.key)
    setting = BY_KEY.get(key)
    if setting is None:
        raise unknown_setting(key, "argument")
    try:
        value = setting.kind.from_text(arguments.value)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            key, "argument", f"must be {setting.kind.allowed}", repr(arguments.value)
        ) from error
    plain = tomllib.loads(f"value = {setting.kind.to_toml(value)}")["value"]
    source = _source(arguments)
    now = datetime.now(UTC).isoformat(timespec="seconds")

    def edit(before: Changes) -> Changes:
        return source.changed(before, {key: plain}, by=acting_user(), at=now)

    return _change(source, edit, f"{settings_text([key])} (config set)", [key])


def reset_settings(arguments: argparse.Namespace) -> int:
    """Put settings back to what they would be, and tell the server; the exit code.

    It also helps where what was changed keeps the server from starting.

    Raises:
        SettingsError: what was changed cannot be read or written.
    """
    keys = list(map(_current, arguments.keys))

    def edit(before: Changes) -> Changes:
        for key in keys:
            if key not in before:
                names = ", ".join(before) or "none"
                raise SettingsError(key, "argument", f"was not changed; changed are: {names}")
        return {key: one for key, one in before.items() if key not in keys}

    what = f"{settings_text(keys)} (config reset)"
    return _change(_source(arguments), edit, what, keys)


def _current(key: str) -> str:
    """The name of a setting today; who used a former one is told."""
    name = current_name(key)
    if name != key:
        print(f"warning: {key} is called {name} now", file=sys.stderr)
    return name


def _source(arguments: argparse.Namespace) -> SettingsSource:
    data_dir = getattr(arguments, "storage.data_dir")
    overrides: Mapping[str, object] = {} if data_dir is None else {"storage.data_dir": data_dir}
    return SettingsSource(config_file=arguments.config, overrides=overrides)


def _change(
    source: SettingsSource, edit: Callable[[Changes], Changes], what: str, keys: Sequence[str]
) -> int:
    settings = source.load().settings
    storage = settings.storage
    if storage.is_in_memory:
        raise SettingsError(
            "storage.data_dir", "argument", "an archive in memory keeps no settings"
        )
    folder = Path(storage.data_dir)
    recorded = RecordedChanges(settings, "isocenter config", "settings")
    ChangedSettings(folder).change(recorded.of(edit, what))
    pid = pid_of_server(folder)
    if pid is None:
        print("kept; no server runs on this archive, the next start uses it")
        return EXIT_OK
    later = [key for key in keys if key not in RELOADED]
    if hasattr(signal, "SIGHUP"):
        os.kill(pid, signal.SIGHUP)
    print(f"kept, and process {pid} reads its configuration again")
    if later:
        print(f"in use after a restart only: {', '.join(later)}", file=sys.stderr)
    return EXIT_OK
