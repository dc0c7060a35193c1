"""``isocenter echoscu``: whether a peer is there and answers (PS3.4 Annex A)."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import trio

from isocenter.engine.dimse.status import Status, describe_status
from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.network_options import add_network_options
from isocenter.services.cli.support.options import UsageError, whole_number
from isocenter.services.errors import OperationError

DESCRIPTION: Final = "Verify a peer: associate with it and send C-ECHO."
EXAMPLES: Final = """\
examples:
  isocenter echoscu localhost 11112
  isocenter echoscu ISOCENTER@localhost:11112 --repeat 10 --repeat-delay 100
  isocenter echoscu -aet CT1 -aec ISOCENTER +tls CT1.key CT1.crt +cf ca.crt archive 2762
  isocenter echoscu ISOCENTER@archive:2762 -aet CT1 --tls-cert CT1.crt --tls-key CT1.key \\
                    --tls-ca ca.crt

exit codes: 0 all answered with success, 1 some did not, 2 arguments or no association"""

_MOST_ECHOES: Final = 1_000_000
_MOST_MILLISECONDS: Final = 3_600_000


def add_arguments(parser: CommandParser) -> None:
    """The options of echoscu."""
    add_network_options(parser, calling="ECHOSCU", timeout=30)
    parser.add_argument(
        "-r",
        "--repeat",
        type=whole_number(1, _MOST_ECHOES),
        default=1,
        metavar="N",
        help="how often (default: 1)",
    )
    parser.add_argument(
        "--repeat-delay",
        type=whole_number(0, _MOST_MILLISECONDS),
        default=0,
        metavar="MS",
        help="milliseconds between two (default: 0)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify the peer; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        if rest:
            raise UsageError(f"{rest[0]!r} is one argument too many")
        return await _echo(client, arguments.repeat, arguments.repeat_delay / 1000)

    return run_client(arguments, work)


async def _echo(client: Client, repeat: int, delay: float) -> int:
    # The pause between two echoes is ours, not the peer's silence.
    idle = client.deadlines.idle + delay
    client = replace(client, deadlines=replace(client.deadlines, idle=idle))
    seconds: list[float] = []
    failed = 0
    async with client.associate([(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))]) as association:
        with client.interrupts.stoppable():
            for number in range(1, repeat + 1):
                started = trio.current_time()
                try:
                    status = await association.echo()
                except OperationError as error:
                    status = error.status
                except AssociationError as error:
                    client.terminal.error(f"C-ECHO {number}: {error}")
                    failed += repeat - number + 1
                    break
                elapsed = trio.current_time() - started
                if status == Status.SUCCESS:
                    seconds.append(elapsed)
                else:
                    failed += 1
                    client.terminal.error(
                        f"C-ECHO {number}: the peer answered {status:04X}H "
                        f"{describe_status(status)}"
                    )
                if repeat > 1:
                    client.terminal.note(f"C-ECHO {number}: {1000 * elapsed:.2f} ms")
                else:
                    client.terminal.detail(f"C-ECHO: {1000 * elapsed:.2f} ms")
                if delay and number < repeat:
                    await trio.sleep(delay)
    if repeat > 1:
        client.terminal.note(_statistics(seconds, failed))
    if client.interrupts.were_requested():
        return EXIT_INTERRUPTED
    return EXIT_FAILED if failed else EXIT_OK


def _statistics(seconds: Sequence[float], failed: int) -> str:
    text = f"{len(seconds) + failed} sent, {len(seconds)} answered with success, {failed} failed"
    if not seconds:
        return text
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{text}; min/median/max {1000 * low:.2f}/{1000 * middle:.2f}/{1000 * high:.2f} ms"
