"""From settings to the audit trail of a server, or of a command."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.service import (
    CorrectionHappened,
    CorrectionRecorder,
)
from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.deletion.values import Recorder, TrashChanged
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.archive.locks.administration import ReleaseRecorder
from isocenter.services.archive.locks.lock import StudyLock
from isocenter.services.archive.ports import Index
from isocenter.services.archive.retention.holding import HoldRecorder
from isocenter.services.archive.tiers.administration import TierRecorder
from isocenter.services.concurrency import Broadcast
from isocenter.services.errors import text_of
from isocenter.services.net.tls.contexts import TlsFiles, client_context
from isocenter.services.notices import Notices
from isocenter.services.security.audit.alert_messages import (
    hold_changed,
    lock_released,
    restricted_function_used,
    study_placed,
)
from isocenter.services.security.audit.correction_messages import objects_corrected
from isocenter.services.security.audit.deletion_messages import objects_deleted
from isocenter.services.security.audit.messages import AuditMessage, AuditSource
from isocenter.services.security.audit.participants import ActiveProcess, Patient
from isocenter.services.security.audit.recorder import (
    AuditRecorder,
    AuditSelection,
    Patients,
    run_recorder,
)
from isocenter.services.security.audit.repository import Protocol, SyslogRepository
from isocenter.services.security.audit.syslog_delivery import Delivery, TlsContext
from isocenter.services.security.audit.trail import Trail, TrailError, read_key
from isocenter.services.security.audit.trail_removal import RemovalPlan
from isocenter.services.security.audit.trail_upkeep import Keeping, RecordRemoval
from isocenter.services.security.audit.trail_writer import entry_of, trail_of
from isocenter.services.settings.sections.monitoring import OnAuditFailure
from isocenter.services.settings.settings import Settings

log = logging.getLogger("isocenter.audit")

#: Below the data directory.
AUDIT_FOLDER: Final = "audit"

PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
_STUDY_INSTANCE_UID: Final = 0x0020000D
#: Studies in one question to the index.
_STUDIES_AT_ONCE: Final = 500


def audit_folder(settings: Settings) -> Path:
    """Where the trail of an archive lies."""
    if settings.audit.folder is not None:
        return settings.audit.folder
    return Path(settings.storage.data_dir) / AUDIT_FOLDER


def active_process_of(settings: Settings, process_name: str) -> ActiveProcess:
    """This process as a participant."""
    server = settings.server
    return ActiveProcess(
        ae_titles=(server.ae_title, *server.additional_ae_titles),
        process_name=process_name,
        node=settings.cluster.name if settings.is_shared else "",
    )


def open_trail(settings: Settings, here: ActiveProcess) -> tuple[Trail, AuditSource]:
    """The trail of an archive, and in whose name messages go there; nothing is written yet.

    Raises:
        TrailError: the key file cannot be used.
    """
    audit = settings.audit
    source = AuditSource(
        source_id=audit.source_id or settings.server.ae_title, site_id=audit.site_id
    )
    trail = trail_of(
        audit_folder(settings), here, source, rotate_bytes=audit.rotate, key=key_of(settings)
    )
    return trail, source


def key_of(settings: Settings) -> bytes | None:
    """The key of the trail; None: it has none.

    Raises:
        TrailError: the key file cannot be used.
    """
    file = settings.audit.hmac_key_file
    return None if file is None else read_key(file)


def keeping_of(settings: Settings) -> Keeping:
    """How the trail is kept.

    Raises:
        TrailError: the key file cannot be used.
    """
    audit = settings.audit
    return Keeping(
        compress=audit.compress,
        keep_days=audit.keep_days,
        key=key_of(settings),
        collectors=audit.collectors,
    )


def removal_recorder(settings: Settings, process_name: str) -> RecordRemoval:
    """Has it recorded that the oldest files of the trail are removed."""
    here = active_process_of(settings, process_name)

    def record(plan: RemovalPlan) -> None:
        last = plan.removal.last
        text = f"the oldest records of the trail were removed: {plan.removal}, digest {last.digest}"
        record_now(settings, here, [restricted_function_used(here, audit_folder(settings), text)])

    return record


def is_trail_enabled(settings: Settings) -> bool:
    """Whether there is to be a trail."""
    return settings.audit.enabled and not settings.storage.is_in_memory


def record_now(settings: Settings, here: ActiveProcess, messages: Sequence[AuditMessage]) -> None:
    """Have a command's messages recorded, before it goes on.

    Raises:
        TrailError, OSError: nothing was recorded.
    """
    if messages and is_trail_enabled(settings):
        trail, source = open_trail(settings, here)
        trail.append([entry_of(message, source, here.process_id) for message in messages])


@asynccontextmanager
async def open_audit(
    settings: Settings, archive: Archive, notices: Notices, client_tls: TlsContext | None
) -> AsyncIterator[AuditRecorder | None]:
    """Record what *notices* tell while the context lasts, and send it to the collectors.

    None: the settings want no trail.

    Args:
        client_tls: with our own certificate, for collectors that the settings name none for;
            None: TLS is off.

    Raises:
        TrailError: the key is missing or wrong, or TLS for a collector; with ``stop`` on
            failure also that the trail cannot be written.
        TlsFileError: a certificate for collectors cannot be used.
    """
    if not is_trail_enabled(settings):
        yield None
        return
    audit = settings.audit
    here = active_process_of(settings, "isocenter serve")
    trail, source = open_trail(settings, here)
    try:
        await trio.to_thread.run_sync(trail.prepare)
    except OSError as error:
        if audit.on_failure is OnAuditFailure.STOP:
            raise TrailError(
                f"the audit trail in {trail.folder} cannot be written: {text_of(error)}; make it "
                "writable and make room, or set audit.on_failure to continue"
            ) from error
    written = Broadcast()
    deliveries = [
        Delivery(
            collector,
            trail.folder,
            written=written,
            machine=here.machine,
            tls=_tls_for(collector, settings, client_tls),
        )
        for collector in audit.collectors
    ]
    auditor = AuditRecorder(
        trail,
        here,
        source,
        patients=patients_of(archive.index),
        switches=AuditSelection(
            storage=audit.storage,
            query=audit.query,
            retrieve=audit.retrieve,
            authentication=audit.authentication,
            security_alerts=audit.security_alerts,
        ),
        written=written,
        deliveries=deliveries,
    )
    notices.subscribe(auditor.on_notice, auditor.hears)
    async with run_recorder(auditor):
        yield auditor


async def stop_when_failed(
    auditor: AuditRecorder, settings: Settings, stop: Callable[[], None]
) -> None:
    """Call *stop* when the trail cannot be written, if the settings want that."""
    if settings.audit.on_failure is OnAuditFailure.STOP:
        await auditor.writer.failed.wait()
        stop()


def patients_of(index: Index) -> Patients:
    """Looks up whose studies are."""

    async def patients(studies: Sequence[str]) -> Mapping[str, Patient]:
        found: dict[str, Patient] = {}
        for start in range(0, len(studies), _STUDIES_AT_ONCE):
            some = tuple(studies[start : start + _STUDIES_AT_ONCE])
            query = Query(
                level=Level.STUDY,
                criteria=(Criterion(_STUDY_INSTANCE_UID, ValueList(some)),),
                return_tags=(PATIENT_ID, PATIENT_NAME),
            )
            async with index.find(query) as blocks:
                async for block in blocks:
                    for match in block:
                        found[match[_STUDY_INSTANCE_UID]] = Patient(
                            match.get(PATIENT_ID, ""), match.get(PATIENT_NAME, "")
                        )
        return found

    return patients


def _tls_for(
    collector: SyslogRepository, settings: Settings, client_tls: TlsContext | None
) -> TlsContext | None:
    if collector.protocol is not Protocol.TLS:
        return None
    audit = settings.audit
    if audit.certificate is None and audit.ca is None:
        if client_tls is None:
            raise TrailError(
                f"the collector {collector} wants TLS, which is switched off here; set audit.ca, "
                "audit.certificate and audit.key"
            )
        return client_tls
    files = TlsFiles(certificate=audit.certificate, key=audit.key, ca=audit.ca)

    def context() -> ssl.SSLContext:
        return client_context(files, settings.tls.profile)

    context()  # a fault in the files is told at the start
    return context


def correction_recorder(settings: Settings, index: Index, process_name: str) -> CorrectionRecorder:
    """Records in the trail of the archive who has what corrected, and why."""
    here = active_process_of(settings, process_name)

    async def record(happened: CorrectionHappened) -> None:
        patients = await patients_of(index)(list(happened.studies))
        messages = objects_corrected(here, happened, patients)
        try:
            await trio.to_thread.run_sync(record_now, settings, here, messages)
        except (OSError, IsocenterError) as error:
            if settings.audit.on_failure is OnAuditFailure.STOP:
                raise IsocenterError(
                    f"the audit trail cannot be written: {error}; correction "
                    f"{happened.correction.number} stands all the same"
                ) from error
            log.error("the audit trail cannot be written: %s", error)

    return record


def hold_recorder(settings: Settings, index: Index, process_name: str) -> HoldRecorder:
    """Records in the trail of the archive that a study is held, or held no more."""
    here = active_process_of(settings, process_name)

    async def record(hold: StudyHold, actor: str, is_held: bool) -> bool:
        study = hold.study_instance_uid
        patients = await patients_of(index)([study])
        message = hold_changed(
            here, study, hold.reason, patients.get(study, Patient()), actor, is_held=is_held
        )
        try:
            await trio.to_thread.run_sync(record_now, settings, here, [message])
        except (OSError, IsocenterError) as error:
            log.error("the audit trail cannot be written: %s", error)
            return settings.audit.on_failure is not OnAuditFailure.STOP
        return True

    return record


def lock_recorder(settings: Settings, index: Index, process_name: str) -> ReleaseRecorder:
    """Records in the trail of the archive that somebody released a lock of somebody else."""
    here = active_process_of(settings, process_name)

    async def record(lock: StudyLock, actor: str, reason: str) -> None:
        study = lock.study_instance_uid
        patients = await patients_of(index)([study])
        message = lock_released(here, lock, actor, reason, patients.get(study, Patient()))
        try:
            await trio.to_thread.run_sync(record_now, settings, here, [message])
        except (OSError, IsocenterError) as error:
            log.error("the audit trail cannot be written: %s", error)

    return record


def tier_recorder(settings: Settings, index: Index, process_name: str) -> TierRecorder:
    """Records in the trail of the archive in which tier somebody wants a study."""
    here = active_process_of(settings, process_name)

    async def record(study: str, actor: str, what: str) -> None:
        patients = await patients_of(index)([study])
        message = study_placed(here, study, what, patients.get(study, Patient()), actor)
        try:
            await trio.to_thread.run_sync(record_now, settings, here, [message])
        except (OSError, IsocenterError) as error:
            log.error("the audit trail cannot be written: %s", error)

    return record


def deletion_recorder(settings: Settings, process_name: str) -> Recorder:
    """Records in the trail of the archive, before anything goes on.

    Should that fail, and the settings want the server to stop for it, what happened is told of
    again later; otherwise it stands in the log alone.
    """
    here = active_process_of(settings, process_name)

    async def record(happened: Sequence[TrashChanged]) -> None:
        messages = [objects_deleted(here, one) for one in happened]
        try:
            await trio.to_thread.run_sync(record_now, settings, here, messages)
        except (OSError, IsocenterError) as error:
            if settings.audit.on_failure is OnAuditFailure.STOP:
                raise IsocenterError(
                    f"the audit trail cannot be written: {error}; what was deleted, restored or "
                    "purged is brought to its end when it can"
                ) from error
            log.error("the audit trail cannot be written: %s", error)

    return record
