"""Parts that commands with a single service share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.server.serve import run_server
from isocenter.services.cli.server.service_statistics import ServiceStatistics
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import (
    UsageError,
    add_output_options,
    ae_title,
    whole_number,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.tls_options import tls_profile
from isocenter.services.net.tls.contexts import DEFAULT_PROFILE, PROFILES
from isocenter.services.settings.sections.monitoring import LogLevel
from isocenter.services.settings.source import SettingsSource

_MAX_PORT: Final = 65_535
_MAX_ASSOCIATIONS: Final = 10
_MOST_ASSOCIATIONS: Final = 1_000_000
_IDLE_SECONDS: Final = 300
_MOST_SECONDS: Final = 86_400
#: What each service is switched on by.
_SWITCHES: Final = (
    "storage.accept", "query.enabled", "worklist.enabled", "mpps.enabled", "commitment.enabled",
    "ups.enabled", "print.enabled",
    "events.enabled", "tls.enabled", "monitoring.enabled", "audit.enabled", "web.enabled",
    # The directory may be an archive's, whose tasks delete, and whose jobs send.
    "schedules.enabled", "jobs.enabled",
)  # fmt: skip


def add_scp_options(parser: CommandParser, *, aet: str, port: int | None = None) -> None:
    """Port, AE title, address, limits and TLS.

    Args:
        aet: our AE title when none is given.
        port: where to listen when none is given; None: it has to be.
    """
    parser.is_intermixed = True
    default = "" if port is None else f" (default: {port})"
    # The two have a name of their own each: an option overwrites what stood in its place.
    parser.add_argument(
        "place",
        nargs="*",
        metavar="PORT [AET]",
        help=f"where to listen, 0: a free port{default}; then our AE title",
    )
    parser.set_defaults(default_port=port, default_aet=aet)
    parser.add_argument("--port", type=_port, metavar="N", help="the port, as an option")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "-aet",
        "--aetitle",
        "--ae-title",
        type=ae_title,
        metavar="AET",
        help=f"our AE title; callers may use any (default: {aet})",
    )
    parser.add_argument(
        "--max-assoc",
        type=whole_number(1, _MOST_ASSOCIATIONS),
        default=_MAX_ASSOCIATIONS,
        metavar="N",
        help="associations at once (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=whole_number(1, _MOST_SECONDS),
        default=_IDLE_SECONDS,
        metavar="S",
        help="seconds without activity after which an association is aborted "
        "(default: %(default)s)",
    )
    add_output_options(parser)


def add_scp_tls_options(parser: CommandParser) -> None:
    """Whether TLS is spoken, and with which files."""
    group = parser.add_argument_group("TLS")
    group.add_argument("--tls", action="store_true", help="DICOM over TLS; needs the next two")
    group.add_argument("--tls-cert", type=Path, metavar="F", help="our certificate (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="F", help="its private key (PEM)")
    group.add_argument(
        "--tls-ca", type=Path, metavar="F", help="who may have signed the callers' certificates"
    )
    group.add_argument(
        "--tls-profile",
        type=tls_profile,
        default=DEFAULT_PROFILE,
        metavar="NAME",
        help=f"security profile: {', '.join(PROFILES)} (default: %(default)s)",
    )
    group.add_argument(
        "--tls-client-auth",
        action="store_true",
        default=None,
        help="callers must show a certificate (default with --tls-ca)",
    )
    group.add_argument(
        "--tls-no-verify",
        dest="tls_client_auth",
        action="store_false",
        help="callers need not show a certificate (default without --tls-ca)",
    )


def tls_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What the options of `add_scp_tls_options` come to.

    Raises:
        UsageError: they contradict each other.
    """
    files = (arguments.tls_cert, arguments.tls_key)
    if not arguments.tls:
        if any((*files, arguments.tls_ca)):
            raise UsageError("files for TLS, but no TLS; add --tls")
        return {}
    if None in files:
        raise UsageError("TLS needs a certificate and its key; give --tls-cert and --tls-key")
    verifies = arguments.tls_client_auth
    if verifies is None:
        verifies = arguments.tls_ca is not None
    if verifies and arguments.tls_ca is None:
        raise UsageError("--tls-client-auth needs --tls-ca: who signs the callers' certificates")
    found: dict[str, object] = {
        "tls.certificate": str(arguments.tls_cert.absolute()),
        "tls.key": str(arguments.tls_key.absolute()),
        "tls.profile": arguments.tls_profile,
        # As in the clear: a caller may use any AE title.
        "tls.identity": "any",
        "tls.client_certificates": "required" if verifies else "none",
    }
    if arguments.tls_ca is not None:
        found["tls.ca"] = str(arguments.tls_ca.absolute())
    return found


def serve_only(
    arguments: argparse.Namespace,
    settings: dict[str, object],
    statistics: ServiceStatistics | None = None,
) -> int:
    """Serve what *settings* switch on until a signal; the exit codes of ``isocenter serve``.

    Args:
        settings: by key; all other services are off.
        statistics: what is counted and printed at the end.
    """
    terminal = Terminal.of(arguments)
    try:
        port, title = _place_of(arguments)
        tls = tls_settings(arguments) if "tls" in arguments else {}
    except UsageError as error:
        terminal.error(str(error))
        return EXIT_USAGE
    level = LogLevel.INFO if arguments.verbose else LogLevel.WARNING
    overrides: dict[str, object] = dict.fromkeys(_SWITCHES, False)
    overrides |= {
        "server.ae_title": title,
        "server.accept_any_called_ae_title": True,
        "server.max_associations": arguments.max_assoc,
        "server.max_associations_per_address": arguments.max_assoc,
        "server.max_associations_per_ae_title": arguments.max_assoc,
        "deadlines.idle": float(arguments.timeout),
        "log.level": (LogLevel.DEBUG if arguments.debug else level).value,
    }
    if tls:
        overrides |= {"plain.enabled": False, "tls.enabled": True, **tls}
        overrides |= {"tls.host": arguments.host, "tls.port": port}
    else:
        overrides |= {"server.host": arguments.host, "server.port": port}
    overrides |= settings
    counted = ServiceStatistics() if statistics is None else statistics
    # Whatever a configuration of the archive says is not meant for this.
    source = SettingsSource(environ={}, overrides=overrides, changes={})
    code = run_server(source, watch=counted.watch, prog=arguments.prog)
    if not code and not arguments.quiet:
        print(counted.text(), file=sys.stderr)
    return code


def _place_of(arguments: argparse.Namespace) -> tuple[int, str]:
    """Port and AE title, given one way or the other.

    Raises:
        UsageError: there is no port, or something twice.
    """
    port, title = arguments.port, arguments.aetitle
    words = list(arguments.place)
    try:
        if words and words[0].isdecimal():
            if port is not None:
                raise UsageError("the port is given twice; leave out one")
            port = _port(words.pop(0))
        if words:
            if title is not None:
                raise UsageError("the AE title is given twice; leave out one")
            title = ae_title(words.pop(0))
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from error
    if words:
        raise UsageError(f"{words[0]!r} is one argument too many; give PORT and AET")
    if port is None:
        port = arguments.default_port
    if port is None:
        raise UsageError("where to listen? Give a port, such as 11112")
    return port, arguments.default_aet if title is None else title


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port")
