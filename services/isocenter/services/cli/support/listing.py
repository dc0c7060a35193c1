"""Lists of rows: a table for people, or JSON for programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import orjson

from isocenter.services.cli.support.match_output import prepare_stdout, print_table
from isocenter.services.cli.support.options import whole_number

_MOST_ROWS: Final = 100_000

_Row = TypeVar("_Row")


def add_limit(action: argparse.ArgumentParser, *, text: str = "at most so many") -> None:
    """``--limit``: how many rows are shown, 100 if nothing is said."""
    action.add_argument(
        "--limit",
        type=whole_number(1, _MOST_ROWS),
        default=100,
        metavar="N",
        help=f"{text} (default: %(default)s)",
    )


def print_rows(
    rows: Sequence[_Row],
    *,
    as_json: bool,
    head: Sequence[str],
    line: Callable[[_Row], Sequence[str]],
    members: Callable[[_Row], object],
) -> None:
    """Print *rows*; where there are none, an empty list or nothing.

    Args:
        head: of the table.
        line: cells of a row of it, as they can be shown.
        members: what JSON has of a row.
    """
    out = prepare_stdout("json" if as_json else "table")
    if as_json:
        out.write(orjson.dumps([members(row) for row in rows]).decode() + "\n")
    elif rows:
        print_table(out, head, [line(row) for row in rows])
