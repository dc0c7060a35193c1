"""Settings from everywhere they can come from, checked; and shown as they are.

What is set later wins: defaults, then the TOML file (``--config`` or
``ISOCENTER_CONFIG``), then ``ISOCENTER__SECTION__KEY``, then options.  A list that is set
replaces the one before.  What there is to set stands in `isocenter.services.settings.table`.

Nothing here opens a file that a setting names, except the configuration itself and
secrets given as ``ISOCENTER__SECTION__KEY_FILE``.
"""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.peer import Peer
from isocenter.services.settings import kinds
from isocenter.services.settings.checks import conflicts, warnings
from isocenter.services.settings.table import (
    IN_MEMORY,
    PREFIX,
    SETTINGS,
    AccessSettings,
    AuditSettings,
    DeadlineSettings,
    Durability,
    EventSettings,
    Hl7Settings,
    IdentitySettings,
    LimitSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    MonitoringSettings,
    OnAuditFailure,
    PlainSettings,
    QuerySettings,
    ServerSettings,
    Setting,
    Settings,
    StorageSettings,
    TlsIdentity,
    TlsSettings,
    TransferSyntaxSettings,
    default_data_dir,
)

__all__ = [
    "load_settings",
    "show",
    "warnings",
    "add_options",
    "overrides_from",
    "SettingsError",
    "Settings",
    "ServerSettings",
    "PlainSettings",
    "TlsSettings",
    "AccessSettings",
    "IdentitySettings",
    "StorageSettings",
    "QuerySettings",
    "DeadlineSettings",
    "Hl7Settings",
    "LimitSettings",
    "TransferSyntaxSettings",
    "LogSettings",
    "MonitoringSettings",
    "EventSettings",
    "AuditSettings",
    "OnAuditFailure",
    "Peer",
    "Durability",
    "TlsIdentity",
    "LogLevel",
    "LogFormat",
    "SETTINGS",
    "Setting",
    "CONFIG_VARIABLE",
    "IN_MEMORY",
    "default_data_dir",
]

CONFIG_VARIABLE: Final = "ISOCENTER_CONFIG"
#: A secret's variable with this ending names the file that holds it.
_FILE_SUFFIX: Final = "_FILE"
_HIDDEN: Final = "(hidden)"
#: Of a wrong value, as much goes into the message.
_SHOWN_CHARACTERS: Final = 80
#: Nobody has a larger configuration or secret; a wrong path may lead to a disk image.
_MAX_FILE_BYTES: Final = 1 << 20

_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_BY_VARIABLE: Final = {setting.variable: setting for setting in SETTINGS}
_SECTIONS: Final = tuple(dict.fromkeys(key.partition(".")[0] for key in _BY_KEY))


class SettingsError(IsocenterError):
    """A setting that cannot be: which, its value, where it came from, and what is allowed.

    Attributes:
        key: ``section.name``; empty where the fault is of a whole file.
        source: the file, ``environment variable X`` or ``option --x``.
    """

    def __init__(self, key: str, source: str, fault: str, value: str | None = None) -> None:
        what = key if value is None else f"{key} = {value}"
        super().__init__(f"{what} ({source}): {fault}" if key else f"{source}: {fault}")
        self.key = key
        self.source = source


#: Key → (value, where it came from).
_Given = dict[str, tuple[object, str]]


