"""Processes that load one server at the same time, and what that cost it.

Each worker is forked, gets ready, waits for the word and reports when it began, when it
ended and how much it did.  Meanwhile this process looks at the server's memory.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Final

from peers.programs import SEARCH_PATH, Program
from peers.wire import Failed

#: What a worker's whole part may take at most, in seconds.
PATIENCE_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """What one worker did, on the monotonic clock that all processes share.

    ``values``: figures of its own, in the order of the row's lines; empty where the rate of
    *operations* is the figure.
    """

    began: float
    ended: float
    operations: float
    values: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the server while it was loaded: CPU seconds, and bytes of its largest process."""

    cpu_seconds: float
    idle_bytes: int
    peak_bytes: int


@dataclass(slots=True)
class Meter:
    """Reads *program* before, during and after a load."""

    program: Program
    _cpu: float = field(init=False)
    _idle: int = field(init=False)
    _peak: int = field(init=False)

    def __post_init__(self) -> None:
        self.program.reset_peak()
        self._idle = self._peak = self.program.resident_bytes()
        self._cpu = self.program.cpu_seconds()

    def look(self) -> None:
        """A process that serves one association takes its peak along when it ends."""
        self._peak = max(self._peak, self.program.peak_bytes())

    def cost(self) -> Cost:
        self.look()
        return Cost(self.program.cpu_seconds() - self._cpu, self._idle, self._peak)


def run_workers(
    work: Callable[[int], Done], number: int, program: Program
) -> tuple[list[Done], Cost]:
    """Let *number* workers call *work* with their index.

    Raises:
        Failed: one of them did; the first reason.
    """
    with _forked(work, number) as pipes:
        meter = Meter(program)
        for pipe in pipes:
            pipe.send(None)
        reports = _reports(pipes, meter)
        cost = meter.cost()
    for report in reports:
        if isinstance(report, str):
            raise Failed(report)
    return [report for report in reports if isinstance(report, Done)], cost


@contextmanager
def _forked(work: Callable[[int], Done], number: int) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("fork")
    processes, pipes = [], []
    try:
        for index in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(work, index, theirs), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        yield pipes
    except BaseException:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            process.join(_STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _worker(work: Callable[[int], Done], index: int, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever forked us decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()
    report: Done | str
    try:
        pipe.recv()
        report = work(index)
    except (Failed, OSError) as error:
        report = str(error) or type(error).__name__
    except EOFError:
        return
    pipe.send(report)


def _reports(pipes: Sequence[Connection], meter: Meter) -> list[Done | str]:
    waiting, found = list(pipes), []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waiting:
        for pipe in wait(waiting, _LOOK_SECONDS):
            assert isinstance(pipe, Connection)
            waiting.remove(pipe)
            try:
                found.append(pipe.recv())
            except EOFError:
                found.append("a worker ended without a word")
        meter.look()
        if time.monotonic() > deadline:
            found.append(f"not done after {PATIENCE_SECONDS:.0f} s")
            break
    return found


def run_client(
    command: Sequence[object], operations: int, program: Program
) -> tuple[list[Done], Cost]:
    """Let somebody else's client do *operations*, from its start to its end.

    Raises:
        Failed: it is not installed, or it says that it failed.
    """
    meter = Meter(program)
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": SEARCH_PATH},
        )
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    try:
        while True:
            try:
                _, errors = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                meter.look()
                if time.monotonic() > began + PATIENCE_SECONDS:
                    raise Failed(f"not done after {PATIENCE_SECONDS:.0f} s") from None
        done = Done(began, time.monotonic(), operations)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise Failed(f"{command[0]} ended with {process.returncode}: {lines[-1] if lines else ''}")
    return [done], meter.cost()
