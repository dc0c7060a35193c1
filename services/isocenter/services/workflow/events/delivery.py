"""Events to their consumers: at least once each, in their order for each study.

One process of a server delivers (`isocenter.services.system.exclusive_task`).  For each consumer
what is new is put into lanes, one for each study; some lanes are worked on at once.  A lane whose
event fails waits, ever longer, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from time import time
from typing import Final

import trio

from isocenter.services.concurrency import Backoff
from isocenter.services.errors import StorageError
from isocenter.services.workflow.events.consumer import Consumer
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.ports import Outbox, StudyLane
from isocenter.services.workflow.events.targets import (
    ConsumerError,
    Deliver,
    DeliveryError,
    NotifyAvailability,
    Publish,
    open_target,
)

log = logging.getLogger("isocenter.events")

#: How often the database is asked for what other processes wrote.
LOOK_SECONDS: Final = 1.0
#: What comes within this is looked at together.
_GATHER_SECONDS: Final = 0.05
#: A position that moved past events for others only is kept this often.
_SETTLE_SECONDS: Final = 10.0
#: Events of one study before it is another's turn; how far a lane got is kept after each turn.
_TURN_EVENTS: Final = 100
_TURN_SECONDS: Final = 1.0

#: How long all rests when the database fails: what cannot be noted would come again at once.
_REST_SECONDS: Final = 5.0

#: How often a consumer that cannot be used is tried again.
_REOPEN_SECONDS: Final = 60.0

#: Told of each attempt: the consumer's name, and ``delivered``, ``failed`` or ``given up``.
Told = Callable[[str, str], None]


def retry_in(
    consumer: Consumer, attempts: int, at: float, failing_since: float | None, now: float
) -> float | None:
    """Seconds until the next attempt, after one that failed; None: there is none.

    Args:
        attempts: before that one, of the same event.
        at: when the event happened.
        failing_since: since when nothing of its study has arrived; None: since that attempt.
    """
    backoff = Backoff(
        longest_seconds=consumer.longest_retry, give_up_after_seconds=consumer.give_up_after
    )
    if failing_since is None:
        return backoff.interval(attempts + 1)
    return backoff.next_interval(attempts + 1, now - max(at, failing_since))


class ConsumerDelivery:
    """Delivers to one consumer; `run` does it as long as the process is on duty.

    Args:
        told: hears what became of each attempt.
        notify_availability, publish: see `targets.open_target`.
        now: seconds since 1970.
    """

    def __init__(
        self,
        consumer: Consumer,
        outbox: Outbox,
        *,
        told: Told = lambda name, outcome: None,
        notify_availability: NotifyAvailability | None = None,
        publish: Publish | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        self.consumer = consumer
        self._outbox = outbox
        self._told = told
        self._notify_availability = notify_availability
        self._publish = publish
        self._now = now
        self._wanted = trio.Event()
        #: Studies that are worked on; those whose last attempt failed take half of the places.
        self._active: set[str] = set()
        self._failing: set[str] = set()
        #: Nothing arrived since something failed: one line in the log says it for all.
        self._is_away = False

    def wake(self) -> None:
        """There may be something new."""
        self._wanted.set()

    async def run(self) -> None:
        """Deliver until cancelled; how far it got is kept."""
        async with AsyncExitStack() as stack:
            deliver = await self._opened(stack)
            nursery = await stack.enter_async_context(trio.open_nursery())
            name, kinds = self.consumer.name, self.consumer.kinds
            position = kept = -1
            kept_at = trio.current_time()
            while True:
                self._wanted = trio.Event()
                try:
                    if position < 0:
                        position = kept = await self._outbox.position(name)
                    position = await self._outbox.route(name, kinds, position)
                    if position != kept and trio.current_time() - kept_at >= _SETTLE_SECONDS:
                        await self._outbox.settle(name, position)
                        kept, kept_at = position, trio.current_time()
                    await self._start_lanes(nursery, deliver)
                except StorageError as error:
                    log.error("events for %s have to wait: %s", name, error)
                    await trio.sleep(_REST_SECONDS)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._wanted.wait()
                await trio.sleep(_GATHER_SECONDS)

    async def _opened(self, stack: AsyncExitStack) -> Deliver:
        """What delivers; it was there when the server began, which may be long ago."""
        while True:
            try:
                return await stack.enter_async_context(
                    open_target(self.consumer, self._notify_availability, self._publish)
                )
            except ConsumerError as error:
                log.error("events for %s have to wait: %s", self.consumer.name, error)
                await trio.sleep(_REOPEN_SECONDS)

    async def _start_lanes(self, nursery: trio.Nursery, deliver: Deliver) -> None:
        # What fails often fails slowly: it gets half of the places, and others the rest.  Where
        # there is one place, others go first.
        half = self.consumer.concurrency // 2
        for failing in (True, False) if half else (False, True):
            places = self.consumer.concurrency - len(self._active)
            if failing:
                places = min(places, max(half, 1) - len(self._failing))
            if places <= 0:
                continue
            for lane in await self._outbox.lanes(
                self.consumer.name, places, failing=failing, not_for=self._active
            ):
                self._active.add(lane.study_instance_uid)
                if failing:
                    self._failing.add(lane.study_instance_uid)
                nursery.start_soon(self._work, lane, deliver)

    async def _work(self, lane: StudyLane, deliver: Deliver) -> None:
        try:
            await self._turn(lane, deliver)
        except StorageError as error:
            # What did arrive may arrive once more.
            log.error("what became of events for %s cannot be kept: %s", self.consumer.name, error)
            await trio.sleep(_REST_SECONDS)
        finally:
            self._active.discard(lane.study_instance_uid)
            self._failing.discard(lane.study_instance_uid)
            self.wake()

    async def _turn(self, lane: StudyLane, deliver: Deliver) -> None:
        """The next events of a lane; when cancelled, what was delivered is kept first."""
        consumer = self.consumer
        events = await self._outbox.waiting(consumer.name, consumer.kinds, lane, _TURN_EVENTS)
        until = trio.current_time() + _TURN_SECONDS
        from_event, delivered = lane.from_event, 0
        try:
            for event in events:
                attempts = 0 if delivered else lane.attempts
                try:
                    await deliver(event, attempts + 1)
                except Exception as error:  # one event must not end it all
                    fault = str(error)
                    if not isinstance(error, DeliveryError):
                        log.exception("event %d: a delivery failed", event.number)
                        fault = type(error).__name__
                    with trio.CancelScope(shield=True):
                        await self._failed(lane, event, fault, delivered)
                    return
                from_event, delivered = event.number + 1, delivered + 1
                self._is_away = False
                self._told(consumer.name, "delivered")
                if trio.current_time() >= until:
                    break
        except BaseException:  # cancelled, mostly
            if delivered:
                with trio.CancelScope(shield=True):
                    await self._outbox.advance(
                        consumer.name, consumer.kinds, lane, from_event, delivered
                    )
            raise
        await self._outbox.advance(consumer.name, consumer.kinds, lane, from_event, delivered)

    async def _failed(
        self, lane: StudyLane, event: StoredEvent, fault: str, delivered: int
    ) -> None:
        name = self.consumer.name
        attempts, failing_since = (0, None) if delivered else (lane.attempts, lane.failing_since)
        interval = retry_in(self.consumer, attempts, event.at, failing_since, self._now())
        await self._outbox.failed(name, lane, event, fault, interval, delivered)
        what = f"event {event.number} ({event.kind}) to {name}"
        if interval is None:
            self._told(name, "given up")
            log.error("%s was given up after %d attempts: %s", what, attempts + 1, fault)
        else:
            self._told(name, "failed")
            level = logging.DEBUG if self._is_away else logging.WARNING
            log.log(level, "%s waits %.0f s for its next attempt: %s", what, interval, fault)
            self._is_away = True
