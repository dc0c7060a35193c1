"""Codecs for file tools, which go from file to file without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CodecTasks:
    """What runs beside the tool: an event loop, and worker processes that it asks."""

    pool: CodecPool

    def run(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """What *function* gives, once it is there; for the tool's thread."""
        return trio.from_thread.run(function)


def with_codecs(work: Callable[[CodecTasks], int], limits: PoolLimits | None = None) -> int:
    """Run *work* in a thread, beside a pool of codecs that ends with it; its exit code.

    Ctrl-C ends *work* where it asks for frames the next time, or at once where it waits for some.
    """

    async def main() -> int:
        async with CodecPool(limits) as pool:
            return await trio.to_thread.run_sync(work, CodecTasks(pool))

    return trio.run(main)