def load_settings(
    config_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The effective settings.

    Args:
        config_file: TOML; None: the one that ``ISOCENTER_CONFIG`` names, or none.
        environ: None: that of the process.
        overrides: by key, as `overrides_from` makes them: text, several texts, or a
            value that TOML could have.

    Raises:
        SettingsError: an unknown key, a value that is not allowed, settings that
            contradict each other, a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    given: _Given = {
        "storage.data_dir": (default_data_dir(environ), "default"),
    }
    named_by = "option --config"
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file, named_by = environ[CONFIG_VARIABLE], f"environment variable {CONFIG_VARIABLE}"
    if config_file is not None:
        given |= _from_file(Path(config_file), named_by)
    given |= _from_environment(environ)
    given |= _from_overrides(overrides or {})
    settings = _build(given)
    for key, fault in conflicts(settings, given):
        raise SettingsError(key, given[key][1] if key in given else "default", fault)
    return settings


def _build(given: _Given) -> Settings:
    values: dict[str, Any] = {}
    for section in fields(Settings):
        if section.name in _BY_KEY:
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


def _from_file(path: Path, named_by: str) -> _Given:
    text = _read(path, "", named_by)
    source = str(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number, or a nesting, beyond all bounds
        raise SettingsError("", source, f"not TOML: {error}") from error
    given: _Given = {}
    for section, content in document.items():
        if section in _BY_KEY:
            given[section] = (_value(_BY_KEY[section], content, source), source)
        elif section not in _SECTIONS:
            raise _unknown(section, source)
        elif not isinstance(content, dict):
            raise SettingsError(section, source, f"must be a table: [{section}]", _shown(content))
        else:
            for name, raw in content.items():
                key = f"{section}.{name}"
                if key not in _BY_KEY:
                    raise _unknown(key, source)
                value = _value(_BY_KEY[key], raw, source)
                if isinstance(value, Path) and str(value) != IN_MEMORY:
                    value = path.absolute().parent / value
                given[key] = (value, source)
    return given


def _from_environment(environ: Mapping[str, str]) -> _Given:
    given: _Given = {}
    for variable, text in environ.items():
        if not variable.upper().startswith(PREFIX):
            continue
        source = f"environment variable {variable}"
        setting = _BY_VARIABLE.get(variable.upper())
        secret = _BY_VARIABLE.get(variable.upper().removesuffix(_FILE_SUFFIX))
        if setting is not None:
            given[setting.key] = (_value_of_text(setting, text, source), source)
        elif secret is None:
            raise _unknown(variable[len(PREFIX) :].lower().replace("__", "."), source)
        elif not secret.is_secret:
            raise SettingsError(
                secret.key, source, f"only secrets are read from files; set {secret.variable}"
            )
        elif secret.variable in environ:
            raise SettingsError(secret.key, source, f"{secret.variable} is set, too; set one")
        else:
            content = _read(Path(text), secret.key, source).removesuffix("\n").removesuffix("\r")
            given[secret.key] = (_value_of_text(secret, content, source), source)
    return given


def _from_overrides(overrides: Mapping[str, object]) -> _Given:
    given: _Given = {}
    for key, raw in overrides.items():
        setting = _BY_KEY.get(key)
        if setting is None:
            raise _unknown(key, "option")
        source = f"option {setting.flag or setting.off_flag or key}"
        match raw:
            case str():
                value = _value_of_text(setting, raw, source)
            case list() | tuple() if isinstance(setting.kind, kinds.ListOf):
                value = tuple(_item_of_text(setting, str(item), source) for item in raw)
            case Path():
                value = _value_of_text(setting, str(raw), source)
            case _:
                value = _value(setting, raw, source)
        given[key] = (value, source)
    return given


def _as_tuple(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value


def _value(setting: Setting, raw: object, source: str) -> object:
    try:
        return setting.kind.from_toml(raw)
    except kinds.WrongValueError as error:
        raise SettingsError(setting.key, source, str(error)) from error
    except kinds.ExplainedError as error:
        raise SettingsError(setting.key, source, str(error)) from error
    except (ValueError, TypeError) as error:
        raise _not_allowed(setting, raw, source) from error


def _value_of_text(setting: Setting, text: str, source: str) -> object:
    try:
        return setting.kind.from_text(text)
    except kinds.WrongValueError as error:
        raise SettingsError(setting.key, source, str(error)) from error
    except kinds.ExplainedError as error:
        raise SettingsError(setting.key, source, str(error)) from error
    except (ValueError, TypeError) as error:
        raise _not_allowed(setting, text, source) from error


def _item_of_text(setting: Setting, text: str, source: str) -> object:
    """One of several: the option was given more than once, and commas are its own."""
    assert isinstance(setting.kind, kinds.ListOf)
    kind: kinds.Kind[object] = setting.kind.kind
    try:
        return kind.from_text(text)
    except (ValueError, TypeError) as error:
        raise SettingsError(setting.key, source, f"must be {kind.allowed}", _shown(text)) from error


def _not_allowed(setting: Setting, raw: object, source: str) -> SettingsError:
    shown = _HIDDEN if setting.is_secret else _shown(raw)
    return SettingsError(setting.key, source, f"must be {setting.kind.allowed}", shown)


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _unknown(key: str, source: str) -> SettingsError:
    known = [*_BY_KEY, *_SECTIONS]
    nearest = difflib.get_close_matches(key, known, n=1)
    if not nearest:  # the right name in the wrong section
        name = key.rpartition(".")[2]
        nearest = [k for k in known if k.rpartition(".")[2] == name][:1]
    section = key.partition(".")[0]
    names = [k.partition(".")[2] for k in _BY_KEY if k.startswith(section + ".")]
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


def show(settings: Settings) -> str:
    """The settings as TOML that can be loaded again; secrets and what is not set are comments."""
    lines: list[str] = []
    # A key of the document itself has to stand before the first table.
    for setting in sorted(SETTINGS, key=lambda setting: "." in setting.key):
        section, _, name = setting.key.partition(".")
        value: object = getattr(settings, section)
        if not name:
            lines += _shown_list(setting, value)
            continue
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        value = getattr(value, name)
        if value is None:
            lines.append(f"# {name} is not set")
        elif setting.is_secret:
            lines.append(f"# {name} = {_HIDDEN}")
        else:
            lines.append(f"{name} = {setting.kind.to_toml(value)}")
    return "\n".join(lines).strip("\n") + "\n"


def _shown_list(setting: Setting, value: object) -> Sequence[str]:
    """One line per item; peers can be many."""
    assert isinstance(setting.kind, kinds.ListOf)
    items = _as_tuple(value)
    if not items:
        return [f"{setting.key} = []"]
    return [
        f"{setting.key} = [",
        *(f"    {setting.kind.kind.to_toml(item)}," for item in items),
        "]",
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give *parser* ``--config`` and the option of every setting that has one.

    Values stay text: `load_settings` checks them, so that a wrong one is reported the
    same way wherever it came from.
    """
    parser.add_argument(
        "--config", metavar="FILE", help=f"TOML file with settings (also {CONFIG_VARIABLE})"
    )
    for setting in SETTINGS:
        text = setting.help.replace("%", "%%")
        if setting.off_flag:
            parser.add_argument(
                setting.off_flag, dest=setting.key, action="store_const", const="false", help=text
            )
        elif setting.flag:
            is_list = isinstance(setting.kind, kinds.ListOf)
            parser.add_argument(
                setting.flag,
                dest=setting.key,
                metavar=setting.metavar,
                action="append" if is_list else "store",
                help=text if is_list else text + _default_text(setting),
            )


def _default_text(setting: Setting) -> str:
    if setting.default is None:
        return ""
    plain = setting.kind.to_toml(setting.default).strip('"')
    return f" (default: {plain})".replace("%", "%%")


def overrides_from(namespace: argparse.Namespace) -> dict[str, object]:
    """The options that were given, for `load_settings`."""
    return {
        key: value for key, value in vars(namespace).items() if key in _BY_KEY and value is not None
    }
