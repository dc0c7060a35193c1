"""Settings of a running server: shown, changed, kept and applied."""

from __future__ import annotations

import os
import signal
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from isocenter.services.composition.reloading import RELOADED, Reloader
from isocenter.services.notices import Caller, Notices, SettingsChanged
from isocenter.services.settings.changed_settings import ChangedSettings, Changes
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import DATA_DIR, Loaded
from isocenter.services.settings.settings import SETTINGS, Setting, Settings
from isocenter.services.settings.source import SettingsSource
from isocenter.services.settings.toml_text import HIDDEN
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.web.configuration import (
    ChangedNow,
    InvalidChangeError,
    SettingFault,
    ShownSetting,
)
from isocenter.services.web.principal import caller_name

_NEEDS_RESTART: Final = frozenset(one.key for one in SETTINGS) - RELOADED
#: What a reload calls the part that a section belongs to.
_PARTS: Final = {"tls": "certificates", "access": "access", "identity": "access"}


class RunTimeSettings:
    """The `Configuration` of a server.

    Args:
        source: where its settings come from.
        folder: its data directory; None: it keeps nothing, and no changes.
        tell_others: has the other processes of the server read them again.
    """

    def __init__(
        self,
        source: SettingsSource,
        reloader: Reloader,
        notices: Notices,
        *,
        folder: Path | None,
        tell_others: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._reloader = reloader
        self._notices = notices
        self._kept = None if folder is None else ChangedSettings(folder)
        self._tell_others = tell_others
        self._one_at_a_time = trio.Lock()

    async def settings(self) -> Sequence[ShownSetting]:
        """All of them, as they are now."""
        return await trio.to_thread.run_sync(self._shown)

    def _shown(self) -> Sequence[ShownSetting]:
        return shown_settings(self._source.load(), self._reloader.settings)

    async def change(
        self,
        values: Mapping[str, Any],
        by: Caller,
        check: Callable[[Sequence[ShownSetting]], None] = lambda settings: None,
    ) -> ChangedNow:
        """Check, keep, apply and tell a change of some."""
        kept = self._kept
        if not values:
            raise InvalidChangeError([SettingFault(key="", text="name a setting, and its value")])
        if kept is None:
            raise InvalidChangeError(
                [SettingFault(key="", text="an archive in memory keeps no settings")]
            )
        before: Changes = {}

        def edit(found: Changes) -> Changes:
            nonlocal before
            check(self._shown())
            before = found
            now = datetime.now(UTC).isoformat(timespec="seconds")
            return self._source.changed(found, values, by=caller_name(by), at=now)

        async with self._one_at_a_time:
            try:
                await trio.to_thread.run_sync(kept.change, edit)
            except SettingsError as error:
                raise _invalid(error) from error
            applied = tuple(key for key in values if key in RELOADED)
            if applied:
                with trio.CancelScope(shield=True):
                    await self._apply(kept, before, tuple(values))
        self._notices.publish(SettingsChanged(caller=by, keys=tuple(values)))
        return ChangedNow(
            applied=applied, after_restart=tuple(key for key in values if key not in RELOADED)
        )

    async def _apply(self, kept: ChangedSettings, before: Changes, keys: Sequence[str]) -> None:
        """Have them used; what cannot be used is taken back."""
        faults = await self._reloader.reload()
        touched = {"settings"} | {_PARTS.get(key.partition(".")[0], key) for key in keys}
        wrong = [fault for what, fault in faults.items() if fault and what in touched]
        if wrong:
            await trio.to_thread.run_sync(kept.change, partial(_put_back, before, keys))
            await self._reloader.reload()
            raise InvalidChangeError([SettingFault(key=keys[0], text=one) for one in wrong])
        self._tell_others()


def _put_back(before: Changes, keys: Sequence[str], now: Changes) -> Changes:
    """What is changed now, with some as they were; others may have changed meanwhile."""
    others = {key: one for key, one in now.items() if key not in keys}
    return {**others, **{key: before[key] for key in keys if key in before}}


def shown_settings(loaded: Loaded, in_use: Settings) -> Sequence[ShownSetting]:
    """All settings, for people and programs."""
    return [_shown_setting(setting, loaded, in_use) for setting in SETTINGS]


def _shown_setting(setting: Setting, loaded: Loaded, in_use: Settings) -> ShownSetting:
    key = setting.key
    value = _value_of(loaded.settings, key)
    return ShownSetting(
        key=key,
        text=setting.help,
        allowed=setting.kind.allowed,
        value=_plain(setting, value),
        default=_plain(setting, setting.default),
        source=loaded.sources.get(key, "default"),
        is_changed=key in loaded.changes and key not in loaded.fixed,
        fixed_by=loaded.fixed.get(key, "the place of these changes" if key == DATA_DIR else ""),
        is_secret=setting.is_secret,
        needs_restart=key in _NEEDS_RESTART,
        is_pending=value != _value_of(in_use, key),
    )


def _value_of(settings: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    value: object = getattr(settings, section)
    return getattr(value, name) if name else value


def _plain(setting: Setting, value: object) -> object:
    """As JSON has it."""
    if value is None:
        return None
    if setting.is_secret:
        return HIDDEN if value else ""
    return tomllib.loads(f"value = {setting.kind.to_toml(value)}")["value"]


def _invalid(error: SettingsError) -> InvalidChangeError:
    return InvalidChangeError([SettingFault(key=one.key, text=str(one)) for one in error.faults])


def other_processes(settings: Settings) -> Callable[[], None]:
    """Has the other processes of a server read its settings again."""
    if settings.server.workers == 1 or settings.storage.is_in_memory:
        return lambda: None
    return partial(_signal_first_process, Path(settings.storage.data_dir))


def _signal_first_process(data_dir: Path) -> None:
    """It has all of its workers read again."""
    pid = pid_of_server(data_dir)
    if pid is not None and hasattr(signal, "SIGHUP"):
        os.kill(pid, signal.SIGHUP)
