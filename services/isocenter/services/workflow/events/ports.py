"""Ports of events: outbox, event log and open studies.

A consumer has a *position*: the last event that was looked at for it.  What it wants of that is
in its *lanes*, one for each study: a lane says from which event on the study's events are still
to be delivered, so a study that cannot be delivered holds up itself alone.  An event is behind
the position or in a lane, whatever ends in between; so it is delivered at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.events.event import Incident, StoredEvent
from isocenter.services.workflow.events.study_completion import CompletionRules


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLane:
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


#: Fields of events that hold an AE title.
_AE_TITLES: Final = (
    "source_ae_title", "calling_ae_title", "called_ae_title", "requester", "station_ae_title",
    "destination",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatus:
    """How far a consumer has got; times are seconds since 1970.

    Attributes:
        waiting: events that it has yet to get, as far as they are counted.
        held: studies whose last attempt failed.
        dead: events that were given up.
    """

    name: str
    position: int
    delivered: int
    delivered_at: float | None
    waiting: int
    held: int
    dead: int
    last_fault: str
    last_fault_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedDelivery:
    """A study that cannot be delivered to a consumer now; or, dead, an event that was given up.

    Attributes:
        at: when it is tried again, or was given up, in seconds since 1970.
    """

    consumer: str
    study_instance_uid: str
    event: int
    attempts: int
    at: float
    fault: str
    is_dead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudyStatus:
    """One line of a list of studies; times are seconds since 1970."""

    study_instance_uid: str
    state: str
    first_at: float
    last_at: float
    due_at: float
    received: int
    times: int
    completed_at: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSelection:
    """Which events to read; None and empty: all.

    Attributes:
        after: the number of the last that was read.
        ae_title: took part, in whatever part.
        since, until: seconds since 1970; *until* is not among them.
    """

    after: int | None = None
    kinds: Sequence[str] = ()
    study_instance_uid: str | None = None
    ae_title: str | None = None
    modality: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 100

    def admits(self, event: StoredEvent) -> bool:
        """Whether the fields of *event* are as wanted; the rest the database selects."""
        fields = event.members()
        if self.ae_title is not None and not any(
            fields.get(name) == self.ae_title for name in _AE_TITLES
        ):
            return False
        return self.modality is None or self.modality in (
            fields.get("modality"),
            *_listed(fields.get("modalities")),
        )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


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
    ) -> Sequence[StudyLane]:
        """Lanes that are due, the longest due first; those whose last attempt failed, or others."""
        ...

    async def waiting(
        self, consumer: str, kinds: Sequence[str], lane: StudyLane, limit: int
    ) -> Sequence[StoredEvent]:
        """The next events of a lane, in their order."""
        ...

    async def advance(
        self, consumer: str, kinds: Sequence[str], lane: StudyLane, from_event: int, delivered: int
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
        lane: StudyLane,
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

    async def correct_future_times(self, consumers: Collection[str]) -> None:
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


class EventLog(Protocol):
    """Shows people what there is of events, and lets them replay.  Failures are `StorageError`.

    A server may be at work on the same database.
    """

    async def events(self, selection: EventSelection) -> Sequence[StoredEvent]:
        """In their order: those behind *after*; without it the last ones."""
        ...

    async def last_number(self) -> int:
        """Of the events that there are or were."""
        ...

    async def consumers(self, kinds: Mapping[str, Sequence[str]]) -> Sequence[ConsumerStatus]:
        """Those whose *kinds* are given, by name, as far as a server knows them."""
        ...

    async def held(self, consumers: Collection[str], limit: int) -> Sequence[BlockedDelivery]:
        """What could not be delivered, and what was given up."""
        ...

    async def studies(
        self, *, state: str | None = None, limit: int = 100
    ) -> Sequence[OpenStudyStatus]:
        """Those of which something came last, first."""
        ...

    async def replay(
        self,
        consumer: str,
        kinds: Sequence[str],
        *,
        from_event: int = 0,
        since: float = 0.0,
        study_instance_uid: str | None = None,
    ) -> int:
        """Have the events from then on delivered once more; how many studies that concerns.

        Raises:
            KeyError: no server has had this consumer.
        """
        ...
