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
from isocenter.services.settings.former_names import FORMER_NAMES, in_current_names
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
#: Settings that name commands, and what in a table of one does; empty: each entry is a command.
_COMMANDS: Final[Mapping[str, frozenset[str]]] = {
    "schedules.programs": frozenset(),
    "events.consumers": frozenset({"command", "python"}),
}
#: Settings whose tables name files of the machine, and what in a table does: a secret that is read
#: from there is sent to where the table says.
_FILES: Final[Mapping[str, frozenset[str]]] = {
    "events.consumers": frozenset({"secret_file", "ca"}),
    "sharing.repositories": frozenset({"token_file", "certificate", "key", "ca"}),
    "deidentification": frozenset({"key_file"}),
    "ai_services": frozenset({"key_file", "ca"}),
}
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
        kept, values = self._kept, in_current_names(values)
        if not values:
            raise InvalidChangeError([SettingFault(key="", text="name a setting, and its value")])
        if kept is None:
            raise InvalidChangeError(
                [SettingFault(key="", text="an archive in memory keeps no settings")]
            )
        before: Changes = {}

        def edit(found: Changes) -> Changes:
            nonlocal before
            shown = self._shown()
            check(shown)
            _refuse_places(values, shown, self._source.place)
            _refuse_entries(
                values, shown, _COMMANDS, "name new commands on the machine: {}, or its file"
            )
            _refuse_entries(
                values, shown, _FILES,
                "what names a file of this machine is set and changed there: {}, or its file",
            )  # fmt: skip
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


def _refuse_places(values: Mapping[str, Any], shown: Sequence[ShownSetting], place: str) -> None:
    """Nor may they have any file of this machine read or written; put back it may be.

    Raises:
        InvalidChangeError: a place is another one than before.
    """
    known = {one.key: one.value for one in shown if one.is_of_machine}
    faults = [
        SettingFault(
            key=key,
            text=f"{key}: it names a place of this machine, or code that runs there; set it on the "
            f"machine: isocenter config set {key}, or {place}",
        )
        for key, said in values.items()
        if key in known and said is not None and said != known[key]
    ]
    if faults:
        raise InvalidChangeError(faults)


def _refuse_entries(
    values: Mapping[str, Any],
    shown: Sequence[ShownSetting],
    refused: Mapping[str, frozenset[str]],
    text: str,
) -> None:
    """Whoever may change settings from afar may not therefore run any program on this machine, or
    have its files read and sent.

    Raises:
        InvalidChangeError: an entry that does so is new, or another one than before.
    """
    known = {one.key: one.value for one in shown if one.key in refused}
    faults = []
    for key, names in refused.items():
        said, there = values.get(key), known.get(key)
        new = [
            one
            for one in (said if isinstance(said, list) else [])
            if not (isinstance(there, list) and one in there)
            and (not names or (isinstance(one, dict) and not names.isdisjoint(one)))
        ]
        if new:
            told = text.format(f"isocenter config set {key}")
            faults.append(SettingFault(key=key, text=f"{key}: {told}"))
    if faults:
        raise InvalidChangeError(faults)


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
        is_of_machine=setting.is_of_machine,
        needs_restart=key in _NEEDS_RESTART,
        is_pending=value != _value_of(in_use, key),
        former=tuple(name for name, now in FORMER_NAMES.items() if now == key),
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
