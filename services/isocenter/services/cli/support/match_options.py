"""Options of the commands that print matches: form, file, how many."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from isocenter.services.cli.support.options import whole_number

#: Of matches of any query.
MATCH_FORMATS: Final = ("text", "json", "xml", "csv", "table")
_MOST_RESULTS: Final = 1_000_000_000


def add_match_output(group: argparse._ArgumentGroup, formats: Sequence[str], *, text: str) -> None:
    """``-o`` and ``--output-file``; the first of *formats* is the default."""
    group.add_argument(
        "-o",
        "--output",
        "--format",
        choices=tuple(formats),
        default=formats[0],
        help=f"{text} (default: %(default)s)",
    )
    group.add_argument(
        "--output-file", metavar="F", default="-", help="where to (default: standard output)"
    )


def add_max_results(group: argparse._ArgumentGroup, what: str) -> None:
    """``--max-results``: when a query is cancelled."""
    group.add_argument(
        "--max-results",
        "--cancel",
        type=whole_number(0, _MOST_RESULTS),
        default=0,
        metavar="N",
        help=f"cancel the query after N {what}; 0: never (default)",
    )
