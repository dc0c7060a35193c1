"""An archive that speaks to the example's AI service, both in the test's process."""

from __future__ import annotations

import io
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import trio
import trio.testing
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.services import composition
from isocenter.services.archive.archive import Archive
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.workflow import Workflow
from isocenter.services.integration.ai.analysis_work import analysis_job
from isocenter.services.integration.ai.requests import AnalysisRequest, ResultRecord
from isocenter.services.notices import Notice, Notices
from isocenter.services.settings.ai_services import AiServiceKind, parse_service
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobRequest

sys.path.insert(0, str(Path(__file__).parents[4] / "examples" / "ai"))

import threshold_service

STUDY, SERIES = "1.2.826.0.1.3680043.10.1", "1.2.826.0.1.3680043.10.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENCE = 60.0
ROWS = 16


def ct_image(number: int, *, study: str = STUDY, series: str = SERIES, **changes: Any) -> bytes:
    """A slice with a dense square of 4 by 4 voxels of 1000 HU, each of 1 mm³, as a file."""
    image = pydicom.Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CT
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{series}.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.FrameOfReferenceUID = f"{study}.9"
    image.PatientID, image.PatientName = "P1", "Bäcker^Anna"
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientBirthDate, image.PatientSex = "19700101", "F"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240229"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "120000"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "A1", ""
    image.Modality, image.Manufacturer = "CT", "Nobody"
    image.SeriesNumber, image.InstanceNumber = 1, number
    image.PatientPosition, image.PositionReferenceIndicator = "HFS", ""
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [0, 0, number]
    image.PixelSpacing, image.SliceThickness = [1, 1], 1
    image.Rows = image.Columns = ROWS
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation, image.RescaleType = 0, "HU"
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.KVP, image.AcquisitionNumber = 120, 1
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    pixels = np.full((ROWS, ROWS), 1024, np.uint16)
    pixels[4:8, 4:8] = 2024
    image.PixelData = pixels.tobytes()
    return file_of(image)


def file_of(data_set: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


async def keep(archive: Archive, file: bytes) -> None:
    """Store a Part 10 file."""
    read = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True)
    meta = 144 + int.from_bytes(file[140:144], "little")
    async with await archive.receive(
        sop_class_uid=read.SOPClassUID,
        sop_instance_uid=read.SOPInstanceUID,
        transfer_syntax_uid=read.file_meta.TransferSyntaxUID,
        source_ae_title="SCANNER",
    ) as ingest:
        await ingest.write([file[meta:]])
        await ingest.commit()


@contextmanager
def threshold_serving(
    key: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[threshold_service.Server]:
    """The service of the example, in threads of its own."""
    server = threshold_service.Server(threshold_service.Service(key))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class World:
    """An archive that has series analysed."""

    settings: Settings
    parts: ArchiveParts
    workflow: Workflow
    desk: JobDesk
    heard: list[Notice] = field(default_factory=list)

    @property
    def archive(self) -> Archive:
        return self.parts.archive

    async def keep_series(self, slices: int = 3, **changes: Any) -> None:
        for number in range(1, slices + 1):
            await keep(self.archive, ct_image(number, **changes))

    async def until(self, job_id: str, is_so: Callable[[Job], bool]) -> Job:
        with trio.fail_after(PATIENCE):
            while True:
                job = await self.desk.get(job_id)
                assert job is not None
                if is_so(job):
                    return job
                await trio.testing.wait_all_tasks_blocked(0.01)

    async def analysed(
        self, request: JobRequest | None = None
    ) -> tuple[Job, AnalysisRequest, list[ResultRecord]]:
        """What comes of it: the job, the request, its results."""
        job_id, _ = await self.desk.submit(request or analysis_job("threshold", STUDY, SERIES))
        job = await self.until(job_id, lambda one: one.state.is_final)
        book = self.parts.stores.analyses
        kept = await book.get(job_id)
        assert kept is not None
        return job, kept, list(await book.results(job_id=job_id, limit=100))


@asynccontextmanager
async def world(
    url: str, data_dir: Path | None = None, service: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    """An archive whose settings name the service at *url*."""
    named = parse_service(
        {"name": "threshold", "url": url, "poll_interval": 0.02} | (service or {})
    )
    overrides: dict[str, Any] = {
        "storage.data_dir": ":memory:" if data_dir is None else str(data_dir),
        "storage.durability": "relaxed",
        "jobs.first_retry": 0.02,
        "jobs.longest_retry": 0.02,
        "jobs.give_up_after": 600.0,
        "jobs.verify_nodes_every": 0,
        "ai_services": [AiServiceKind().to_toml(named)],
    }
    settings = load_settings(
        environ={}, overrides=overrides | {k.replace("__", "."): v for k, v in options.items()}
    )
    heard: list[Notice] = []
    notices = Notices(heard.append)
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry, workflow = composition.build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices
        )
        assert workflow.jobs is not None
        for work in registry.background_tasks:
            nursery.start_soon(work)
        yield World(settings, parts, workflow, workflow.jobs, heard)
        nursery.cancel_scope.cancel()
