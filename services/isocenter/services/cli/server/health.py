"""``isocenter health``: whether the server here can do its work."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

import trio

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import (
    UsageError,
    add_archive_options,
    add_output_options,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.server_health import SECONDS, check_health
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import overrides_from

DESCRIPTION: Final = """\
Ask the server that runs with these settings whether it is well: its index, its disk, its
associations.  It is asked over HTTP (monitoring.host, monitoring.port), so that no AE title is
needed and no policy stands in the way.  For the health check of a container, and for monitoring."""
EXAMPLES: Final = """\
examples:
  isocenter health
  isocenter health --config /etc/isocenter/isocenter.toml -q

exit codes: 0 healthy or degraded, 1 unhealthy or no answer, 2 arguments or
settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which server."""
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        try:
            settings = load_settings(arguments.config, overrides=overrides_from(arguments))
        except SettingsError as error:
            raise UsageError(str(error)) from error
        ask = partial(check_health, settings, seconds=SECONDS)
        with interrupts.stoppable():
            examined = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
            return _print_result(examined, terminal, is_quiet=arguments.quiet)

    return run_task(terminal, work)


def _print_result(examined: CheckResult, terminal: Terminal, *, is_quiet: bool) -> int:
    if not is_quiet:
        print(examined.seen)
    for finding in examined.findings:
        if finding.text != examined.seen:
            terminal.note(finding.text)
        if finding.cure:
            terminal.detail(finding.cure)
    is_bad = any(finding.severity is Severity.ERROR for finding in examined.findings)
    return EXIT_FAILED if is_bad else EXIT_OK
