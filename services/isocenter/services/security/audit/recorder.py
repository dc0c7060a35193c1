"""Audit recorder of a running server: from notices to messages of the trail.

What a message needs of patients is looked up in the index; messages of one kind that come in
numbers are gathered (`aggregation`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.archive.object_signing import ObjectSigned
from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.archive.signature_marks.verifier import SignaturesVerified
from isocenter.services.association.server import AssociationEndedByHand
from isocenter.services.concurrency import Broadcast
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
    PerformedStepChanged,
    PluginOperationEnded,
    PluginStarted,
    PrintJobChanged,
    ProcedureRecordRead,
    QueryAnswered,
    RefusalReason,
    RetrieveFailed,
    RulesChanged,
    ServerStarted,
    ServerStopped,
    SettingsChanged,
    TasksChanged,
    TransferStarted,
    WorkitemChanged,
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
from isocenter.services.security.audit.messages import AuditMessage, AuditSource
from isocenter.services.security.audit.order_messages import order_changed
from isocenter.services.security.audit.participants import ActiveProcess, Patient, host_of
from isocenter.services.security.audit.print_messages import print_job_changed
from isocenter.services.security.audit.step_messages import (
    step_changed,
    step_read,
    workitem_changed,
)
from isocenter.services.security.audit.syslog_delivery import FINISH_SECONDS, Delivery
from isocenter.services.security.audit.trail import Trail
from isocenter.services.security.audit.trail_reader import TrailRead
from isocenter.services.security.audit.trail_writer import TrailWriter
from isocenter.services.security.certificates.changes import CertificateChanged

log = logging.getLogger("isocenter.audit")

#: Retrievals whose patients are still to be looked up; beyond, they are told without.
MOST_LOOKUPS: Final = 1_024
LOOKUP_SECONDS: Final = 5.0
TICK_SECONDS: Final = 1.0

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


class AuditRecorder:
    """Makes the audit trail of one process.

    Attributes:
        writer: of the trail.
        record: takes a message for it.
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
        self.writer = TrailWriter(trail, here, source, written or Broadcast())
        self.record = self.writer.record
        self.deliveries = tuple(deliveries)
        self._here = here
        self._patients = patients
        self._received = ReceivedInstances(here, self.record)
        self._read = ReadInstances(self._look_up)
        self._alerts = RepeatedAlerts(self.record)
        self._lookups: deque[tuple[datetime, _OfStudies]] = deque()
        self._lookup_came = Broadcast()
        self._handlers = self._handlers_for(switches or AuditSelection())

    def _handlers_for(self, switches: AuditSelection) -> Mapping[type, Callable[[Any], None]]:
        handlers: dict[type, Callable[[Any], None]] = {
            ServerStarted: lambda _: self._activity(started=True),
            ServerStopped: lambda _: self._activity(started=False),
            AssociationEnded: self._association_ended,
            InstancesDeleted: self._deleted,
            PatientReconciled: self._reconciled,
            OrderChanged: lambda notice: self.record(order_changed(self._here, notice)),
            PerformedStepChanged: lambda notice: self.record(step_changed(self._here, notice)),
            WorkitemChanged: lambda notice: self.record(workitem_changed(self._here, notice)),
            ProcedureRecordRead: lambda notice: self.record(step_read(self._here, notice)),
            PrintJobChanged: lambda notice: self.record(print_job_changed(self._here, notice)),
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
                ObjectSigned: lambda notice: self.record(alerts.object_signed(self._here, notice)),
                SignaturesVerified: lambda notice: self.record(
                    alerts.signatures_verified(self._here, notice)
                ),
                FunctionUsed: lambda notice: self.record(alerts.function_used(self._here, notice)),
                TasksChanged: lambda notice: self.record(alerts.tasks_changed(self._here, notice)),
                NodesChanged: lambda notice: self.record(alerts.nodes_changed(self._here, notice)),
                RulesChanged: lambda notice: self.record(alerts.rules_changed(self._here, notice)),
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

    def _activity(self, *, started: bool) -> None:
        if not started:
            self._received.flush()
            self._read.flush()
            self._alerts.flush()
            self._network_entry(is_attached=False)
        self.record(builders.application_activity(self._here, started=started))
        if started:
            self._network_entry(is_attached=True)

    def _network_entry(self, *, is_attached: bool) -> None:
        if self._here.node:
            self.record(builders.network_entry(self._here, is_attached=is_attached))

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
            nursery.start_soon(self.writer.run)

    async def close(self) -> None:
        """Write what is still in memory."""
        self._read.flush()
        while self._lookups:
            await self._look_up_one()
        self._received.flush()
        self._alerts.flush()
        await self.writer.write()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            self._received.tick(trio.current_time())
            self._read.tick(trio.current_time())
            self._alerts.tick(trio.current_time())


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
