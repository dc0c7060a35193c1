"""The ports behind which events, what consumers have yet to get, and open studies are kept.

A consumer has a *position*: the last event that was looked at for it.  What it wants of that is
in its *lanes*, one for each study: a lane says from which event on the study's events are still
to be delivered, so a study that cannot be delivered holds up itself alone.  An event is behind
the position or in a lane, whatever ends in between; so it is delivered at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.events.event import Incident, StoredEvent
from isocenter.services.workflow.events.study_completion import CompletionRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What a consumer has yet to get of one study.

    Attributes:
        from_event: the first event that it has not got.
        attempts: of that event, which all failed.
        failing_since: since when nothing of the study has arrived, in seconds since 1970, also
            when events were given up meanwhile; None: the last attempt did not fail.
    """

    study_instance_uid: str
    from_event: int
    attempts: int
    failing_since: float | None


class Outbox(Protocol):
    """Keeps events and how far each consumer has got, durably.  Failures are `StorageError`."""

    async def begin(self, consumers: Collection[str]) -> None:
        """Consumers that are new get what happens from now on."""
        ...

    async def write(self, events: Sequence[Incident]) -> None:
        """Events that belong to no transaction of something else."""
        ...

    async def route(self, consumer: str, kinds: Sequence[str], position: int) -> int:
        """Put what came behind *position* and is of *kinds* into lanes.

        Returns:
            The new position: everything up to it has been looked at.  It is kept only when a
            lane was written, or by `settle`.
        """
        ...

    async def position(self, consumer: str) -> int:
        """The one that is kept."""
        ...

    async def settle(self, consumer: str, position: int) -> None:
        """Keep a position that moved past events that are not for the consumer."""
        ...

    async def lanes(
        self, consumer: str, limit: int, *, failing: bool, not_for: Collection[str]
    ) -> Sequence[Lane]:
        """Lanes that are due, the longest due first; those whose last attempt failed, or others."""
        ...

    async def waiting(
        self, consumer: str, kinds: Sequence[str], lane: Lane, limit: int
    ) -> Sequence[StoredEvent]:
        """The next events of a lane, in their order."""
        ...

    async def advance(
        self, consumer: str, kinds: Sequence[str], lane: Lane, from_event: int, delivered: int
    ) -> None:
        """Everything before *from_event* was delivered; a lane with nothing left is gone.

        Whoever has changed the lane meanwhile (a replay) wins.

        Args:
            delivered: events that were, to be counted.
        """
        ...

    async def failed(
        self,
        consumer: str,
        lane: Lane,
        event: StoredEvent,
        fault: str,
        retry_in: float | None,
        delivered: int,
    ) -> None:
        """Everything before *event* was delivered, and *event* was not.

        Args:
            retry_in: seconds; None: it is given up, and the lane goes on behind it.
            delivered: as of `advance`.
        """
        ...

    async def mend_times(self, consumers: Collection[str]) -> None:
        """Have lanes tried now that were to wait until a time which a wrong clock gave."""
        ...

    async def backlog(self, consumer: str, kinds: Sequence[str]) -> int:
        """How many events it has yet to get, at most some thousands are counted."""
        ...

    async def trim(self, consumers: Collection[str], keep_seconds: float) -> int:
        """Forget old events that every consumer has got, some at a time; how many went."""
        ...


class OpenStudies(Protocol):
    """Keeps which studies are being received.  Failures are `StorageError`."""

    async def declare(self, rules: CompletionRules) -> float | None:
        """Judge the studies that are due; those that are complete become so, with their event.

        Returns:
            When the next is due, in seconds since 1970; None: no study is open.
        """
        ...

    async def forget(self, keep_seconds: float) -> int:
        """Forget studies that have been complete for so long and are not here any more.

        Some at a time; how many; 0: there are no more.
        """
        ...

    async def count(self) -> int:
        """Studies that are being received."""
        ...
