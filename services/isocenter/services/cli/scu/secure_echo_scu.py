"""``isocenter secureechoscu``: `isocenter echoscu` over TLS, by few options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli import parser_of
from isocenter.services.cli.commands import Command
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import add_output_options, ae_title, whole_number
from isocenter.services.cli.support.tls_options import TLS_VERSIONS, profile_of_version

DESCRIPTION: Final = """\
Verify a peer over TLS: associate with it and send C-ECHO.  With --cert and --key we show a
certificate, too (mutual TLS).  isocenter echoscu --tls has all options."""
EXAMPLES: Final = """\
examples:
  isocenter secureechoscu archive 2762 ISOCENTER --cert CT1.crt --key CT1.key --ca ca.crt \\
                          --calling-ae CT1
  isocenter secureechoscu localhost 2762 ANY-SCP --ca ca.crt --tls-version 1.3

exit codes: 0 it answered with success, 1 it did not, 2 arguments or no association"""

_MILLISECONDS: Final = 30_000
_MOST_MILLISECONDS: Final = 3_600_000


def add_arguments(parser: CommandParser) -> None:
    """The options of secureechoscu."""
    parser.is_intermixed = True
    parser.add_argument("host", help="the peer's host, or AET@HOST:PORT alone")
    parser.add_argument("port", nargs="?", metavar="PORT", help="its port")
    parser.add_argument(
        "called_ae", nargs="?", metavar="CALLED-AE", help="its AE title (default: ANY-SCP)"
    )
    parser.add_argument("--cert", type=Path, metavar="F", help="our certificate (PEM)")
    parser.add_argument("--key", type=Path, metavar="F", help="our private key (PEM)")
    parser.add_argument(
        "--ca",
        type=Path,
        action="append",
        default=[],
        metavar="F",
        help="who may have signed the peer's certificate (default: the CAs of the system)",
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="take any certificate: protects against nobody"
    )
    parser.add_argument(
        "--tls-version",
        choices=tuple(TLS_VERSIONS),
        default="1.2",
        help="the oldest version of TLS to speak (default: %(default)s)",
    )
    parser.add_argument(
        "--calling-ae",
        type=ae_title,
        default="SECURE_SCU",
        metavar="AET",
        help="our AE title (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=whole_number(1, _MOST_MILLISECONDS),
        default=_MILLISECONDS,
        metavar="MS",
        help="milliseconds to connect, and for each answer (default: %(default)s)",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify the peer; the exit code."""
    seconds = str(arguments.timeout / 1000)
    words = [word for word in (arguments.host, arguments.port) if word is not None]
    if arguments.called_ae is not None:
        words += ["-aec", arguments.called_ae]
    words += ["-aet", arguments.calling_ae, "--tls"]
    words += ["--tls-profile", profile_of_version(arguments.tls_version)]
    for option in ("-to", "-ta", "-td"):
        words += [option, seconds]
    for option, path in (("--tls-cert", arguments.cert), ("--tls-key", arguments.key)):
        if path is not None:
            words += [option, str(path)]
    for path in arguments.ca:
        words += ["--tls-ca", str(path)]
    words += ["--tls-no-verify"] * arguments.no_verify
    words += [
        option
        for option, wanted in (
            ("-v", arguments.verbose),
            ("-d", arguments.debug),
            ("-q", arguments.quiet),
        )
        if wanted
    ]
    module, parser = parser_of(Command("secureechoscu", "scu.echoscu", ""))
    code: int = module.run(parser.parse_args(words))
    return code
