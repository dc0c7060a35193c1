"""`isocenter serve`: the archive as a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from isocenter.services.cli import read_module
from isocenter.services.settings.options import add_options, overrides_from
from isocenter.services.settings.source import SettingsSource

if TYPE_CHECKING:
    from isocenter.services.notices import Notices

DESCRIPTION = """\
Run the archive: store, find, get and move, in the clear on this machine and over
mutual TLS for everybody else.  Without any option it keeps everything in a data
directory of yours and makes a private CA there on the first start."""
EXAMPLES = """\
examples:
  isocenter serve
  isocenter serve --data-dir /srv/isocenter --peer VIEWER@10.0.0.7:11113
  isocenter serve --data-dir :memory: --port 0 --no-tls
  isocenter serve --config /etc/isocenter.toml --check-config

Every option but --config and --check-config is also a key of the configuration file and an
environment variable; see isocenter config show and isocenter config explain.

SIGTERM and Ctrl-C let operations under way end, a second one does not; then, on a terminal, a few
lines say what was done: associations, operations, objects.

exit codes: 0 it was stopped, 2 wrong arguments or settings, or it cannot start,
130 Ctrl-C while it started or closed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the settings table, and ``--check-config``."""
    add_options(parser)
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="check settings and certificates, and stop; makes and changes nothing",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; 0, or 2 for wrong settings or when it cannot start."""
    source = SettingsSource(config_file=arguments.config, overrides=overrides_from(arguments))
    return run_server(source, only_check=arguments.check_config, shows_totals=sys.stderr.isatty())


def run_server(
    source: SettingsSource,
    *,
    only_check: bool = False,
    watch: Callable[[Notices], None] | None = None,
    prog: str = "isocenter serve",
    shows_totals: bool = False,
) -> int:
    """As `run`, with settings from *source*, which is asked again to reload; *watch* gets what the
    server tells of itself, errors are those of *prog*, and with *shows_totals* what was counted is
    printed at the end.

    All that a server is made of is read only now: who asks for the options does not wait for it.
    """
    process = read_module("isocenter.services.cli.server.server_process")
    code: int = process.run_server(
        source, only_check=only_check, watch=watch, prog=prog, shows_totals=shows_totals
    )
    return code
