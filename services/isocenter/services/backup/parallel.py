"""Files side by side: disks have more than one request to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, Generic, Self, TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

#: Files that are read or written at once.
_AT_ONCE: Final = 4
#: Items that are gone through before the next are asked for.
_BLOCK: Final = 512


class Blocks(Generic[T]):
    """Items that an iterator reads from disk, in blocks."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        block = await trio.to_thread.run_sync(lambda: list(islice(self._items, _BLOCK)))
        if not block:
            raise StopAsyncIteration
        return block


async def each(call: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """*call* on each item, in threads; the results in the order of the items.

    The first failure ends it and leaves as it is; a call that runs is waited for.
    """
    results: dict[int, R] = {}
    failures: list[Exception] = []
    todo = iter(enumerate(items))

    async def worker(scope: trio.CancelScope) -> None:
        for place, item in todo:
            try:
                results[place] = await trio.to_thread.run_sync(partial(call, item))
            except Exception as failure:
                failures.append(failure)
                scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(_AT_ONCE, len(items))):
            nursery.start_soon(worker, nursery.cancel_scope)
    if failures:
        raise failures[0]
    return [results[place] for place in range(len(items))]
