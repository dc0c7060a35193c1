"""Confirmation at the terminal before something that is hard to undo."""

from __future__ import annotations

import argparse
import sys

import trio

from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal


async def is_confirmed(arguments: argparse.Namespace, terminal: Terminal, what: str) -> bool:
    """Whether to do *what*: ``--yes`` says so, or the answer to a question.

    Raises:
        UsageError: nobody can be asked, and ``--yes`` was not given.
    """
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"nobody can be asked whether to {what}; say so with --yes")
    answer = await trio.to_thread.run_sync(
        lambda: input(f"{what[0].upper()}{what[1:]}? [y/N] "), abandon_on_cancel=True
    )
    if answer.strip().lower() in ("y", "yes"):
        return True
    terminal.note("nothing was changed")
    return False
