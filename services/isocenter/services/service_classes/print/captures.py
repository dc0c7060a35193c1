"""Secondary Captures of films, stored into the archive (PS3.3 A.8.1)."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.file_import import import_directory
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, SingleValue
from isocenter.services.archive.selection import matches_of
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.objects import Identity, write_picture
from isocenter.services.dicom.creation.raster_pictures import read_raster
from isocenter.services.service_classes.print.job import ComposedFilm, PrintJob
from isocenter.services.service_classes.print.spooler import OutputError

#: Of a study that is known: whose it is, and which.
_STUDY: Final = tuple(
    BY_KEYWORD[keyword].tag
    for keyword in (
        "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName",
        "StudyDescription",
    )
)  # fmt: skip
_STUDY_INSTANCE_UID: Final = BY_KEYWORD["StudyInstanceUID"].tag


class ArchiveCaptures:
    """A Secondary Capture of each film, in the archive.

    Films of a study that the archive has become a series of it; of others a printer is not told
    whose they are, and each job is a study without a patient.

    Args:
        source: AE title that the objects come from.
    """

    def __init__(self, archive: Archive, source: str) -> None:
        self._archive = archive
        self._source = source

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        given = await self._study(job.study_instance_uid) if job.study_instance_uid else None
        with tempfile.TemporaryDirectory(prefix="isocenter-films-") as folder:
            try:
                await trio.to_thread.run_sync(
                    partial(_write, Path(folder), job, films, given or {}, bool(given))
                )
            except (SourceError, DataSetError, OSError) as error:
                raise OutputError(f"the films cannot be written: {error}") from error
            # What is there already, from an attempt that was interrupted, does no harm.
            report = await import_directory(self._archive, [folder], source_ae_title=self._source)
        if report.imported + report.already_there + report.kept_other.count != len(films):
            fault = report.stopped or "; ".join(reason for _, reason in report.failed.named)
            raise OutputError(f"the archive does not take the films: {fault}")

    async def _study(self, study: str) -> Mapping[str, str] | None:
        """Attributes of a study by keyword; None: the archive does not have it."""
        query = Query(
            level=Level.STUDY,
            criteria=(Criterion(_STUDY_INSTANCE_UID, SingleValue(study)),),
            return_tags=_STUDY,
        )
        found = await matches_of(self._archive.index, query, Page(limit=1))
        if not found:
            return None
        by_tag = {each.tag: keyword for keyword, each in BY_KEYWORD.items()}
        given = {by_tag[tag]: found[0].get(tag, "") for tag in _STUDY}
        if not given["IssuerOfPatientID"]:
            del given["IssuerOfPatientID"]
        return given


def _write(
    folder: Path,
    job: PrintJob,
    films: Sequence[ComposedFilm],
    given: Mapping[str, str],
    is_known: bool,
) -> None:
    study = job.study_instance_uid if is_known else _uid(job, "study")
    attributes = {
        "SeriesDescription": "Printed films",
        "SeriesNumber": "",
        **({} if is_known else {"PatientName": "", "StudyDescription": "Printed films"}),
        **given,
    }
    for number, film in enumerate(films, 1):
        identity = Identity(
            given=attributes,
            keys=(
                ("SOPInstanceUID", _uid(job, str(number))),
                ("ImageType", "DERIVED\\SECONDARY"),
                ("SecondaryCaptureDeviceManufacturer", "Isocenter"),
                ("StudyInstanceUID", study),
            ),
            at=datetime.fromtimestamp(job.created_at, UTC).astimezone(),
            study_instance_uid=study,
            series_instance_uid=_uid(job, "series"),
            patient_id="",
        )
        with (folder / f"{number}.dcm").open("wb") as file:
            write_picture(read_raster(film.png), identity, file, number=number)


def _uid(job: PrintJob, part: str) -> str:
    """The same for each attempt (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{job.job_uid} {part}').int}"
