"""Events beside a server: studies declared complete, consumers served, incidents written, old
events forgotten."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from time import time
from typing import Final

import trio

from isocenter.services import notices
from isocenter.services.errors import StorageError
from isocenter.services.notices import (
    AccessDenied,
    AssociationRejected,
    CommitmentDone,
    ConnectionRefused,
    EventBacklogMeasured,
    EventDelivery,
    ForwardAttempted,
    InstancesSent,
    InstanceStored,
    Notice,
    Notices,
    PerformedStepChanged,
)
from isocenter.services.workflow.events.consumer import Consumer
from isocenter.services.workflow.events.delivery import ConsumerDelivery
from isocenter.services.workflow.events.event import (
    AssociationRefused,
    ForwardFailed,
    Incident,
    RetrieveFailed,
)
from isocenter.services.workflow.events.ports import OpenStudies, Outbox
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.events.targets import NotifyAvailability, Publish, check_target

log = logging.getLogger("isocenter.events")

#: How often open studies are looked at for what other processes changed.
LOOK_SECONDS: Final = 1.0
#: Incidents within this are told together, and so many different ones at the most: whoever is
#: refused may try as often as he likes.
_INCIDENTS_SECONDS: Final = 5.0
_MOST_INCIDENTS: Final = 20
#: The same when there were more: events are kept for days.
_FLOOD_SECONDS: Final = 60.0
#: How long open studies rest when the database fails.
_REST_SECONDS: Final = 5.0
#: How often numbers are told, and old events are looked for.
_FIGURES_SECONDS: Final = 5.0
_TRIM_SECONDS: Final = 60.0
#: How often studies that have gone are looked for: all studies have to be.
_FORGET_SECONDS: Final = 3_600.0

_OTHERS: Final = AssociationRefused(
    what="others",
    address="",
    calling_ae_title="",
    called_ae_title="",
    why="more than are told one by one",
    count=0,
)

#: Waits until this process is the one on duty, then does the work to its end.
OnDuty = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


def _host_of(address: str) -> str:
    """Each connection has a port of its own."""
    return address.rpartition(":")[0]


class EventService:
    """What one server does about events, in every process and in the one on duty.

    Args:
        on_duty: see `isocenter.services.system.exclusive_task`.
        notify_availability, publish: see `targets.open_target`.
        now: seconds since 1970.

    Raises:
        ConsumerError: a consumer cannot be used at all.
    """

    #: Kinds of notices that it listens for.
    hears = (
        InstanceStored,
        PerformedStepChanged,
        CommitmentDone,
        ConnectionRefused,
        AssociationRejected,
        AccessDenied,
        InstancesSent,
        notices.RetrieveFailed,
        ForwardAttempted,
    )

    def __init__(
        self,
        outbox: Outbox,
        studies: OpenStudies,
        *,
        rules: CompletionRules,
        consumers: Sequence[Consumer],
        keep_seconds: float,
        on_duty: OnDuty,
        notices: Notices,
        notify_availability: NotifyAvailability | None = None,
        publish: Publish | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        for consumer in consumers:
            check_target(consumer)
        self._outbox = outbox
        self._studies = studies
        self._rules = rules
        self._keep_seconds = keep_seconds
        self._on_duty = on_duty
        self._notices = notices
        self._now = now
        self._names = frozenset(consumer.name for consumer in consumers)
        self._deliveries = [
            ConsumerDelivery(
                consumer,
                outbox,
                told=self._publish_delivery,
                notify_availability=notify_availability,
                publish=publish,
                now=now,
            )
            for consumer in consumers
        ]
        self._incidents: Counter[Incident] = Counter()
        self._met_one = trio.Event()

    async def begin(self) -> None:
        """Consumers that are new get what happens from now on; before anything happens."""
        await self._outbox.begin(self._names)

    def on_notice(self, notice: Notice) -> None:
        """A listener for `Notices`."""
        match notice:
            case InstanceStored() | PerformedStepChanged() | CommitmentDone():
                self.wake()
            case ConnectionRefused():
                self._refuse("connection", notice.address, "", "", notice.detail)
            case AssociationRejected():
                caller = notice.caller
                self._refuse(
                    "association",
                    caller.address,
                    caller.calling_ae_title,
                    caller.called_ae_title,
                    notice.why,
                )
            case AccessDenied():
                caller = notice.caller
                self._refuse(
                    "operation",
                    caller.address,
                    caller.calling_ae_title,
                    caller.called_ae_title,
                    f"{notice.command}: {notice.why}",
                )
            case InstancesSent() if notice.command != "C-STORE" and notice.why:
                # What a rule sends on stands in its queue.
                self._retrieve_failed(
                    notice, tuple(notice.studies), notice.completed, notice.failed
                )
            case notices.RetrieveFailed():
                self._retrieve_failed(notice, notice.studies, 0, 0)
            case ForwardAttempted() if notice.outcome != "delivered":
                failed = ForwardFailed(
                    destination=notice.destination,
                    is_given_up=notice.outcome == "given_up",
                    count=0,
                )
                self._meet(failed, notice.objects)
            case _:
                pass

    def wake(self) -> None:
        """Something was written."""
        for delivery in self._deliveries:
            delivery.wake()

    def _refuse(self, what: str, address: str, calling: str, called: str, why: str) -> None:
        refused = AssociationRefused(
            what=what,
            address=_host_of(address),
            calling_ae_title=calling,
            called_ae_title=called,
            why=why,
            count=0,
        )
        self._meet(refused)

    def _retrieve_failed(
        self,
        notice: InstancesSent | notices.RetrieveFailed,
        studies: Sequence[str],
        completed: int,
        failed: int,
    ) -> None:
        self._meet(
            RetrieveFailed(
                study_instance_uid=studies[0] if len(studies) == 1 else "",
                command=notice.command,
                address=_host_of(notice.caller.address),
                calling_ae_title=notice.caller.calling_ae_title,
                destination=notice.destination,
                status="" if notice.status is None else f"{notice.status:04X}",
                completed=completed,
                failed=failed,
                why=notice.why,
                count=0,
            )
        )

    def _meet(self, incident: Incident, count: int = 1) -> None:
        if incident in self._incidents or len(self._incidents) < _MOST_INCIDENTS:
            self._incidents[incident] += count
        else:
            self._incidents[_OTHERS] += count
        self._met_one.set()

    async def run(self) -> None:
        """As long as the server runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_incidents)
            nursery.start_soon(self._on_duty, self._keep)

    async def _keep(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_studies)
            nursery.start_soon(self._publish_backlog)
            nursery.start_soon(self._trim)
            nursery.start_soon(self._forget_studies)
            for delivery in self._deliveries:
                nursery.start_soon(delivery.run)

    async def _write_incidents(self) -> None:
        while True:
            await self._met_one.wait()
            self._met_one = trio.Event()
            incidents, self._incidents = self._incidents, Counter()
            events = [replace(incident, count=count) for incident, count in incidents.items()]
            try:
                await self._outbox.write(events)
            except StorageError as error:
                log.error("%d incidents are not among the events: %s", len(events), error)
            else:
                self.wake()
            is_flood = len(events) > _MOST_INCIDENTS
            await trio.sleep(_FLOOD_SECONDS if is_flood else _INCIDENTS_SECONDS)

    async def _watch_studies(self) -> None:
        while True:
            wait = LOOK_SECONDS
            try:
                due_at = await self._studies.declare(self._rules)
            except StorageError as error:
                log.error("whether studies are complete cannot be told: %s", error)
                wait = _REST_SECONDS
            else:
                if due_at is not None:
                    wait = max(0.0, min(LOOK_SECONDS, due_at - self._now()))
            await trio.sleep(wait)

    async def _publish_backlog(self) -> None:
        while True:
            try:
                waiting = {
                    each.consumer.name: await self._outbox.backlog(
                        each.consumer.name, each.consumer.kinds
                    )
                    for each in self._deliveries
                }
                self._notices.publish(
                    EventBacklogMeasured(waiting=waiting, receiving=await self._studies.count())
                )
            except StorageError as error:
                log.error("how many events wait cannot be told: %s", error)
            await trio.sleep(_FIGURES_SECONDS)

    async def _trim(self) -> None:
        while True:
            try:
                await self._outbox.correct_future_times(self._names)
                # As long as there are any: each call is one short transaction.
                while await self._outbox.trim(self._names, self._keep_seconds):
                    pass
            except StorageError as error:
                log.error("old events stay: %s", error)
            await trio.sleep(_TRIM_SECONDS)

    async def _forget_studies(self) -> None:
        while True:
            try:
                while await self._studies.forget(self._keep_seconds):
                    pass
            except StorageError as error:
                log.error("studies that have gone stay in the list: %s", error)
            await trio.sleep(_FORGET_SECONDS)

    def _publish_delivery(self, consumer: str, outcome: str) -> None:
        self._notices.publish(EventDelivery(consumer=consumer, outcome=outcome))
