"""``isocenter config``: what the settings come to, what they mean, and changes of them."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from isocenter.services import composition
from isocenter.services.cli import EXIT_OK, EXIT_USAGE
from isocenter.services.cli.server.setting_changes import (
    add_reset_arguments,
    add_set_arguments,
    reset_settings,
    set_setting,
)
from isocenter.services.composition.reloading import RELOADED
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.explanation import (
    Explained,
    about,
    explain,
    explain_plugin_setting,
    value_now,
)
from isocenter.services.settings.loading import Loaded, checked, load, settings_named
from isocenter.services.settings.options import add_options, overrides_from
from isocenter.services.settings.plugins import PluginEntry, faults_of
from isocenter.services.settings.settings import Setting
from isocenter.services.settings.toml_text import show
from isocenter.services.settings.warnings import warnings

DESCRIPTION: Final = (
    "Show the effective settings as TOML that can be loaded again, explain them, or change one; "
    "secrets hidden."
)
EXAMPLES: Final = """\
examples:
  isocenter config show
  isocenter config show --config /etc/isocenter.toml
  isocenter config show --data-dir /srv/isocenter --port 104 > isocenter.toml
  isocenter config explain tls.profile
  isocenter config explain monitoring --config /etc/isocenter.toml
  isocenter config explain plugins
  isocenter config explain | less
  isocenter config set log.level debug
  isocenter config reset log.level

Settings come from the file, then what was changed while the server ran (settings.json in the data
directory), then the environment (ISOCENTER__SECTION__KEY), then options.

exit codes: 0 shown or changed, 2 wrong arguments or settings"""
_WIDTH: Final = 100
_INDENT: Final = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of config."""
    parser.set_defaults(prog=parser.prog)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "print the effective settings"
    add_options(actions.add_parser("show", help=text, description=text, allow_abbrev=False))
    text = (
        "say what a setting means, what it may be, its default, what it is now and where that was "
        "set, and whether a change needs a restart"
    )
    explaining = actions.add_parser("explain", help=text, description=text, allow_abbrev=False)
    explaining.add_argument(
        "key",
        nargs="?",
        default="",
        metavar="KEY",
        help="a setting (tls.port), a section (tls), or an installed plug-in (plugins.NAME); none: "
        "all",
    )
    add_options(explaining)
    text = (
        "change a setting, as the pages of the archive do: it is checked, kept in the data "
        "directory, and used at once where a reload would use it"
    )
    add_set_arguments(actions.add_parser("set", help=text, description=text, allow_abbrev=False))
    text = "put settings that were changed back to what they would be"
    reset = actions.add_parser("reset", help=text, description=text, allow_abbrev=False)
    add_reset_arguments(reset)


def run(arguments: argparse.Namespace) -> int:
    """Print the settings, or what they mean, or change some; the exit code."""
    try:
        match arguments.action:
            case "explain":
                return _explain(arguments)
            case "set":
                return set_setting(arguments)
            case "reset":
                return reset_settings(arguments)
        loaded = load(arguments.config, overrides=overrides_from(arguments))
        settings = checked(loaded)
    except SettingsError as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(show(settings), end="")
    for text in (*loaded.former, *warnings(settings)):
        print(f"warning: {text}", file=sys.stderr)
    return EXIT_OK


def _explain(arguments: argparse.Namespace) -> int:
    """Also where settings are faulty: then they need it most."""
    section, _, plugin = arguments.key.partition(".")
    wanted = settings_named("plugins" if section == "plugins" else arguments.key)
    loaded = load(arguments.config, overrides=overrides_from(arguments))
    faults = [str(fault) for fault in loaded.faults]
    blocks: list[str] = []
    for section, settings in groupby(wanted, lambda setting: setting.key.partition(".")[0]):
        if text := about(section):
            blocks.append(textwrap.fill(f"[{section}] {text}", _WIDTH))
        blocks += [_block(setting, loaded) for setting in settings]
        if section == "plugins":
            blocks += _plugins(loaded.settings.plugins, plugin, faults)
    print("\n\n".join(blocks))
    for fault in faults:
        print(f"{arguments.prog}: {fault}", file=sys.stderr)
    return EXIT_USAGE if faults else EXIT_OK


def _plugins(entries: Sequence[PluginEntry], wanted: str, faults: list[str]) -> Iterator[str]:
    """What can be set of the plug-ins that are switched on, or of the one that is asked for."""
    switched_on = {entry.name: entry for entry in entries}
    names = ", ".join(composition.installed()) or "none"
    yield textwrap.fill(f"Installed plug-ins: {names}", _WIDTH)
    name, _, key = wanted.partition(".")
    for each in [name] if name else switched_on:
        try:
            title, declared = composition.declared_by(each)
        except composition.PluginError as error:
            faults.append(str(error))
            continue
        yield textwrap.fill(f"{title}: {declared.about}", _WIDTH)
        settings = [one for one in declared.settings if key in ("", one.name)]
        if key and not settings:
            faults.append(f"the plug-in {title} has no setting {key!r}")
        entry = switched_on.get(each)
        for setting in settings:
            yield _lines(f"plugins.{each}.{setting.name}", explain_plugin_setting(setting, entry))
        if entry is not None:
            faults += [f"plugins, {each}: {one}" for one in faults_of(declared.settings, entry)]


def _block(setting: Setting, loaded: Loaded) -> str:
    lines = explain(setting, RELOADED)
    if setting.key not in {fault.key for fault in loaded.faults}:
        lines.append(value_now(setting, loaded.settings, loaded.sources))
    return _lines(setting.key, lines)


def _lines(key: str, lines: Sequence[Explained]) -> str:
    return "\n".join(
        (
            key,
            *(
                textwrap.fill(
                    text,
                    _WIDTH,
                    initial_indent=f"  {name:<{_INDENT - 2}}",
                    subsequent_indent=" " * _INDENT,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                for name, text in lines
            ),
        )
    )
