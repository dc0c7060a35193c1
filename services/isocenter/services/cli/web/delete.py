"""Action ``delete`` of ``isocenter dicomweb``."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import add_web_query_options
from isocenter.services.cli.web.service import WebCommand, add_url

DESCRIPTION: Final = """\
Delete studies, series or instances at the server, where it lets us: many do not.  What matches the
keys is searched for first, and named; then it is asked whether to go on."""

_NAMED: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of delete."""
    add_url(parser, text="or a study, series or instance")
    add_web_query_options(parser)
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


async def work(command: WebCommand) -> int:
    """Delete; the exit code."""
    terminal = command.terminal
    done = 0
    with command.interrupts.stoppable():
        resources = await command.resources()
        if not resources:
            command.tell_of_no_match()
            return EXIT_FAILED
        if any(resource.frames or resource.bulk for resource in resources):
            raise UsageError("parts of an instance cannot be deleted; name the instance")
        for resource in resources[:_NAMED]:
            terminal.note(resource.path)
        if len(resources) > _NAMED:
            terminal.note(f"and {len(resources) - _NAMED} more")
        what = f"delete {'this' if len(resources) == 1 else f'these {len(resources)}'}"
        if not await is_confirmed(command.arguments, terminal, what):
            return EXIT_FAILED
        for resource in resources:
            await command.client.delete(resource)
            done += 1
            terminal.detail(f"deleted {resource.path}")
    if command.interrupts.were_requested():
        terminal.note(f"cancelled; {done} deleted")
        return EXIT_INTERRUPTED
    terminal.note(f"{done} deleted")
    return EXIT_OK
