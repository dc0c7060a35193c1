"""Programs of others: started without a shell, given data, listened to, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import trio

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import text_of

#: The last of what a program says on its standard error is kept.
_SAID_BYTES: Final = 300
_READ_BYTES: Final = 4_096
#: For the rest of what a program said, when it has ended and a child of it has not.
_LAST_WORDS_SECONDS: Final = 0.2


class ProgramError(IsocenterError):
    """A program that cannot be started, or that failed; the message says how.

    Attributes:
        said: the last of what it said, which may name patients: no part of the message.
    """

    error_code = ErrorCode.TASK

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


async def run_program(argv: Sequence[str], data: bytes, environment: Mapping[str, str]) -> str:
    """Run a program to its end; the last of what it said on its standard error.

    Cancelled, it and its children are ended at once.

    Args:
        data: for its standard input.

    Raises:
        ProgramError: it cannot be started, or its exit code is not 0.
    """
    try:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramError(f"cannot run {argv[0]}: {text_of(error)}") from error
    said = _Said()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process, data)
            nursery.start_soon(_listen, process, said)
            await process.wait()
            # A child of it may hold its standard error open for ever.
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_SECONDS
    finally:
        await _end(process)
    words = " ".join(said.last.decode("utf-8", "replace").split())
    if process.returncode:
        how = (
            f"exit code {process.returncode}"
            if process.returncode > 0
            else f"signal {-process.returncode}"
        )
        count = f"; it said {said.size} bytes" if words else ""
        raise ProgramError(f"{argv[0]}: {how}{count}", words)
    return words


async def _feed(process: trio.Process, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it need not read
        async with process.stdin:
            await process.stdin.send_all(data)


class _Said:
    """How much a program said, and the last of it."""

    def __init__(self) -> None:
        self.size = 0
        self.last = bytearray()

    def add(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        self.last += data
        del self.last[:-_SAID_BYTES]


async def _listen(process: trio.Process, said: _Said) -> None:
    assert process.stderr is not None
    while data := await process.stderr.receive_some(_READ_BYTES):
        said.add(data)


async def _end(process: trio.Process) -> None:
    """Cancelled or out of time: it and its children go, at once."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    for stream in (process.stdin, process.stderr):
        if stream is not None:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
