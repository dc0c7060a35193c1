"""Several processes that serve the same listening sockets.

The parent binds, forks and waits; it runs no event loop and starts no thread, so
that forking stays safe.  A worker that dies is replaced; one that dies at once,
again and again, stops the server.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

from isocenter.services.system import systemd

log = logging.getLogger("isocenter.server")

#: Of a worker: no other takes its place.
EXIT_LEFT: Final = 75

#: A worker that lives less than this did not start.
_START_SECONDS: Final = 5.0
_MOST_FAILED_STARTS: Final = 3
#: A sign of life in the pipe; a write of it is never torn (PIPE_BUF).
_PID: Final = struct.Struct("=q")
_MOST_BEATS: Final = 512
#: By which the parent is told what to do.
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


def run_workers(
    count: int,
    *,
    prepare: Callable[[], None],
    work: Callable[[Callable[[], None], Callable[[], None], int], object],
    announce: Callable[[], None],
    say: Callable[[str], None],
    on_worker_exit: Callable[[int], None],
) -> int:
    """Keep *count* workers until SIGTERM or SIGINT; the exit code.

    Args:
        prepare: done once before, in a process of its own; exits or raises to refuse.
        work: a worker; calls its first argument when it accepts connections, the second as
            a sign of life, and ends when the third, a descriptor, becomes readable: the
            parent is gone.  It exits with `EXIT_LEFT` when all are to end, each in its time.
        announce: called in the parent when the first worker accepts.
        say: called with each line that a person at the terminal has to read.
        on_worker_exit: called in the parent with the process id of a worker that has ended.
    """
    if not hasattr(os, "fork"):
        say(f"{count} workers need a system with fork (POSIX); set --workers 1")
        return 2
    code = _wait(_fork(prepare, say))
    if code:
        return code
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        systemd.notify("STOPPING=1")
        for pid in workers:
            _send(pid, signal.SIGTERM)

    def reload(*_: object) -> None:
        for pid in workers:
            _send(pid, signal.SIGHUP)

    workers: dict[int, float] = {}
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
    readable, writable = os.pipe()
    # Nothing is written to it: its end comes with that of the parent, however that comes.
    parent_end, parent_life = os.pipe()

    def ready() -> None:
        # systemd hears of the parent alone.
        os.environ.pop("NOTIFY_SOCKET", None)
        os.write(writable, b"+")

    failed_starts = 0
    announced = False
    with _Alive() as alive:
        while True:
            while len(workers) < count and not stopping:
                with _signals_held():  # `stop` and `reload` have to know of each worker
                    pid = _fork(lambda: work(ready, alive.beat, parent_end), say, parent_life)
                    workers[pid] = time.monotonic()
                alive.watch(workers)
            if (
                not announced
                and not stopping
                and select.select([readable], [], [], _START_SECONDS)[0]
            ):
                announced = True
                announce()
            try:
                pid, status = os.wait()
            except ChildProcessError:
                return 0 if stopping else 2
            except InterruptedError:
                continue
            on_worker_exit(pid)
            started = workers.pop(pid, 0.0)
            if os.waitstatus_to_exitcode(status) == EXIT_LEFT:
                # The others hear of it as well, and end when what they do is done.
                stopping = True
            if stopping:
                continue
            log.error("a worker ended with %s; another takes its place", _ending(status))
            if time.monotonic() - started < _START_SECONDS:
                failed_starts += 1
                if failed_starts >= _MOST_FAILED_STARTS:
                    say("workers do not start; see the log")
                    stop()
                    announced = True
                    while workers:
                        workers.pop(os.wait()[0], None)
                    return 2
            else:
                failed_starts = 0


class _Alive:
    """Signs of life of all workers become one of the server: a worker that hangs is missed."""

    def __init__(self) -> None:
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._writable, False)
        self._heard: set[int] = set()
        self._workers: Mapping[int, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # A process that ends forgets its handlers first, and then such a signal is its death.
        signal.setitimer(signal.ITIMER_REAL, 0)

    def beat(self) -> None:
        """In a worker."""
        try:
            os.write(self._writable, _PID.pack(os.getpid()))
        except BlockingIOError:
            pass  # the parent has not listened for long; it has enough of ours

    def watch(self, workers: Mapping[int, object]) -> None:
        """In the parent, which waits for the end of workers and is woken by a timer."""
        watchdog = systemd.watchdog_seconds()
        if watchdog is None or self._workers:
            return
        self._workers = workers
        signal.signal(signal.SIGALRM, self._listen)
        interval = systemd.beat_seconds(watchdog)
        signal.setitimer(signal.ITIMER_REAL, interval, interval)

    def _listen(self, *_: object) -> None:
        try:
            while data := os.read(self._readable, _PID.size * _MOST_BEATS):
                self._heard.update(pid for (pid,) in _PID.iter_unpack(data))
        except BlockingIOError:
            pass
        if self._heard.issuperset(self._workers):
            systemd.notify_alive()
            self._heard.clear()


@contextmanager
def _signals_held() -> Iterator[None]:
    """What comes meanwhile is obeyed at the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _fork(work: Callable[[], object], say: Callable[[str], None], *not_inherited: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 2
    try:
        for descriptor in not_inherited:
            os.close(descriptor)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Until it can be obeyed: a worker reads everything anew when it starts.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        work()
        code = 0
    except BaseExceptionGroup as group:
        say(str(group.exceptions[0]))
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # the process ends here; the parent sees the code
        say(str(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"
