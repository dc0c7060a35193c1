"""``isocenter retrievescu``: objects from a peer, by C-GET or C-MOVE."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.cli.scu import getscu, movescu
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.network_options import (
    add_network_options,
    run_with_called_ae_title,
)
from isocenter.services.cli.support.options import ae_title, port
from isocenter.services.cli.support.query_options import add_query_options
from isocenter.services.cli.support.received_files import add_receiving_options

DESCRIPTION: Final = """\
Retrieve objects from a peer into files: over the same association (C-GET), or by having it send
them (C-MOVE) to a port of ours or to another destination.  isocenter getscu and movescu have
all options."""
EXAMPLES: Final = """\
examples:
  isocenter retrievescu localhost 11112 ISOCENTER --study-uid 1.2.3
  isocenter retrievescu localhost 11112 ISOCENTER --patient-id P1 -o p1 --structure flat
  isocenter retrievescu localhost 11112 ISOCENTER --mode move --local-port 11113 \\
                        --calling-ae ME --study-uid 1.2.3
  isocenter retrievescu localhost 11112 ISOCENTER --mode move --dest-ae VIEWER --study-uid 1.2.3

With --mode move, objects come to --local-port; the peer has to know our AE title and address.

exit codes: 0 all came, 1 some did not, 2 arguments or no association"""


def add_arguments(parser: CommandParser) -> None:
    """The options of retrievescu."""
    add_network_options(parser, calling="RETRIEVE_SCU", timeout=60, what_follows="[CALLED-AE]")
    group = parser.add_argument_group("retrieve")
    group.add_argument(
        "--mode",
        choices=("get", "move"),
        default="get",
        help="C-GET, or C-MOVE (default: %(default)s)",
    )
    group.add_argument(
        "--dest-ae",
        dest="move_dest",
        type=ae_title,
        metavar="AET",
        help="of C-MOVE: where to (default with --local-port: the calling AE title)",
    )
    group.add_argument(
        "--local-port",
        dest="port",
        type=port,
        metavar="N",
        help="of C-MOVE: receive here, on this port",
    )
    group.add_argument(
        "--receive-host",
        default=movescu.EVERYWHERE,
        metavar="H",
        help="address to receive at (default: %(default)s)",
    )
    group.add_argument("--no-progress", dest="progress", action="store_false", help="no bar")
    add_query_options(parser)
    add_receiving_options(parser, names=("-o", "--output"), default=Path("downloads"))
    parser.set_defaults(
        progress=True,
        receive_tls=False,
        sop_class=[],
        no_query=False,
        syntaxes=None,
        all_syntaxes=False,
        by_instance=False,
        frames=(),
        without_bulk_data=False,
    )


def run(arguments: argparse.Namespace) -> int:
    """Retrieve; the exit code."""
    moves = arguments.mode == "move"
    return run_with_called_ae_title(arguments, movescu.run if moves else getscu.run)
