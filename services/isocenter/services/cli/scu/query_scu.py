"""``isocenter queryscu``: `isocenter findscu` for people, with a table as its answer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.cli.scu import findscu
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.find_negotiation import add_find_negotiation
from isocenter.services.cli.support.match_options import (
    MATCH_FORMATS,
    add_match_output,
    add_max_results,
)
from isocenter.services.cli.support.network_options import (
    add_network_options,
    run_with_called_ae_title,
)
from isocenter.services.cli.support.query_options import add_query_options

DESCRIPTION: Final = """\
Query a peer (C-FIND) and print a table of what it has; isocenter findscu has all options."""
EXAMPLES: Final = """\
examples:
  isocenter queryscu localhost 11112 ISOCENTER --patient-name 'DOE*'
  isocenter queryscu localhost 11112 ISOCENTER --level SERIES --study-uid 1.2.3 --format json
  isocenter queryscu localhost 11112 ISOCENTER --study-date 20240101-20240131 --format csv

exit codes: 0 there are matches, 1 none or the query failed, 2 arguments or no association"""


def add_arguments(parser: CommandParser) -> None:
    """The options of queryscu."""
    add_network_options(parser, calling="QUERY_SCU", timeout=30, what_follows="[CALLED-AE]")
    add_query_options(parser)
    parser.set_defaults(level=Level.STUDY, model="study", extract=False, output_directory=Path())
    group = parser.add_argument_group("matches")
    formats = ("table", *(name for name in MATCH_FORMATS if name != "table"))
    add_match_output(group, formats, text="how they are written")
    add_max_results(group, "matches")
    add_find_negotiation(group)


def run(arguments: argparse.Namespace) -> int:
    """Query the peer; the exit code."""
    return run_with_called_ae_title(arguments, findscu.run)
