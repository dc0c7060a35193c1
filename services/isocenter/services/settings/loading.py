"""Settings from everywhere they can come from, checked.

What is set later wins: defaults, then the file in TOML or YAML (``--config`` or
``ISOCENTER_CONFIG``), then what was changed while the server ran (`changed_settings`), then
``ISOCENTER__SECTION__KEY``, then options.  A list that is set replaces the one before.  What there
is to set stands in `isocenter.services.settings.sections`.

Nothing here opens a file that a setting names, except the configuration itself, the changed
settings of the data directory, and secrets given as ``ISOCENTER__SECTION__KEY_FILE``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.changed_settings import (
    ChangedSetting,
    ChangedSettings,
    Changes,
)
from isocenter.services.settings.consistency import conflicts
from isocenter.services.settings.errors import InvalidSettingsError, SettingsError
from isocenter.services.settings.former_names import (
    FORMER_NAMES,
    current_name,
    in_current_names,
)
from isocenter.services.settings.options import CONFIG_VARIABLE
from isocenter.services.settings.other_names import in_our_names
from isocenter.services.settings.plugins import PluginEntry
from isocenter.services.settings.sections.storage import IN_MEMORY, default_data_dir
from isocenter.services.settings.settings import SETTINGS, Setting, Settings
from isocenter.services.settings.toml_lines import lines_of
from isocenter.services.settings.toml_text import HIDDEN, as_tuple
from isocenter.services.settings.yaml_document import read_yaml
from isocenter.services.system.environment import PREFIX

#: A secret's variable with this ending names the file that holds it.
_FILE_SUFFIX: Final = "_FILE"
#: Of a wrong value, as much goes into the message.
_SHOWN_CHARACTERS: Final = 80
#: Nobody has a larger configuration or secret; a wrong path may lead to a disk image.
_MAX_FILE_BYTES: Final = 1 << 20

_YAML: Final = (".yaml", ".yml")

#: Every setting by its key.
BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_BY_VARIABLE: Final = {setting.variable: setting for setting in SETTINGS}
_FORMER_VARIABLES: Final = {PREFIX + name.upper().replace(".", "__"): name for name in FORMER_NAMES}
DATA_DIR: Final = "storage.data_dir"
_SECTIONS: Final = tuple(dict.fromkeys(key.partition(".")[0] for key in BY_KEY))


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where they are from.

    Attributes:
        settings: what is faulty is as by default.
        sources: by key, for what somebody set: a line of a file, a variable, an option.
        faults: what cannot be.
        fixed: by key, the variable or option that nothing changes while the server runs.
        changes: what was changed while it ran; a variable or an option may win over it.
        former: what was given by a name that it has no more, one line each.
    """

    settings: Settings
    sources: Mapping[str, str]
    faults: tuple[SettingsError, ...]
    fixed: Mapping[str, str]
    changes: Changes
    former: tuple[str, ...] = ()


#: Key → (value, where it came from).
_Given = dict[str, tuple[object, str]]


class _Sources:
    """What was given so far, and what of it cannot be."""

    def __init__(self) -> None:
        self.given: _Given = {}
        self.faults: list[SettingsError] = []
        #: Former names → where they were given.
        self.former: dict[str, str] = {}

    def take(self, key: str, source: str, read: Callable[[], object]) -> None:
        """Note what *read* gives, or all that is wrong with it."""
        try:
            self.given[key] = (read(), source)
        except SettingsError as error:
            self.faults += error.faults

    def then(self, later: _Sources) -> None:
        """Take over what others gave, which wins."""
        self.given |= later.given
        self.faults += later.faults
        self.former |= later.former

    @contextmanager
    def noting(self) -> Iterator[None]:
        """A fault inside is noted, and ends the block."""
        try:
            yield
        except SettingsError as error:
            self.faults += error.faults


