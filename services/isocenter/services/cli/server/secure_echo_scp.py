"""``isocenter secureechoscp``: answers C-ECHO over TLS, and nothing else (PS3.15 Annex B)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli.server.single_service import add_scp_options, serve_only
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.tls_options import TLS_VERSIONS, profile_of_version
from isocenter.services.settings.sections.storage import IN_MEMORY

DESCRIPTION: Final = """\
Answer C-ECHO over TLS, and nothing else.  With --ca, callers must show a certificate of that
CA (mutual TLS).  isocenter certs makes a CA and certificates to try it with."""
EXAMPLES: Final = """\
examples:
  isocenter secureechoscp 2762 --cert scp.crt --key scp.key --ca ca.crt
  isocenter secureechoscp --cert scp.crt --key scp.key --tls-version 1.3

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""

_PORT: Final = 2762


def add_arguments(parser: CommandParser) -> None:
    """What every single service has, and the files for TLS."""
    add_scp_options(parser, aet="SECURE_SCP", port=_PORT)
    parser.set_defaults(tls=True)
    group = parser.add_argument_group("TLS")
    group.add_argument(
        "--cert", dest="tls_cert", type=Path, required=True, metavar="F", help="our certificate"
    )
    group.add_argument(
        "--key", dest="tls_key", type=Path, required=True, metavar="F", help="its private key"
    )
    group.add_argument(
        "--ca", dest="tls_ca", type=Path, metavar="F", help="who signs the callers' certificates"
    )
    group.add_argument(
        "--no-verify",
        dest="tls_client_auth",
        action="store_false",
        default=None,
        help="callers need not show a certificate, whatever --ca says",
    )
    group.add_argument(
        "--tls-version",
        dest="tls_profile",
        choices=tuple(TLS_VERSIONS),
        type=str,
        default="1.2",
        help="the oldest version of TLS to accept (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    arguments.tls_profile = profile_of_version(arguments.tls_profile)
    return serve_only(arguments, {"storage.data_dir": IN_MEMORY})
