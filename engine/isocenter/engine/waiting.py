"""Waiting requests: callers by the Message ID of their request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from isocenter.engine.dimse.message_codec import Response
from isocenter.engine.dimse.operations import Operations

Waiter = TypeVar("Waiter")


class Waiting(Generic[Waiter]):
    """Message ID → who waits for its responses, and what is owed to nobody any more.

    A response always belongs to a request that is outstanding: the engine aborts the
    association for any other.  So one without a waiter is for somebody who has left.

    Args:
        operations: those of the association; who begins to wait has a place in the window.
    """

    __slots__ = ("_operations", "_waiters")

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._waiters: dict[int, Waiter] = {}

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def __len__(self) -> int:
        return len(self._waiters)

    def begin(self, message_id: int, waiter: Waiter) -> None:
        """*waiter* is about to send the request of this Message ID."""
        self._operations.reserve(message_id)
        self._waiters[message_id] = waiter

    def of(self, response: Response) -> Waiter | None:
        """Whose response it is; None: of somebody who has left."""
        return self._waiters.get(response.message_id_being_responded_to)

    def leave(self, message_id: int, waiter: Waiter) -> bool:
        """*waiter* waits no more: all has come, or nothing was sent, or nobody wants it.

        Whether it still waited; somebody else may have the Message ID by now.
        """
        if self._waiters.get(message_id) is not waiter:
            return False
        self._operations.give_up(message_id)
        del self._waiters[message_id]
        return True

    @property
    def owed(self) -> frozenset[int]:
        """Message IDs of requests whose last response is still to come, and nobody waits for."""
        return frozenset(self._operations.invoked.keys() - self._waiters.keys())