def load_settings(
    config_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    changes: Changes | None = None,
) -> Settings:
    """The effective settings.

    Args:
        config_file: TOML; None: the one that ``ISOCENTER_CONFIG`` names, or none.
        environ: None: that of the process.
        overrides: by key, as `overrides_from` makes them: text, several texts, or a
            value that TOML could have.
        changes: what was changed while a server ran; None: that of the data directory.

    Raises:
        SettingsError: an unknown key, a value that is not allowed, settings that
            contradict each other, a file that cannot be read.
    """
    return checked(load(config_file, environ, overrides, changes))


def checked(loaded: Loaded) -> Settings:
    """The settings, if there is nothing wrong with them; raises as `load_settings` does."""
    if loaded.faults:
        raise _together(loaded.faults)
    return loaded.settings


def load(
    config_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    changes: Changes | None = None,
) -> Loaded:
    """The same with where each setting is from, and all faults instead of an exception."""
    environ = os.environ if environ is None else environ
    sources = _Sources()
    named_by = "option --config"
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file, named_by = environ[CONFIG_VARIABLE], f"environment variable {CONFIG_VARIABLE}"
    if config_file is not None:
        with sources.noting():
            _from_file(sources, Path(config_file), named_by)
    later = _Sources()
    _from_environment(later, environ)
    _from_overrides(later, overrides or {})
    default = (default_data_dir(environ), "default")
    data_dir, _ = (sources.given | later.given).get(DATA_DIR, default)
    if changes is None:
        changes = {}
        if str(data_dir) != IN_MEMORY:
            with sources.noting():
                changes = ChangedSettings(Path(str(data_dir))).read()
    _from_changes(sources, changes, Path(str(data_dir)))
    sources.then(later)
    given = {DATA_DIR: default} | sources.given
    settings = _build(given)
    faulty = {fault.key for fault in sources.faults}
    for key, fault, beside in conflicts(settings, given):
        # Beside a value that could not be read, nobody knows whether they contradict.
        if faulty.isdisjoint((key, *beside)):
            source = given[key][1] if key in given else "default"
            sources.faults.append(SettingsError(key, source, fault))
    return Loaded(
        settings,
        {key: source for key, (_, source) in sources.given.items()},
        tuple(sources.faults),
        {key: source for key, (_, source) in later.given.items()},
        changes,
        tuple(
            f"{name} is called {current_name(name)} now; rename it ({source})"
            for name, source in sources.former.items()
        ),
    )


def _build(given: _Given) -> Settings:
    values: dict[str, Any] = {}
    for section in fields(Settings):
        if section.name in BY_KEY:
            if section.name in given:
                values[section.name] = given[section.name][0]
            continue
        names: dict[str, Any] = {
            key.partition(".")[2]: value
            for key, (value, _) in given.items()
            if key.partition(".")[0] == section.name
        }
        factory: Any = section.default_factory
        values[section.name] = factory(**names)
    return Settings(**values)


def _from_file(sources: _Sources, path: Path, named_by: str) -> None:
    document, lines = _document(path, _read(path, "", named_by))

    def place(name: str, part: str = "") -> str:
        number = lines.get(f"{name}, {part.partition(':')[0]}", lines.get(name))
        while number is None and "." in name:  # TOML's lines are those of two keys at most
            name = name.rpartition(".")[0]
            number = lines.get(name)
        return str(path) if number is None else f"{path}, line {number}"

    document, names, faults, former = in_our_names(document, BY_KEY, place)
    sources.faults += faults
    sources.former |= {name: place(name) for name in former}

    def source(key: str, part: str = "") -> str:
        return place(names.get(key, key), part)

    def value(key: str, raw: object) -> object:
        read = _value(BY_KEY[key], raw, partial(source, key))
        return _placed(key, read, path.absolute().parent)

    for section, content in document.items():
        if section in BY_KEY:
            sources.take(section, source(section), partial(value, section, content))
        elif section not in _SECTIONS:
            sources.faults.append(unknown_setting(section, source(section)))
        elif not isinstance(content, dict):
            sources.faults.append(
                SettingsError(
                    section, source(section), f"must be a table: [{section}]", _shown(content)
                )
            )
        else:
            for name, raw in content.items():
                key = f"{section}.{name}"
                if key in BY_KEY:
                    sources.take(key, source(key), partial(value, key, raw))
                else:
                    sources.faults.append(unknown_setting(key, source(key)))


