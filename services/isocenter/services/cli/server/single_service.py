"""Parts that commands with a single service share."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.server.serve import run_server
from isocenter.services.cli.support.options import add_output_options, ae_title
from isocenter.services.settings.sections.monitoring import LogLevel
from isocenter.services.settings.source import SettingsSource

_MAX_PORT: Final = 65_535
#: What each service is switched on by.
_SWITCHES: Final = (
    "storage.accept", "query.enabled", "worklist.enabled", "mpps.enabled", "commitment.enabled",
    "events.enabled", "tls.enabled", "monitoring.enabled", "audit.enabled",
)  # fmt: skip


def add_scp_options(parser: argparse.ArgumentParser, *, aet: str) -> None:
    """Port, address and AE title."""
    parser.add_argument("port", type=_port, metavar="PORT", help="where to listen; 0: a free port")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "-aet",
        "--aetitle",
        type=ae_title,
        default=aet,
        metavar="AET",
        help="our AE title; callers may use any (default: %(default)s)",
    )
    add_output_options(parser)


def serve_only(arguments: argparse.Namespace, service: str, settings: dict[str, object]) -> int:
    """Serve *service* in the clear until a signal; the exit codes of ``isocenter serve``.

    Args:
        service: the section of its settings.
        settings: more, by key.
    """
    level = LogLevel.INFO if arguments.verbose else LogLevel.WARNING
    overrides: dict[str, object] = dict.fromkeys(_SWITCHES, False)
    overrides |= {
        f"{service}.enabled": True,
        "server.ae_title": arguments.aetitle,
        "server.accept_any_called_ae_title": True,
        "server.host": arguments.host,
        "server.port": arguments.port,
        "log.level": (LogLevel.DEBUG if arguments.debug else level).value,
        **settings,
    }
    # Whatever a configuration of the archive says is not meant for this.
    return run_server(SettingsSource(environ={}, overrides=overrides, changes={}))


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port")
