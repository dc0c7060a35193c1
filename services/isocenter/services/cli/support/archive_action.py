"""Action of a command on an archive that is there."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping

from isocenter.services.cli import EXIT_INTERRUPTED
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings

#: What an action does with an archive; the exit code.
Act = Callable[[Settings, argparse.Namespace, Terminal], Awaitable[int]]


def run_action(arguments: argparse.Namespace, actions: Mapping[str, Act]) -> int:
    """Do what is asked for with an archive that is there; the exit code.

    Args:
        actions: by name; Ctrl-C stops each of them.
    """
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            code = await actions[arguments.action](settings, arguments, terminal)
        return code  # noqa: RET504 - when interrupted, the one from before

    return run_task(terminal, work)
