"""A server in a thread of its own, for tests and commands that do not run under trio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

import trio

_T = TypeVar("_T")
_START_SECONDS = 120.0


@contextmanager
def in_thread(serving: Callable[[], AbstractAsyncContextManager[_T]]) -> Iterator[_T]:
    """What *serving* gives, for as long as the body takes; what it raises is raised here."""
    found: list[_T] = []
    failures: list[BaseException] = []
    settled, ended = threading.Event(), threading.Event()

    async def run() -> None:
        async with serving() as one:
            found.append(one)
            settled.set()
            await trio.to_thread.run_sync(ended.wait)

    def work() -> None:
        try:
            trio.run(run)
        except BaseException as error:
            failures.append(error)
        finally:
            settled.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert settled.wait(_START_SECONDS), "it has not started"
        if found:
            yield found[0]
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