def _document(path: Path, text: str) -> tuple[dict[str, Any], Mapping[str, int]]:
    """What a file says, in YAML if its name says so, else in TOML, and on which lines."""
    if path.suffix.lower() in _YAML:
        try:
            return read_yaml(text)
        except ImportError as error:
            cure = "needs PyYAML, which is not installed: pip install pyyaml"
            raise SettingsError("", str(path), f"YAML {cure}") from error
        except (ValueError, RecursionError) as error:
            raise SettingsError("", str(path), f"not YAML for settings: {error}") from error
    try:
        return tomllib.loads(text), lines_of(text)
    except (ValueError, RecursionError) as error:  # a number, or a nesting, beyond all bounds
        raise SettingsError("", str(path), f"not TOML: {error}") from error


def _placed(key: str, read: object, folder: Path) -> object:
    """A value with its paths relative to the folder of the file that it stands in."""
    if isinstance(read, Path) and str(read) != IN_MEMORY:
        return folder / read
    if key == "plugins":
        # Which of what is set of them are paths, only they know.
        return tuple(
            replace(entry, folder=folder)
            for entry in as_tuple(read)
            if isinstance(entry, PluginEntry)
        )
    return read


def _from_changes(sources: _Sources, changes: Changes, folder: Path) -> None:
    """What was changed while a server ran; paths are relative to its data directory."""

    def value(key: str, change: ChangedSetting) -> object:
        read = _value(BY_KEY[key], change.value, lambda _: change.source)
        return _placed(key, read, folder.absolute())

    for key, change in changes.items():
        if key == DATA_DIR:
            fault = "is what these lie in; change it in the configuration file"
            sources.faults.append(SettingsError(key, change.source, fault))
        elif key in BY_KEY:
            sources.take(key, change.source, partial(value, key, change))
        else:
            sources.faults.append(unknown_setting(key, change.source))


def _from_environment(sources: _Sources, environ: Mapping[str, str]) -> None:
    former: dict[str, str] = {}
    for variable, text in environ.items():
        if variable.upper() in _FORMER_VARIABLES:
            former[variable] = text
        elif variable.upper().startswith(PREFIX):
            with sources.noting():
                _from_variable(sources, environ, variable, text)
    for variable, text in former.items():
        with sources.noting():
            _from_former_variable(sources, variable, text)


def _from_former_variable(sources: _Sources, variable: str, text: str) -> None:
    name = _FORMER_VARIABLES[variable.upper()]
    source, setting = f"environment variable {variable}", BY_KEY[current_name(name)]
    value = _value_of_text(setting, text, source)
    before = sources.given.setdefault(setting.key, (value, source))
    if before[0] != value:
        raise SettingsError(
            setting.key, source, f"{before[1]} says another thing; keep {setting.variable}"
        )
    sources.former[name] = source


def _from_variable(sources: _Sources, environ: Mapping[str, str], variable: str, text: str) -> None:
    source = f"environment variable {variable}"
    setting = _BY_VARIABLE.get(variable.upper())
    secret = _BY_VARIABLE.get(variable.upper().removesuffix(_FILE_SUFFIX))
    if setting is not None:
        sources.take(setting.key, source, lambda: _value_of_text(setting, text, source))
    elif secret is None:
        raise unknown_setting(variable[len(PREFIX) :].lower().replace("__", "."), source)
    elif not secret.is_secret:
        raise SettingsError(
            secret.key, source, f"only secrets are read from files; set {secret.variable}"
        )
    elif secret.variable in environ:
        raise SettingsError(secret.key, source, f"{secret.variable} is set, too; set one")
    else:
        content = _read(Path(text), secret.key, source).removesuffix("\n").removesuffix("\r")
        sources.take(secret.key, source, lambda: _value_of_text(secret, content, source))


