"""Commands that consist of actions: ``isocenter trash`` of ``list``, ``restore`` and ``purge``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from isocenter.services.cli.support.options import add_output_options


def add_actions(
    parser: argparse.ArgumentParser, actions: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser for each action, for its options.

    Args:
        actions: name, and what it does in a few words.
    """
    parsers = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in actions:
        action = parsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            prefix_chars=parser.prefix_chars,
            allow_abbrev=False,
        )
        action.set_defaults(prog=f"{parser.prog} {name}")
        add_output_options(action)
        yield name, action
