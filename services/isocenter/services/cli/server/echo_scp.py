"""``isocenter echoscp``: answers C-ECHO, and nothing else (PS3.4 Annex A)."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.server.single_service import (
    add_scp_options,
    add_scp_tls_options,
    serve_only,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.settings.sections.storage import IN_MEMORY

DESCRIPTION: Final = """\
Answer C-ECHO from anybody, and nothing else: to try a network, a firewall, a modality.
Ctrl-C stops it and prints what it did."""
EXAMPLES: Final = """\
examples:
  isocenter echoscp 11112
  isocenter echoscp 11112 ECHO_SCP --host 0.0.0.0 -v
  isocenter echoscp 2762 --tls --tls-cert scp.crt --tls-key scp.key --tls-ca ca.crt

exit codes: 0 stopped by a signal, 2 arguments or settings, or it cannot start"""


def add_arguments(parser: CommandParser) -> None:
    """What every single service has."""
    add_scp_options(parser, aet="ECHO_SCP")
    add_scp_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    return serve_only(arguments, {"storage.data_dir": IN_MEMORY})
