"""Settings of plug-ins: which are on, and their values.

Reading the settings imports nothing of a plug-in: what is set of it is kept as it stands, and read
by what the plug-in declares when the server starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.service_classes.plugin import PluginSetting
from isocenter.services.settings import value_types as kinds

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
NAME: Final = kinds.Text(
    "the name of a plug-in: small letters, digits, - and _",
    lambda text: _NAME.fullmatch(text) is not None,
)
_PLAIN: Final = "text, a whole number, true or false, or a list of these"


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """A plug-in that is switched on.

    Attributes:
        name: of its entry point.
        given: what is set of it, by key, as TOML has it.
        folder: of the file that it stands in, for paths; None: the working directory.
    """

    name: str
    given: tuple[tuple[str, object], ...] = ()
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class PluginKind:
    """What a setting that holds a plug-in may be: a table in TOML, a name as text."""

    allowed: str = (
        "the name of an installed plug-in, or in a file a table with name and what the plug-in "
        "has to set"
    )
    names_place: ClassVar[bool] = True

    def from_toml(self, value: object) -> PluginEntry:
        """A table, or a name."""
        if isinstance(value, str):
            return self.from_text(value)
        if not isinstance(value, dict):
            raise TypeError
        if "name" not in value:
            raise kinds.InvalidValueError(f"name is missing; must be {self.allowed}")
        name, *others = kinds.each(
            [
                kinds.Part(
                    "name", value["name"], NAME.allowed, partial(NAME.from_toml, value["name"])
                ),
                *(
                    kinds.Part(key, one, _PLAIN, partial(_plain, one))
                    for key, one in value.items()
                    if key != "name"
                ),
            ]
        )
        keys = [key for key in value if key != "name"]
        return PluginEntry(str(name), tuple(zip(keys, others, strict=True)))

    def from_text(self, text: str) -> PluginEntry:
        """A name."""
        return PluginEntry(NAME.from_text(text))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, PluginEntry)
        pairs = (f"{key} = {plain_toml(one)}" for key, one in value.given)
        return f"{{ {', '.join([f'name = {kinds.toml_string(value.name)}', *pairs])} }}"


def _plain(value: object) -> object:
    if isinstance(value, list):
        if not all(isinstance(one, str | int) for one in value):
            raise TypeError
        return tuple(value)
    if not isinstance(value, str | int):
        raise TypeError
    return value


def plain_toml(value: object) -> str:
    """What is set of a plug-in, as a TOML file would have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(plain_toml, value))}]"
    return kinds.toml_string(str(value)) if isinstance(value, str | Path) else str(value)


def kind_of(declared: PluginSetting) -> kinds.ValueType[object]:
    """What a setting of a plug-in may be.

    Raises:
        ValueError: its type is none.
    """
    kind: kinds.ValueType[object]
    if declared.type is str:
        kind = kinds.one_of(*declared.choices) if declared.choices else kinds.SECRET
    elif declared.type is int:
        kind = kinds.Integer(declared.minimum, declared.maximum)
    elif declared.type is bool:
        kind = kinds.Boolean()
    elif declared.type is Path:
        kind = kinds.FilePath()
    else:
        raise ValueError(f"the setting {declared.name!r} is of no type that settings have")
    return kinds.ListOf(kind) if declared.is_list else kind


def faults_of(declared: Sequence[PluginSetting], entry: PluginEntry) -> list[str]:
    """What is wrong with what is set of a plug-in: each names the key and what is allowed."""
    faults = []
    given = dict(entry.given)
    names = {setting.name for setting in declared}
    for key in given:
        if key not in names:
            known = f"it has {', '.join(sorted(names))}" if names else "it has no settings"
            faults.append(f"there is no {key}; {known}")
    for setting in declared:
        if setting.name not in given:
            if setting.is_required:
                faults.append(f"{setting.name} is missing: {setting.help}")
            continue
        kind = kind_of(setting)
        try:
            kind.from_toml(_as_given(given[setting.name]))
        except (ValueError, TypeError):
            shown = plain_toml(given[setting.name])
            faults.append(f"{setting.name} = {shown}: must be {kind.allowed}")
    return faults


def values_of(declared: Sequence[PluginSetting], entry: PluginEntry) -> Mapping[str, Any]:
    """What is set of a plug-in, and the defaults; `faults_of` has found nothing."""
    given = dict(entry.given)
    folder = entry.folder or Path()
    values: dict[str, Any] = {}
    for setting in declared:
        if setting.name not in given:
            values[setting.name] = setting.default
            continue
        value = kind_of(setting).from_toml(_as_given(given[setting.name]))
        if setting.type is Path:
            value = (
                tuple(folder / one for one in value)
                if isinstance(value, tuple)
                else folder / str(value)
            )
        values[setting.name] = value
    return values


def _as_given(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