def _from_overrides(sources: _Sources, overrides: Mapping[str, object]) -> None:
    for key, raw in in_current_names(overrides).items():
        setting = BY_KEY.get(key)
        if setting is None:
            sources.faults.append(unknown_setting(key, "option"))
            continue
        source = f"option {setting.flag or setting.off_flag or key}"
        sources.take(key, source, partial(_value_of_option, setting, raw, source))


def _value_of_option(setting: Setting, raw: object, source: str) -> object:
    match raw:
        case str():
            return _value_of_text(setting, raw, source)
        case list() | tuple() if isinstance(setting.kind, kinds.ListOf):
            # One of several: the option was given more than once, and commas are its own.
            kind: kinds.ValueType[object] = setting.kind.kind
            return _read_by(
                setting,
                raw,
                lambda _: source,
                lambda: kinds.items(lambda item: kind.from_text(str(item)), raw, kind.allowed),
            )
        case Path():
            return _value_of_text(setting, str(raw), source)
        case _:
            return _value(setting, raw, lambda _: source)


def _value(setting: Setting, raw: object, source: Callable[[str], str]) -> object:
    return _read_by(setting, raw, source, lambda: setting.kind.from_toml(raw))


def _value_of_text(setting: Setting, text: str, source: str) -> object:
    return _read_by(setting, text, lambda _: source, lambda: setting.kind.from_text(text))


def _read_by(
    setting: Setting, raw: object, source: Callable[[str], str], read: Callable[[], object]
) -> object:
    """What *read* makes of *raw*; *source* says where it, or a part of it, came from."""
    try:
        return read()
    except kinds.InvalidPartsError as error:
        raise _together(
            [_fault(setting, one, source(one.where)) for one in error.faults]
        ) from error
    except (ValueError, TypeError) as error:
        whole = kinds.PartFault("", raw, setting.kind.allowed, error)
        raise _fault(setting, whole, source("")) from error


def _fault(setting: Setting, part: kinds.PartFault, source: str) -> SettingsError:
    """What is wrong with a setting, or with a part of it."""
    if isinstance(part.cause, kinds.InvalidValueError):
        return SettingsError(setting.key, source, str(part.cause), part=part.where)
    shown = HIDDEN if setting.is_secret else _shown(part.value)
    return SettingsError(setting.key, source, f"must be {part.allowed}", shown, part=part.where)


def _together(faults: Sequence[SettingsError]) -> SettingsError:
    return faults[0] if len(faults) == 1 else InvalidSettingsError(faults)


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def settings_named(name: str) -> tuple[Setting, ...]:
    """The setting, or all of the section, that is called *name*; empty: all.

    Raises:
        SettingsError: there is none.
    """
    name = current_name(name)
    found = tuple(
        setting for setting in SETTINGS if name in ("", setting.key, setting.key.partition(".")[0])
    )
    if not found:
        raise unknown_setting(name, "argument")
    return found


def unknown_setting(key: str, source: str) -> SettingsError:
    """There is none of that name: the error, with what may be meant."""
    known = [*BY_KEY, *_SECTIONS]
    name = key.rpartition(".")[2]
    namesakes = [k for k in known if k.rpartition(".")[2] == name]
    nearest = difflib.get_close_matches(key, known, n=1)
    if not nearest or len(namesakes) == 1:  # the right name in the wrong section
        nearest = namesakes[:1]
    section = key.partition(".")[0]
    names = [k.partition(".")[2] for k in BY_KEY if k.startswith(section + ".")]
    if nearest:
        hint = f"did you mean {nearest[0]}?"
    elif names:
        hint = f"in {section} there are {', '.join(names)}"
    else:
        hint = f"there are {', '.join(_SECTIONS)}"
    return SettingsError(_shown(key).strip("'\""), source, f"no such setting; {hint}")


def _read(path: Path, key: str, source: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SettingsError(key, source, f"cannot read {path}: {reason}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise SettingsError(key, source, f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(key, source, f"{path} is not UTF-8 text") from error
