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
import sys
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("isocenter.server")

#: A worker that lives less than this did not start.
_START_SECONDS: Final = 5.0
_MOST_FAILED_STARTS: Final = 3


def run_workers(
    count: int,
    *,
    prepare: Callable[[], None],
    work: Callable[[Callable[[], None], int], object],
    announce: Callable[[], None],
) -> int:
    """Keep *count* workers until SIGTERM or SIGINT; the exit code.

    Args:
        prepare: done once before, in a process of its own; exits or raises to refuse.
        work: a worker; calls its first argument when it accepts connections, and ends when
            the second, a descriptor, becomes readable: the parent is gone.
        announce: called in the parent when the first worker accepts.
    """
    if not hasattr(os, "fork"):
        print("isocenter serve: --workers needs a system with fork; use 1", file=sys.stderr)
        return 2
    code = _wait(_fork(prepare))
    if code:
        return code
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
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
        os.write(writable, b"+")

    failed_starts = 0
    announced = False
    while True:
        while len(workers) < count and not stopping:
            workers[_fork(lambda: work(ready, parent_end), parent_life)] = time.monotonic()
        if not announced and not stopping and select.select([readable], [], [], _START_SECONDS)[0]:
            announced = True
            announce()
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return 0 if stopping else 2
        except InterruptedError:
            continue
        started = workers.pop(pid, 0.0)
        if stopping:
            continue
        log.error("a worker ended with %s; another takes its place", _ending(status))
        if time.monotonic() - started < _START_SECONDS:
            failed_starts += 1
            if failed_starts >= _MOST_FAILED_STARTS:
                print("isocenter serve: workers do not start; see the log", file=sys.stderr)
                stop()
                announced = True
                while workers:
                    workers.pop(os.wait()[0], None)
                return 2
        else:
            failed_starts = 0


def _fork(work: Callable[[], object], *not_inherited: int) -> int:
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
        work()
        code = 0
    except BaseExceptionGroup as group:
        print(f"isocenter serve: {group.exceptions[0]}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # the process ends here; the parent sees the code
        print(f"isocenter serve: {error}", file=sys.stderr)
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
