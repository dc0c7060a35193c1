"""``isocenter config``: what the settings come to."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from isocenter.services.cli import EXIT_OK, EXIT_USAGE
from isocenter.services.settings.loading import (
    SettingsError,
    add_options,
    load_settings,
    overrides_from,
    show,
    warnings,
)

DESCRIPTION: Final = "Show the effective settings as TOML that can be loaded again; secrets hidden."
EXAMPLES: Final = """\
examples:
  isocenter config show
  isocenter config show --config /etc/isocenter.toml
  isocenter config show --data-dir /srv/isocenter --port 104 > isocenter.toml

Settings come from the file, then the environment (ISOCENTER__SECTION__KEY), then options.

exit codes: 0 shown, 2 wrong arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of config."""
    parser.set_defaults(prog=parser.prog)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "print the effective settings"
    add_options(actions.add_parser("show", help=text, description=text, allow_abbrev=False))


def run(arguments: argparse.Namespace) -> int:
    """Print the settings; the exit code."""
    try:
        settings = load_settings(arguments.config, overrides=overrides_from(arguments))
    except SettingsError as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(show(settings), end="")
    for text in warnings(settings):
        print(f"warning: {text}", file=sys.stderr)
    return EXIT_OK
