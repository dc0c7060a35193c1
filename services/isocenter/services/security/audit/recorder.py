"""Audit recorder of a running server: notices in, records written and sent.

`AuditRecorder.on_notice` only puts messages into a queue in memory; one task writes what has come
together, with one sync for all of it.  The queue has a bound.  When it is full, the listener writes
itself: the server is then as slow as its disk, and nothing is lost.  When the trail cannot be
written at all, that is said once in the log and, by setting, the server stops or goes on; going on,
the messages wait up to the bound, and later ones are counted.  As soon as writing works again the
trail says since when it did not, and how many messages are missing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.association.server import AssociationEndedByHand
from isocenter.services.concurrency import Broadcast
from isocenter.services.errors import text_of
from isocenter.services.notices import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    AssociationRevoked,
    ConfigurationReloaded,
    ConnectionRefused,
    FunctionUsed,
    InstancesCompressed,
    InstancesMarked,
    InstancesRead,
    InstancesSent,
    InstanceStored,
    NodesChanged,
    Notice,
    OrderChanged,
    PluginOperationEnded,
    PluginStarted,
    QueryAnswered,
    RefusalReason,
    RetrieveFailed,
    ServerStarted,
    ServerStopped,
    SettingsChanged,
    TransferStarted,
)
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.access.sessions import SignedIn, SignedOut
from isocenter.services.security.access.share_links import ShareLinkChanged
from isocenter.services.security.access.token_changes import TokenChanged
from isocenter.services.security.audit import alert_messages as alerts
from isocenter.services.security.audit import message_builder as builders
from isocenter.services.security.audit.aggregation import (
    ReadGroup,
    ReadInstances,
    ReceivedInstances,
    RepeatedAlerts,
)
from isocenter.services.security.audit.hash_chain import Entry
from isocenter.services.security.audit.messages import AuditMessage, AuditSource, timestamp, to_xml
from isocenter.services.security.audit.order_messages import order_changed
from isocenter.services.security.audit.participants import ActiveProcess, Patient, host_of
from isocenter.services.security.audit.syslog_delivery import FINISH_SECONDS, Delivery
from isocenter.services.security.audit.trail import Trail
from isocenter.services.security.audit.trail_reader import TrailRead
from isocenter.services.security.certificates.changes import CertificateChanged

log = logging.getLogger("isocenter.audit")

#: Messages in memory; each some kilobytes, a long query a hundred.
MOST_WAITING: Final = 4_096
#: Retrievals whose patients are still to be looked up; beyond, they are told without.
MOST_LOOKUPS: Final = 1_024
#: What comes within so long shares its syncs.
LINGER_SECONDS: Final = 0.2
LOOKUP_SECONDS: Final = 5.0
TICK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
#: A fault that stays is told again after so long.
AGAIN_AFTER_SECONDS: Final = 300.0

#: Rejections that are about who the peer is: no reason given, calling, and called AE title
#: (PS3.8 Table 9-21, source 1, result 1).
_IDENTITY_REASONS: Final = frozenset({1, 3, 7})
_REFUSALS: Final = frozenset(
    {RefusalReason.TLS_HANDSHAKE, RefusalReason.WRONG_PROTOCOL, RefusalReason.ADDRESS}
)

#: What is told for each study, with its patient.
_OfStudies = (
    TransferStarted
    | InstancesSent
    | RetrieveFailed
    | PluginOperationEnded
    | InstancesCompressed
    | InstancesMarked
    | ReadGroup
)
#: Patients by Study Instance UID, of those that are known.
Patients = Callable[[Sequence[str]], Awaitable[Mapping[str, Patient]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSelection:
    """Which events are recorded, beside start, stop, and what happens to the trail."""

    storage: bool = True
    query: bool = True
    retrieve: bool = True
    authentication: bool = True
    security_alerts: bool = True


@dataclass(slots=True)
class AuditStatistics:
    """Messages.

    Attributes:
        recorded: durable in the trail.
        lost: there was no room while the trail could not be written.
    """

    recorded: int = 0
    lost: int = 0


def entry_of(message: AuditMessage, source: AuditSource, process: int) -> Entry:
    """What the trail keeps of a message."""
    return Entry(
        time=timestamp(message.time),
        event=message.event.value.meaning,
        type=message.type.value.meaning if message.type else "",
        outcome=message.outcome.value,
        ae_titles=tuple(title.encode("ascii", "replace").decode() for title in message.ae_titles()),
        process=process,
        message=to_xml(message, source),
    )


def trail_of(
    folder: Path, here: ActiveProcess, source: AuditSource, *, rotate_bytes: int, key: bytes | None
) -> Trail:
    """The trail in *folder*, which tells what is wrong with it in the name of this process."""

    def note(text: str) -> Entry:
        message = alerts.recording_resumed(here, folder, text)
        return entry_of(message, source, here.process_id)

    return Trail(folder, rotate_bytes=rotate_bytes, note=note, key=key)


class AuditRecorder:
    """Makes the audit trail of one process.

    Attributes:
        written: sent whenever the trail has grown.
        failed: set when the trail cannot be written for the first time.
        statistics: what was recorded.
        deliveries: to collectors, each with statistics of its own.
    """

    def __init__(
        self,
        trail: Trail,
        here: ActiveProcess,
        source: AuditSource,
        *,
        patients: Patients,
        switches: AuditSelection | None = None,
        written: Broadcast | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> None:
        self.statistics = AuditStatistics()
        self.failed = trio.Event()
        self.written = written or Broadcast()
        self.deliveries = tuple(deliveries)
        self._trail = trail
        self._here = here
        self._source = source
        self._patients = patients
        self._received = ReceivedInstances(here, self.record)
        self._read = ReadInstances(self._look_up)
        self._alerts = RepeatedAlerts(self.record)
        self._lookups: deque[tuple[datetime, _OfStudies]] = deque()
        self._came = Broadcast()
        self._lookup_came = Broadcast()
        self._writing = threading.Lock()
        self._queue: deque[AuditMessage] = deque()
        #: Taken from the queue, and not written yet.
        self._taken: list[Entry] = []
        self._failing_since: datetime | None = None
        self._failure = ""
        self._told_at: float | None = None
        self._lost_now = 0
        self._handlers = self._handlers_for(switches or AuditSelection())

    def _handlers_for(self, switches: AuditSelection) -> Mapping[type, Callable[[Any], None]]:
        handlers: dict[type, Callable[[Any], None]] = {
            ServerStarted: lambda _: self._activity(started=True),
            ServerStopped: lambda _: self._activity(started=False),
            AssociationEnded: self._association_ended,
            InstancesDeleted: self._deleted,
            PatientReconciled: self._reconciled,
            InstancesCompressed: self._compressed,
            InstancesMarked: self._look_up,
            PluginStarted: lambda notice: self.record(alerts.plugin_started(self._here, notice)),
            PluginOperationEnded: self._look_up,
        }
        if switches.storage:
            handlers[InstanceStored] = self._instance_stored
        if switches.query:
            handlers[QueryAnswered] = lambda notice: self.record(builders.query(self._here, notice))
        if switches.retrieve:
            handlers |= dict.fromkeys(
                (TransferStarted, InstancesSent, RetrieveFailed), self._look_up
            )
            handlers[InstancesRead] = lambda notice: self._read.add(notice, trio.current_time())
        if switches.authentication:
            handlers[AssociationEstablished] = self._authenticated
            handlers |= dict.fromkeys((SignedIn, SignedOut), self._signed)
        if switches.security_alerts:
            handlers |= {
                AssociationRejected: self._rejected,
                AssociationRevoked: self._revoked,
                AssociationEndedByHand: lambda notice: self.record(
                    alerts.association_ended_by_hand(self._here, notice)
                ),
                ConnectionRefused: self._refused,
                AccessDenied: self._denied,
                SignInFailed: self._sign_in_failed,
                PolicyChanged: self._policy_changed,
                CertificateChanged: self._policy_changed,
                ShareLinkChanged: self._link_changed,
                TokenChanged: lambda notice: self.record(
                    alerts.token_changed(
                        self._here, notice.token, is_new=notice.is_new, by=notice.caller
                    )
                ),
                TrailRead: self._trail_read,
                ConfigurationReloaded: self._reloaded,
                SettingsChanged: self._settings_changed,
                FunctionUsed: lambda notice: self.record(alerts.function_used(self._here, notice)),
                NodesChanged: lambda notice: self.record(alerts.nodes_changed(self._here, notice)),
                OrderChanged: self._order_changed,
            }
        return handlers

    # What happens.

    @property
    def hears(self) -> Iterable[type]:
        """Kinds of notices that it listens for."""
        return self._handlers

    def on_notice(self, notice: Notice) -> None:
        """A listener of `Notices`."""
        handler = self._handlers.get(type(notice))
        if handler is not None:
            handler(notice)

    def record(self, message: AuditMessage) -> None:
        """Have *message* recorded."""
        if len(self._queue) + len(self._taken) >= MOST_WAITING:
            if self._failing_since is None:
                self._attempt()
                self._after_attempt()
            if self._failing_since is not None:
                self._lost_now += 1
                self.statistics.lost += 1
                return
        self._queue.append(message)
        self._came.send()

    def _activity(self, *, started: bool) -> None:
        if not started:
            self._received.flush()
            self._read.flush()
            self._alerts.flush()
        self.record(builders.application_activity(self._here, started=started))

    def _instance_stored(self, notice: InstanceStored) -> None:
        self._received.add(notice, trio.current_time())

    def _association_ended(self, notice: AssociationEnded) -> None:
        self._received.end(notice.caller.association)
        if notice.caller.user and AssociationEstablished in self._handlers:
            self.record(builders.user_authenticated(self._here, notice))

    def _authenticated(self, notice: AssociationEstablished) -> None:
        if notice.caller.user:
            self.record(builders.user_authenticated(self._here, notice))

    def _rejected(self, notice: AssociationRejected) -> None:
        if (notice.result, notice.source) == (1, 1) and notice.reason in _IDENTITY_REASONS:
            message = alerts.association_rejected(self._here, notice)
            title = notice.caller.calling_ae_title
            self._alert(message, f"{title} rejected {notice.reason}", notice.caller.address)

    def _revoked(self, notice: AssociationRevoked) -> None:
        self.record(alerts.association_revoked(self._here, notice))

    def _refused(self, notice: ConnectionRefused) -> None:
        if notice.refusal in _REFUSALS:
            message = alerts.connection_refused(self._here, notice)
            self._alert(message, notice.refusal.value, notice.address)

    def _denied(self, notice: AccessDenied) -> None:
        message = alerts.access_denied(self._here, notice)
        title = notice.caller.calling_ae_title
        self._alert(message, f"{title} denied {notice.command}", notice.caller.address)

    def _signed(self, notice: SignedIn | SignedOut) -> None:
        self.record(builders.user_authenticated(self._here, notice))

    def _sign_in_failed(self, notice: SignInFailed) -> None:
        message = alerts.sign_in_failed(self._here, notice)
        self._alert(message, f"{notice.kind} refused", notice.caller.address)

    def _trail_read(self, notice: TrailRead) -> None:
        self.record(builders.audit_trail_read(self._here, notice.trail, notice.caller))

    def _link_changed(self, notice: ShareLinkChanged) -> None:
        self.record(
            alerts.link_changed(self._here, notice.link, is_new=notice.is_new, caller=notice.caller)
        )

    def _policy_changed(self, notice: PolicyChanged | CertificateChanged) -> None:
        self.record(alerts.policy_changed(self._here, notice))

    def _order_changed(self, notice: OrderChanged) -> None:
        self.record(order_changed(self._here, notice))

    def _settings_changed(self, notice: SettingsChanged) -> None:
        self.record(alerts.settings_changed(self._here, notice))

    def _alert(self, message: AuditMessage, kind: str, address: str) -> None:
        self._alerts.add(message, kind, host_of(address), trio.current_time())

    def _deleted(self, notice: InstancesDeleted) -> None:
        self.record(builders.instances_deleted(self._here, notice))

    def _reconciled(self, notice: PatientReconciled) -> None:
        self.record(builders.patient_reconciled(self._here, notice))

    def _compressed(self, notice: InstancesCompressed) -> None:
        if notice.outcome == "compressed":
            self._look_up(notice)

    def _reloaded(self, notice: ConfigurationReloaded) -> None:
        self.record(alerts.configuration_reloaded(self._here, notice))

    # Patients of what is sent.

    def _look_up(self, notice: _OfStudies) -> None:
        now = datetime.now(UTC)
        if len(self._lookups) >= MOST_LOOKUPS:
            self._record_transfer(now, notice, {})
            return
        self._lookups.append((now, notice))
        self._lookup_came.send()

    async def _look_up_all(self) -> None:
        while True:
            while self._lookups:
                await self._look_up_one()
            await self._lookup_came.wait()

    async def _look_up_one(self) -> None:
        time, notice = self._lookups[0]
        patients: Mapping[str, Patient] = {}
        try:
            with trio.move_on_after(LOOKUP_SECONDS):
                patients = await self._patients(list(notice.studies))
        except IsocenterError as error:
            log.warning("audit: whose studies were sent cannot be looked up: %s", error)
        self._lookups.popleft()
        self._record_transfer(time, notice, patients)

    def _record_transfer(
        self,
        time: datetime,
        notice: _OfStudies,
        patients: Mapping[str, Patient],
    ) -> None:
        may_have_none = isinstance(notice, RetrieveFailed | PluginOperationEnded)
        studies = notice.studies or ([""] if may_have_none else [])
        for study in studies:
            patient = patients.get(study, Patient())
            if isinstance(notice, TransferStarted):
                messages = [builders.begin_transferring(self._here, notice, study, patient)]
            elif isinstance(notice, ReadGroup):
                messages = [notice.message(self._here, patient)]
            elif isinstance(notice, InstancesCompressed):
                messages = [builders.instances_compressed(self._here, notice, patient)]
            elif isinstance(notice, InstancesMarked):
                messages = [builders.instances_marked(self._here, notice, patient)]
            elif isinstance(notice, PluginOperationEnded):
                messages = [builders.plugin_operation(self._here, notice, study, patient)]
            elif isinstance(notice, RetrieveFailed):
                messages = [builders.retrieve_failed(self._here, notice, study, patient)]
            else:
                messages = [
                    builders.instances_sent(
                        self._here, notice, study, count, patient, failed=tally is notice.unsent
                    )
                    for tally in (notice.sent, notice.unsent)
                    if (count := tally.get(study, 0))
                ]
            for message in messages:
                self.record(replace(message, time=time))

    # Writing.

    async def run(self) -> None:
        """Write and send until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._look_up_all)
            while True:
                while not self._queue and self._failing_since is None:
                    await self._came.wait()
                await trio.sleep(LINGER_SECONDS)
                await self._write()
                if self._failing_since is not None:
                    await trio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Write what is still in memory."""
        self._read.flush()
        while self._lookups:
            await self._look_up_one()
        self._received.flush()
        self._alerts.flush()
        await self._write()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            self._received.tick(trio.current_time())
            self._read.tick(trio.current_time())
            self._alerts.tick(trio.current_time())

    async def _write(self) -> None:
        # Whoever is cancelled here must not leave a thread behind that still writes.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._attempt)
        self._after_attempt()

    def _attempt(self) -> None:
        """In any thread: write what is in the queue; what cannot be written stays."""
        with self._writing:
            while self._queue:
                message = self._queue.popleft()
                self._taken.append(entry_of(message, self._source, self._here.process_id))
            entries, lost = self._taken, self._lost_now
            if self._failing_since is not None:
                entries = [*entries, self._outage(lost)]
            if not entries:
                return
            try:
                self._trail.append(entries)
            except (OSError, IsocenterError) as error:
                self._failing_since = self._failing_since or datetime.now(UTC)
                self._failure = text_of(error)
                return
            self.statistics.recorded += len(entries)
            self._taken = []
            self._failing_since = None
            self._lost_now -= lost

    def _outage(self, lost: int) -> Entry:
        assert self._failing_since is not None
        text = (
            f"the trail could not be written since {timestamp(self._failing_since)}: "
            f"{self._failure}; {lost} messages are missing"
        )
        message = alerts.recording_resumed(self._here, self._trail.folder, text)
        return entry_of(message, self._source, self._here.process_id)

    def _after_attempt(self) -> None:
        """In the event loop: tell whom it concerns."""
        if self._failing_since is None:
            if self._told_at is not None:
                self._told_at = None
                log.warning("the audit trail is written again")
            self.written.send()
            return
        now = trio.current_time()
        if self._told_at is None or now - self._told_at >= AGAIN_AFTER_SECONDS:
            self._told_at = now
            log.error(
                "the audit trail in %s cannot be written: %s; up to %d messages wait in memory",
                self._trail.folder,
                self._failure,
                MOST_WAITING,
            )
        self.failed.set()


@asynccontextmanager
async def run_recorder(auditor: AuditRecorder) -> AsyncIterator[None]:
    """Write and send while the context lasts; at its end what is in memory is written, and
    collectors that are there get the rest."""
    async with trio.open_nursery() as sending:
        for delivery in auditor.deliveries:
            sending.start_soon(delivery.run)
        try:
            async with trio.open_nursery() as writing:
                writing.start_soon(auditor.run)
                yield
                writing.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await auditor.close()
        sending.cancel_scope.deadline = trio.current_time() + FINISH_SECONDS
        for delivery in auditor.deliveries:
            delivery.finish()
