"""Intake of what an AI service answered with: checked, stored, withheld or refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import IO, Final

import trio

from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, SingleValue
from isocenter.services.archive.object_scan import OverLimitError, StoreError
from isocenter.services.archive.selection import matches_of
from isocenter.services.archive.store_answers import StoreOutcome, StoreResult, stored_notice
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    DamagedFileError,
    NotDicomFileError,
    identify,
)
from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.integration.ai.ports import AnalysisBook
from isocenter.services.integration.ai.requests import (
    AnalysisError,
    AnalysisRequest,
    ResultRecord,
    ResultState,
)
from isocenter.services.integration.ai.result_check import (
    Asked,
    CheckedResult,
    check_result,
    identity_of,
)
from isocenter.services.notices import Caller, Notices

log = logging.getLogger("isocenter.ai")

_PATIENT_ID: Final = 0x00100020
_ISSUER: Final = 0x00100021
_PIECE: Final = 1 << 20
#: Statuses that are about the archive, and not about the object.
_NOT_NOW: Final = frozenset({Status.OUT_OF_RESOURCES, Status.PROCESSING_FAILURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patient:
    patient_id: str
    issuer: str


class ResultIntake:
    """Takes in what a service answered with.

    Args:
        may_withhold: there is a quarantine; else what is doubtful is refused.
        now: seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        book: AnalysisBook,
        notices: Notices,
        *,
        may_withhold: bool,
        now: Callable[[], float],
    ) -> None:
        self._archive = archive
        self._book = book
        self._notices = notices
        self._may_withhold = may_withhold
        self._now = now

    async def take(
        self,
        request: AnalysisRequest,
        service: AiService,
        sent: Collection[str],
        files: Sequence[IO[bytes]],
    ) -> list[ResultRecord]:
        """All objects of one answer, which may refer to each other.

        Args:
            sent: SOP Instance UIDs of what the service got.
            files: Part 10 files.

        Raises:
            AnalysisError: the study is gone.
            StorageError: the archive cannot be asked, or keep them, now.
        """
        patient = await self._patient(request.study_instance_uid)
        uids = {await trio.to_thread.run_sync(identity_of, file) for file in files} - {""}
        # Who says that an answer has an object of another study may not refer to that one.
        elsewhere = {
            uid
            for uid, stored in (await self._archive.index.get(sorted(uids))).items()
            if stored.study_instance_uid != request.study_instance_uid
        }
        asked = Asked(
            study_instance_uid=request.study_instance_uid,
            patient_id=patient.patient_id,
            issuer=patient.issuer,
            instances=frozenset(sent),
            others=frozenset(uids - elsewhere),
            is_strict=service.is_strict,
        )
        return [await self._take_one(request, service, file, asked) for file in files]

    async def _take_one(
        self, request: AnalysisRequest, service: AiService, file: IO[bytes], asked: Asked
    ) -> ResultRecord:
        checked = await trio.to_thread.run_sync(check_result, file, asked)
        record = ResultRecord(
            job_id=request.job_id,
            service=request.service,
            study_instance_uid=request.study_instance_uid,
            series_instance_uid=checked.series_instance_uid,
            sop_instance_uid=checked.sop_instance_uid,
            sop_class_uid=checked.sop_class_uid,
            algorithm=checked.algorithm,
            algorithm_version=checked.algorithm_version,
            state=ResultState.STORED,
            why="",
            at=self._now(),
        )
        state, why = await self._kept(record, service, file, checked)
        record = replace(record, state=state, why=why)
        await self._book.note(record)
        if why:
            log.warning(
                "job %s: an object of service %s is %s: %s",
                request.job_id, service.name, state.value, why,
            )  # fmt: skip
        return record

    async def _kept(
        self, record: ResultRecord, service: AiService, file: IO[bytes], checked: CheckedResult
    ) -> tuple[ResultState, str]:
        if checked.fault:
            return ResultState.REFUSED, checked.fault
        if checked.doubt and not self._may_withhold:
            return ResultState.REFUSED, checked.doubt
        uid = checked.sop_instance_uid
        known = await self._archive.index.get([uid])
        if uid in known:
            earlier = await self._book.result(uid)
            # What an earlier attempt refused is of this job as well, and no object of it.
            ours = record.job_id, ResultState.STORED
            if earlier is None or (earlier.job_id, earlier.state) != ours:
                return ResultState.REFUSED, "another object has its SOP Instance UID"
        # First, so that what a process stores before it dies is known as ours by the next.
        await self._book.note(record)
        try:
            result = await self._store(service, file, checked.doubt)
        except (DamagedFileError, NotDicomFileError) as error:
            return ResultState.REFUSED, str(error)
        except StoreError as error:
            if error.status in _NOT_NOW and not isinstance(error, OverLimitError):
                raise StorageError(error.comment) from error
            return ResultState.REFUSED, error.comment
        if result.outcome is StoreOutcome.QUARANTINED:
            return ResultState.QUARANTINED, checked.doubt or "a rule withholds it"
        if result.outcome in (StoreOutcome.KEPT_OTHER, StoreOutcome.IGNORED):
            return ResultState.REFUSED, result.comment or "it was rejected before"
        return ResultState.STORED, checked.remark

    async def _store(self, service: AiService, file: IO[bytes], doubt: str) -> StoreResult:
        head = await trio.to_thread.run_sync(_read_at, file, 0, HEAD_BYTES)
        identity = identify(head, self._archive.limits)
        why = f"AI service {service.name}: {doubt}" if doubt else ""
        async with await self._archive.receive(
            sop_class_uid=identity.sop_class_uid,
            sop_instance_uid=identity.sop_instance_uid,
            transfer_syntax_uid=identity.transfer_syntax_uid,
            source_ae_title="",
            withheld_for=why,
        ) as ingest:
            position = identity.data_set_offset
            while piece := await trio.to_thread.run_sync(_read_at, file, position, _PIECE):
                position += len(piece)
                await ingest.write([piece])
            result = await ingest.commit()
        assert ingest.record is not None
        caller = Caller(association="", address=service.host)
        self._notices.publish(stored_notice(caller, ingest.record, result.outcome))
        return result

    async def _patient(self, study: str) -> _Patient:
        query = Query(
            level=Level.STUDY,
            criteria=(Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study)),),
            return_tags=(_PATIENT_ID, _ISSUER),
        )
        for match in await matches_of(self._archive.index, query, Page(limit=1)):
            return _Patient(patient_id=match.get(_PATIENT_ID, ""), issuer=match.get(_ISSUER, ""))
        # Nobody knows whose a result would be, and it would bring the study back.
        raise AnalysisError("the archive does not have the study any more")


def _read_at(file: IO[bytes], position: int, length: int) -> bytes:
    file.seek(position, os.SEEK_SET)
    return file.read(length)
