"""Explanation of a setting: meaning, values, default, source."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Container, Mapping
from typing import NamedTuple

from isocenter.services.service_classes.plugin import PluginSetting
from isocenter.services.settings.plugins import PluginEntry, kind_of, plain_toml
from isocenter.services.settings.settings import Setting, Settings


class Explained(NamedTuple):
    """One line of an explanation."""

    name: str
    text: str


def explain(setting: Setting, reloaded: Container[str]) -> list[Explained]:
    """What is true wherever it is set; *reloaded* are the keys that a reload takes."""
    ways = [f"{setting.flag} {setting.metavar}"] if setting.flag else []
    ways += [f"{setting.off_flag} (false)"] if setting.off_flag else []
    ways.append(setting.variable)
    if setting.is_secret:
        ways.append(f"{setting.variable}_FILE (a file that holds it)")
    return [
        Explained("meaning", setting.help),
        Explained("values", setting.kind.allowed),
        Explained("default", default_of(setting)),
        Explained("set by", ", ".join(ways)),
        Explained(
            "a change",
            "isocenter reload suffices" if setting.key in reloaded else "needs a restart",
        ),
    ]


def value_now(setting: Setting, settings: Settings, sources: Mapping[str, str]) -> Explained:
    """What it is, and where that was set."""
    section, _, name = setting.key.partition(".")
    value: object = getattr(settings, section)
    if name:
        value = getattr(value, name)
    return Explained("now", f"{_shown(setting, value)} ({sources.get(setting.key, 'default')})")


def explain_plugin_setting(setting: PluginSetting, entry: PluginEntry | None) -> list[Explained]:
    """The same of a setting of a plug-in; *entry*: what is set of it, None: it is off."""
    kind = kind_of(setting)
    default = "not set" if setting.default is None else plain_toml(setting.default)
    lines = [
        Explained("meaning", setting.help),
        Explained("values", kind.allowed),
        Explained("default", "none, it has to be set" if setting.is_required else default),
        Explained("set by", f"{setting.name} in the plug-in's table in [[plugins]]"),
        Explained("a change", "needs a restart"),
    ]
    if entry is not None:
        given = dict(entry.given)
        now = plain_toml(given[setting.name]) if setting.name in given else f"{default} (default)"
        lines.append(Explained("now", now))
    return lines


def default_of(setting: Setting) -> str:
    """The default, for people."""
    return setting.default_text or _shown(setting, setting.default)


def _shown(setting: Setting, value: object) -> str:
    if value is None:
        return "not set"
    if setting.is_secret:
        return "(hidden)"
    return setting.kind.to_toml(value)


def about(section: str) -> str:
    """What the settings of a section are for; empty for a list of the document itself."""
    for field in dataclasses.fields(Settings):
        if field.name == section and inspect.isclass(field.default_factory):
            paragraph = inspect.cleandoc(field.default_factory.__doc__ or "").partition("\n\n")[0]
            return " ".join(paragraph.split())
    return ""
