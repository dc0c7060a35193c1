"""``isocenter hl7send``: send HL7 messages over MLLP, show acknowledgements."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.engine.deadlines import DEFAULT_DEADLINES
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import (
    UsageError,
    add_output_options,
    port,
    whole_number,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.tls_options import add_tls_options, tls_of
from isocenter.services.errors import text_of
from isocenter.services.integration.hl7.sender import open_sender
from isocenter.services.system.log_format import escape

DESCRIPTION: Final = """\
Send HL7 v2 messages over MLLP, one after the other, and print their acknowledgements.
A file may hold several messages, each of which begins with a line MSH; lines may end in
any way."""
EXAMPLES: Final = """\
examples:
  isocenter hl7send localhost 2575 order.hl7
  isocenter hl7send archive 2575 orders/*.hl7
  isocenter hl7send --tls --tls-ca ca.crt --tls-cert RIS.crt --tls-key RIS.key archive 2575 a.hl7
  cat order.hl7 | isocenter hl7send localhost 2575 -

exit codes: 0 all accepted (AA, CA), 1 some were not, 2 wrong arguments"""

_MOST_FILE_BYTES: Final = 64 << 20
_MOST_SECONDS: Final = 3_600
_STDIN: Final = "-"
_LINES: Final = re.compile(rb"\r\n|\r|\n")
_ACCEPTED: Final = re.compile(rb"\rMSA.[AC]A", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, what, and how."""
    parser.add_argument("host", metavar="HOST", help="the receiver")
    parser.add_argument("port", metavar="PORT", type=port, help="its port for MLLP")
    parser.add_argument("files", metavar="FILE", nargs="+", help="messages; -: standard input")
    parser.add_argument(
        "--timeout",
        type=whole_number(1, _MOST_SECONDS),
        default=30,
        metavar="S",
        help="seconds for each acknowledgement (default: %(default)s)",
    )
    add_output_options(parser)
    add_tls_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send all of them; the exit code."""
    terminal = Terminal.of(arguments)
    deadlines = replace(DEFAULT_DEADLINES, response=float(arguments.timeout))

    async def work(interrupts: Interrupts) -> int:
        tls = tls_of(arguments)
        messages = [message for name in arguments.files for message in _messages_of(name)]
        refused = 0
        name = arguments.tls_server_name or ""
        async with open_sender(arguments.host, arguments.port, tls, deadlines, name) as sender:
            with interrupts.stoppable():
                for message in messages:
                    answer = await sender.send(message)
                    _show(answer)
                    refused += _ACCEPTED.search(answer) is None
        terminal.detail(f"{len(messages) - refused} of {len(messages)} accepted")
        return EXIT_FAILED if refused else EXIT_OK

    return run_task(terminal, work)


def _messages_of(name: str) -> Sequence[bytes]:
    """The messages of a file, as they go over the wire."""
    try:
        if name == _STDIN:
            content = sys.stdin.buffer.read(_MOST_FILE_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {text_of(error)}") from error
    if len(content) > _MOST_FILE_BYTES:
        raise UsageError(f"{name} is larger than {_MOST_FILE_BYTES} bytes")
    messages: list[list[bytes]] = []
    for line in _LINES.split(content.strip(b"\x0b\x1c\r\n")):
        line = line.strip(b"\x0b\x1c")
        if line.startswith(b"MSH") or not messages:
            messages.append([])
        if line.strip():
            messages[-1].append(line)
    if not content.strip():
        raise UsageError(f"there is no message in {name}")
    return [b"".join(line + b"\r" for line in lines) for lines in messages if lines]


def _show(answer: bytes) -> None:
    """A segment on a line."""
    for line in answer.decode("utf-8", "replace").rstrip("\r").split("\r"):
        print(escape(line))
    print(flush=True)
