"""Export from the archive that the settings name, recorded in its audit trail."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.export.values import ExportedStudy, ExportRecorder
from isocenter.services.archive.ports import Index
from isocenter.services.composition.archive import open_archive_parts, recover_after_crash
from isocenter.services.composition.audit import active_process_of, patients_of, record_now
from isocenter.services.composition.deidentification import open_deidentification
from isocenter.services.composition.transcoding import pool_limits_of
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.security.audit.message_builder import instances_exported
from isocenter.services.security.audit.participants import Patient
from isocenter.services.settings.sections.monitoring import OnAuditFailure
from isocenter.services.settings.settings import Settings

log = logging.getLogger("isocenter.audit")


@asynccontextmanager
async def open_exporter(settings: Settings, process_name: str) -> AsyncIterator[Exporter]:
    """What exports; a server may be at work on the archive.

    Raises:
        StorageError: the data directory cannot be used.
    """
    if _is_owner(Path(settings.storage.data_dir)):
        await recover_after_crash(settings)
    async with (
        open_archive_parts(settings, lock=False, recover=False) as parts,
        CodecPool(pool_limits_of(settings)) as pool,
    ):
        archive = parts.archive
        archive.deidentification = open_deidentification(settings, parts.stores, pool)
        yield Exporter(
            archive, pool=pool, record=export_recorder(settings, archive.index, process_name)
        )


def _is_owner(data_dir: Path) -> bool:
    """Whether what is made there becomes the server's."""
    return not hasattr(os, "geteuid") or data_dir.stat().st_uid == os.geteuid()


def export_recorder(settings: Settings, index: Index, process_name: str) -> ExportRecorder:
    """Records in the trail of the archive, before what was exported is to be seen.

    Should that fail, and the settings want the server to stop for it, nothing is exported.
    """
    here = active_process_of(settings, process_name)
    patients = patients_of(index)

    async def record(studies: Sequence[ExportedStudy]) -> None:
        if not settings.audit.retrieve:
            return
        found = await patients([study.study_instance_uid for study in studies])
        messages = [
            instances_exported(here, study, found.get(study.study_instance_uid, Patient()))
            for study in studies
        ]
        try:
            await trio.to_thread.run_sync(record_now, settings, here, messages)
        except (OSError, IsocenterError) as error:
            if settings.audit.on_failure is OnAuditFailure.STOP:
                raise IsocenterError(
                    f"the audit trail cannot be written: {error}; nothing was exported"
                ) from error
            log.error("the audit trail cannot be written: %s", error)

    return record
