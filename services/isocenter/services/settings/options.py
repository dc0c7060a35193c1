"""Options of the command line for settings."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.settings import SETTINGS, Setting

#: The environment variable that names the configuration file.
CONFIG_VARIABLE: Final = "ISOCENTER_CONFIG"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give *parser* ``--config`` and the option of every setting that has one.

    Values stay text: `load_settings` checks them, so that a wrong one is reported the
    same way wherever it came from.
    """
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"file with settings: TOML, or YAML if it is called so (also {CONFIG_VARIABLE})",
    )
    for setting in SETTINGS:
        text = setting.help.replace("%", "%%")
        if setting.off_flag:
            parser.add_argument(
                setting.off_flag,
                dest=setting.key,
                action="store_const",
                const="false",
                help=setting.off_help.replace("%", "%%"),
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
    if setting.default_text:
        return f" (default: {setting.default_text})".replace("%", "%%")
    plain = setting.kind.to_toml(setting.default).strip('"')
    return f" (default: {plain})".replace("%", "%%")


def overrides_from(namespace: argparse.Namespace) -> dict[str, object]:
    """The options that were given, for `load_settings`."""
    keys = {setting.key for setting in SETTINGS}
    return {
        key: value for key, value in vars(namespace).items() if key in keys and value is not None
    }
