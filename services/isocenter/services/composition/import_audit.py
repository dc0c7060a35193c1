"""Audit messages of an import (PS3.15 A.5.3.5)."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.file_import import ImportedFile
from isocenter.services.composition.audit import (
    PATIENT_ID,
    PATIENT_NAME,
    active_process_of,
    record_now,
)
from isocenter.services.security.audit.message_builder import instances_imported
from isocenter.services.security.audit.participants import Patient
from isocenter.services.settings.settings import Settings

log = logging.getLogger("isocenter.audit")

#: Instances after which messages are not put off any longer.
_MOST_INSTANCES: Final = 1_000


class ImportAudit:
    """Gathers what is imported; a context manager that has the rest recorded at its end.

    Args:
        person: who asked for it; empty: the user of this process.
        process_name: of this process.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Sequence[str],
        *,
        person: str = "",
        process_name: str = "isocenter import",
    ) -> None:
        self._settings = settings
        self._person = person
        self._here = active_process_of(settings, process_name)
        self._media = Path(os.path.commonpath([os.path.abspath(path) for path in paths]))
        self._studies: dict[tuple[str, str], tuple[Patient, Counter[str]]] = {}
        self._count = 0

    def add(self, file: ImportedFile) -> None:
        """One more file; what was not imported is passed over."""
        record = file.record
        if record is None or not self._settings.audit.storage:
            return
        patient = Patient(
            record.attributes.get(PATIENT_ID, ""), record.attributes.get(PATIENT_NAME, "")
        )
        key = record.study_instance_uid, patient.id
        _, sop_classes = self._studies.setdefault(key, (patient, Counter()))
        sop_classes[record.sop_class_uid] += 1
        self._count += 1
        if self._count >= _MOST_INSTANCES:
            self._record()

    def _record(self) -> None:
        messages = [
            instances_imported(self._here, self._media, study, sop_classes, patient, self._person)
            for (study, _), (patient, sop_classes) in self._studies.items()
        ]
        self._studies.clear()
        self._count = 0
        try:
            record_now(self._settings, self._here, messages)
        except (OSError, IsocenterError) as error:
            log.error("the import could not be recorded in the audit trail: %s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._record()
