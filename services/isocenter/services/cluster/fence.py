"""Fence: the right to write what one node at a time writes.

Whoever works under a lease has its fence in the context of its tasks.  Each transaction of these
tasks looks whether the lease is still theirs: a process that was paused for longer than its lease,
and wakes up, writes nothing any more.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A lease that was taken.

    Attributes:
        duty: what it is for.
        holder: who has taken it.
        number: higher than that of all who had it before.
    """

    duty: str
    holder: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFence:
    """A lock of a study that was taken.

    Attributes:
        lock_id: tells it from all others.
    """

    lock_id: str


#: Those of the task that asks, and of whoever has started it.
HELD: Final[ContextVar[tuple[Fence | LockFence, ...]]] = ContextVar("HELD", default=())


class LeaseLostError(StorageError):
    """A lease has ended; somebody else may have taken it, and nothing was written."""

    def __init__(self, fence: Fence | LockFence) -> None:
        what = f"lease of {fence.duty!r}" if isinstance(fence, Fence) else "lock of a study"
        super().__init__(
            f"the {what} is not ours any more: this process stood still for too long, or the "
            "database did"
        )
