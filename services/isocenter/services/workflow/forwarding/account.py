"""Account of a visit: what became of objects, written down now and then."""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from isocenter.services.errors import StorageError
from isocenter.services.notices import ForwardAttempted, Notices
from isocenter.services.workflow.forwarding.ports import (
    Delivered,
    DueForward,
    ForwardQueue,
    Outcome,
)

#: What came of objects is written down after so many, or so many seconds: what a crash loses of
#: it is sent once more.
_SETTLED_AT_ONCE: Final = 16
_SETTLE_SECONDS: Final = 1.0


class VisitAccount:
    """Takes down what became of objects.

    Attributes:
        fault: why the destination is to be left alone; empty: it is not.
        delivered: how many objects it took.
    """

    def __init__(self, queue: ForwardQueue, notices: Notices, destination: str, job: int) -> None:
        self._queue = queue
        self._notices = notices
        self._destination = destination
        self._job = job
        self._outcomes: list[Outcome] = []
        self._settled_at = trio.current_time()
        self.fault = ""
        self.delivered = 0

    def add(self, outcome: Outcome) -> None:
        """Take it down."""
        self._outcomes.append(outcome)

    def arrived(self, record: DueForward, size: int) -> None:
        """The destination took it."""
        self.add(Delivered(record, size))
        self.delivered += 1

    async def settle_now_and_then(self) -> None:
        """Write down what there is if it is time to.

        Raises:
            StorageError: it cannot be kept.
        """
        is_late = trio.current_time() - self._settled_at > _SETTLE_SECONDS
        if len(self._outcomes) >= _SETTLED_AT_ONCE or is_late:
            await self.settle()

    async def settle(self) -> None:
        """Write down what there is.

        Raises:
            StorageError: it cannot be kept.
        """
        outcomes, self._outcomes = self._outcomes, []
        self._settled_at = trio.current_time()
        if not outcomes:
            return
        try:
            await self._queue.settle(outcomes, self._job)
        except StorageError:
            self._outcomes = outcomes + self._outcomes
            raise
        for name, count in Counter(map(_name_of, outcomes)).items():
            self._notices.publish(
                ForwardAttempted(destination=self._destination, outcome=name, objects=count)
            )


def _name_of(outcome: Outcome) -> str:
    if isinstance(outcome, Delivered):
        return "delivered"
    return "given_up" if outcome.retry_in is None else "failed"
