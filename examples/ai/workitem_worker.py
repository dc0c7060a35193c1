"""An AI service that comes by itself: workitems over UPS-RS, images and results over DICOMweb.

The second way in: nothing of it is named in the settings of the archive.  It looks for scheduled
workitems with a worklist label, takes one, retrieves the series of its study, segments and measures
it as `threshold_service` does, stores the results, and completes the workitem with what it made.
When the archive is away in between, it goes on where it was.

    python3 -m pip install highdicom isocenter
    python3 workitem_worker.py http://127.0.0.1:8080/dicomweb --label CT
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pydicom
import trio
from pydicom.uid import generate_uid
from threshold_service import NAME, analyse

from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.net.http.client_errors import HttpClientError, HttpStatusError
from isocenter.services.service_classes.ups.workitem import WorkitemState
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.models import value_of
from isocenter.services.web.client.resources import WebResource

THRESHOLD = 200.0
MOST_PART = 64 << 20
SOP_INSTANCE_UID, STUDY, SERIES, MODALITY = "00080018", "0020000D", "0020000E", "00080060"
STATE = "00741000"
#: The workitem is gone; or it was cancelled, or somebody else was first and has the lock.
NOT_OURS = (404, 409, 410)


class Worker:
    """Does workitems of one label, one after the other.

    What it has begun it keeps: when the archive is away, `work_once` fails, and goes on with the
    same workitem, under the same lock and with the same results, when it is called again.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._begun = ""
        self._lock = ""
        self._began = datetime.now().astimezone()
        self._results: list[pydicom.Dataset] | None = None

    async def work_once(self, archive: DicomWebClient) -> list[str]:
        """Do one workitem that waits: SOP Instance UIDs of the results; empty: none waits.

        Raises:
            HttpClientError: the archive does not answer, or says no.
        """
        try:
            return await self._perform(archive) if await self._take(archive) else []
        except HttpStatusError as error:
            if error.status in NOT_OURS:
                self._forget()
            raise

    async def _perform(self, archive: DicomWebClient) -> list[str]:
        if self._results is None:
            self._results = await analyse_study(archive, await self._study(archive))
        made = [one.SOPInstanceUID for one in self._results]
        # The answer may have been all that was lost.
        if await self._state(archive) != WorkitemState.COMPLETED.value:
            # First, since it needs the lock: nothing is stored for a workitem of somebody else.
            done = performed(self._results, self._began)
            await archive.workitems.update(self._begun, done, self._lock)
            async for outcome in archive.store(
                [DicomObject.from_dataset(r) for r in self._results]
            ):
                if not outcome.is_stored:
                    raise RuntimeError(f"a result was not stored: {outcome.reason}")
            await archive.workitems.change_state(self._begun, WorkitemState.COMPLETED, self._lock)
        self._forget()
        return made

    def _forget(self) -> None:
        self._begun, self._results = "", None

    async def _take(self, archive: DicomWebClient) -> bool:
        """Whether there is a workitem that is ours."""
        if self._begun and await self._state(archive) != WorkitemState.SCHEDULED.value:
            return True
        self._forget()
        waiting = [("ProcedureStepState", "SCHEDULED"), ("WorklistLabel", self._label)]
        for found in await archive.workitems.search(waiting):
            self._begun, self._lock = value_of(found, SOP_INSTANCE_UID), generate_uid()
            self._began = datetime.now().astimezone()
            try:
                await archive.workitems.change_state(
                    self._begun, WorkitemState.IN_PROGRESS, self._lock
                )
            except HttpStatusError as error:
                self._begun = ""
                if error.status != 409:
                    raise
                continue  # somebody else was first
            return True
        return False

    async def _state(self, archive: DicomWebClient) -> str:
        return value_of(await archive.workitems.get(self._begun), STATE)

    async def _study(self, archive: DicomWebClient) -> str:
        return value_of(await archive.workitems.get(self._begun), STUDY)


async def analyse_study(archive: DicomWebClient, study: str) -> list[pydicom.Dataset]:
    """Segmentations and measurements of each CT series of a study."""
    results: list[pydicom.Dataset] = []
    async for one in archive.search(Level.SERIES, within=WebResource(study)):
        if value_of(one, MODALITY) == "CT":
            images = await retrieve(archive, study, value_of(one, SERIES))
            results += await trio.to_thread.run_sync(analyse, images, THRESHOLD)
    return results


async def retrieve(archive: DicomWebClient, study: str, series: str) -> list[pydicom.Dataset]:
    """The images of a series."""
    async with archive.retrieve(WebResource(study, series)) as parts:
        return [pydicom.dcmread(io.BytesIO(await part.read(MOST_PART))) async for part in parts]


def performed(results: Sequence[pydicom.Dataset], began: datetime) -> pydicom.Dataset:
    """What was done, as the end of a workitem needs it (PS3.4 CC.2.5.1.3)."""
    item = pydicom.Dataset()
    item.PerformedProcedureStepStartDateTime = began.strftime("%Y%m%d%H%M%S")
    item.PerformedProcedureStepEndDateTime = datetime.now().astimezone().strftime("%Y%m%d%H%M%S")
    item.PerformedStationNameCodeSequence = [code(NAME.upper(), "99EXAMPLE", NAME)]
    item.PerformedWorkitemCodeSequence = [code("110005", "DCM", "Interpretation")]
    item.OutputInformationSequence = [output(one) for one in results]
    made = pydicom.Dataset()
    made.UnifiedProcedureStepPerformedProcedureSequence = [item]
    return made


def code(value: str, scheme: str, meaning: str) -> pydicom.Dataset:
    """An item of a code sequence."""
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def output(result: pydicom.Dataset) -> pydicom.Dataset:
    """Where a result is found (PS3.3 10.6.1)."""
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID = result.SOPClassUID
    reference.ReferencedSOPInstanceUID = result.SOPInstanceUID
    item = pydicom.Dataset()
    item.TypeOfInstances = "DICOM"
    item.StudyInstanceUID = result.StudyInstanceUID
    item.SeriesInstanceUID = result.SeriesInstanceUID
    item.ReferencedSOPSequence = [reference]
    return item


async def main() -> None:
    """Work until somebody stops it."""
    parser = argparse.ArgumentParser(description="An AI service that takes workitems.")
    parser.add_argument("url", help="the DICOMweb service of the archive")
    parser.add_argument(
        "--label", default="CT", help="worklist label of the workitems that it takes"
    )
    parser.add_argument("--token-file", type=Path, help="an API token of the archive")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks")
    options = parser.parse_args()
    token = options.token_file.read_text().strip() if options.token_file else ""
    worker = Worker(options.label)
    async with DicomWebClient(options.url, token=token) as archive:
        while True:
            try:
                made = await worker.work_once(archive)
            except HttpClientError as error:
                print(f"the archive: {error}", file=sys.stderr)
                made = []
            if made:
                print(f"made {len(made)} objects", flush=True)
            else:
                await trio.sleep(options.every)


if __name__ == "__main__":
    try:
        trio.run(main)
    except KeyboardInterrupt:
        pass
