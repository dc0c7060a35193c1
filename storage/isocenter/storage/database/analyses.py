"""Requests to AI services and their results, in the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Any, Final

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.integration.ai.ports import Trigger
from isocenter.services.integration.ai.requests import (
    AnalysisRequest,
    RequestState,
    ResultRecord,
    ResultState,
)
from isocenter.services.integration.ai.result_classes import RESULT_CLASSES
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_MOST_FAULT: Final = 500
_REQUEST: Final = """
    SELECT job_id, service, model, study_instance_uid, series_instance_uid, state, remote_id,
        callback_hash, progress, created_at, submitted_at, ended_at, fault
    FROM analysis_request
"""
#: There is no index of requests without a token: it is said that this has one.
OF_TOKEN: Final = f"{_REQUEST} WHERE callback_hash = :hash AND callback_hash <> ''"
_CALLED_BACK: Final = """
    UPDATE analysis_request SET callback_hash = ''
    WHERE callback_hash = :hash AND callback_hash <> ''
"""
_BEGIN: Final = """
    INSERT INTO analysis_request (job_id, service, model, study_instance_uid, series_instance_uid,
        state, remote_id, callback_hash, progress, created_at, fault)
    VALUES (:job, :service, :model, :study, :series, :state, '', :hash, 0, :at, '')
    ON CONFLICT (job_id) DO UPDATE SET callback_hash = :hash, state = 'sending', ended_at = NULL,
        remote_id = '', submitted_at = NULL, progress = 0, fault = '',
        created_at = CASE WHEN analysis_request.ended_at IS NULL
            THEN analysis_request.created_at ELSE :at END
    WHERE analysis_request.remote_id = '' OR analysis_request.ended_at IS NOT NULL
"""
_SUBMITTED: Final = """
    UPDATE analysis_request SET remote_id = :remote, submitted_at = :at, state = 'running'
    WHERE job_id = :job AND ended_at IS NULL
"""
_PROGRESSED: Final = """
    UPDATE analysis_request SET progress = :progress WHERE job_id = :job AND progress <> :progress
"""
_END: Final = """
    UPDATE analysis_request SET state = :state, ended_at = :at, fault = :fault, callback_hash = ''
    WHERE job_id = :job AND ended_at IS NULL
"""
_RESULT: Final = """
    SELECT job_id, service, study_instance_uid, series_instance_uid, sop_instance_uid,
        sop_class_uid, algorithm, algorithm_version, state, why, at
    FROM analysis_result
"""
_NOTE: Final = """
    INSERT INTO analysis_result (job_id, service, study_instance_uid, series_instance_uid,
        sop_instance_uid, sop_class_uid, algorithm, algorithm_version, state, why, at)
    VALUES (:job, :service, :study, :series, :uid, :class, :algorithm, :version, :state, :why, :at)
    ON CONFLICT (job_id, sop_instance_uid) DO UPDATE SET state = :state, why = :why, at = :at
"""
_TRIGGER: Final = """
    INSERT INTO analysis_trigger (service, study_instance_uid, series_instance_uid, due_at)
    VALUES (:service, :study, :series, :due)
    ON CONFLICT (service, study_instance_uid, series_instance_uid) DO UPDATE SET due_at = :due
"""
_DUE: Final = """
    SELECT service, study_instance_uid, series_instance_uid, due_at FROM analysis_trigger
    WHERE due_at <= :now ORDER BY due_at LIMIT :limit
"""
_TRIGGERED: Final = """
    DELETE FROM analysis_trigger WHERE service = :service AND study_instance_uid = :study
        AND series_instance_uid = :series AND due_at = :due
"""


_IS_KEPT: Final = """
    SELECT 1 FROM instance WHERE sop_instance_uid = ? UNION ALL
    SELECT 1 FROM trash WHERE sop_instance_uid = ? LIMIT 1
"""
_IS_STUDY_KEPT: Final = """
    SELECT 1 FROM study WHERE study_instance_uid = ? UNION ALL
    SELECT 1 FROM trash WHERE study_instance_uid = ? LIMIT 1
"""
_FORGET: Final = (
    "DELETE FROM analysis_result WHERE sop_instance_uid = ?",
    "DELETE FROM assessment WHERE result = ?",
    "DELETE FROM assessment WHERE sop_instance_uid = ?",
)


class DatabaseAnalyses:
    """See `isocenter.services.integration.ai.ports.AnalysisBook`.

    Args:
        quiet_seconds: until a series that a rule has for a service is thought to be whole.
        now: seconds since 1970.
    """

    def __init__(
        self, database: Database, *, quiet_seconds: float = 60.0, now: Callable[[], float] = time
    ) -> None:
        self._database = database
        self._quiet_seconds = quiet_seconds
        self._now = now

    def added(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Objects are new: a series that rules have for a service is not whole yet."""
        due_at = self._now() + self._quiet_seconds
        wanted = {
            (service, record.study_instance_uid, record.series_instance_uid)
            for record, result in added
            if record.analyses
            and record.sop_class_uid not in RESULT_CLASSES
            and result.outcome in (AddOutcome.ADDED, AddOutcome.REPLACED)
            for service in record.analyses
        }
        for service, study, series in sorted(wanted):
            connection.execute(
                _TRIGGER, {"service": service, "study": study, "series": series, "due": due_at}
            )

    async def begin(self, request: AnalysisRequest) -> AnalysisRequest:
        """See `AnalysisBook.begin`."""
        return await self._database.write(_begin, request)

    async def submitted(self, job_id: str, remote_id: str, at: float) -> None:
        """See `AnalysisBook.submitted`."""
        values = {"job": job_id, "remote": replace_surrogates(remote_id), "at": at}
        await self._database.write(_change, _SUBMITTED, values)

    async def progressed(self, job_id: str, progress: int) -> None:
        """See `AnalysisBook.progressed`."""
        await self._database.write(_change, _PROGRESSED, {"job": job_id, "progress": progress})

    async def end(self, job_id: str, state: RequestState, at: float, fault: str = "") -> None:
        """See `AnalysisBook.end`."""
        text = replace_surrogates(fault[:_MOST_FAULT])
        values = {"job": job_id, "state": state.value, "at": at, "fault": text}
        await self._database.write(_change, _END, values)

    async def note(self, result: ResultRecord) -> None:
        """See `AnalysisBook.note`."""
        values = {
            "job": result.job_id,
            "service": result.service,
            "study": result.study_instance_uid,
            "series": result.series_instance_uid,
            "uid": result.sop_instance_uid,
            "class": result.sop_class_uid,
            "algorithm": replace_surrogates(result.algorithm),
            "version": replace_surrogates(result.algorithm_version),
            "state": result.state.value,
            "why": replace_surrogates(result.why[:_MOST_FAULT]),
            "at": result.at,
        }
        await self._database.write(_change, _NOTE, values)

    async def get(self, job_id: str) -> AnalysisRequest | None:
        """See `AnalysisBook.get`."""
        statement = f"{_REQUEST} WHERE job_id = :job"
        found = await self._database.read(_requests, statement, {"job": job_id})
        return found[0] if found else None

    async def called_back(self, callback_hash: str) -> AnalysisRequest | None:
        """See `AnalysisBook.called_back`."""
        values = {"hash": callback_hash}
        # Anybody may ask: who has no token costs no transaction that others wait for.
        if not await self._database.read(_requests, OF_TOKEN, values):
            return None
        return await self._database.write(_called_back, values)

    async def requests(
        self, *, study: str = "", service: str = "", is_open: bool = False, limit: int
    ) -> Sequence[AnalysisRequest]:
        """See `AnalysisBook.requests`."""
        conditions = ["1 = 1"]
        if study:
            conditions.append("study_instance_uid = :study")
        if service:
            conditions.append("service = :service")
        if is_open:
            conditions.append("ended_at IS NULL")
        statement = (
            f"{_REQUEST} WHERE {' AND '.join(conditions)} "
            "ORDER BY created_at DESC, job_id LIMIT :limit"
        )
        values = {"study": study, "service": service, "limit": limit}
        return await self._database.read(_requests, statement, values)

    async def results(
        self, *, study: str = "", job_id: str = "", limit: int
    ) -> Sequence[ResultRecord]:
        """See `AnalysisBook.results`."""
        conditions = ["1 = 1"]
        if study:
            conditions.append("study_instance_uid = :study")
        if job_id:
            conditions.append("job_id = :job")
        statement = (
            f"{_RESULT} WHERE {' AND '.join(conditions)} "
            "ORDER BY at DESC, sop_instance_uid LIMIT :limit"
        )
        values = {"study": study, "job": job_id, "limit": limit}
        return await self._database.read(_results, statement, values)

    async def result(self, sop_instance_uid: str) -> ResultRecord | None:
        """See `AnalysisBook.result`."""
        statement = f"{_RESULT} WHERE sop_instance_uid = :uid ORDER BY at DESC LIMIT 1"
        found = await self._database.read(_results, statement, {"uid": sop_instance_uid})
        return found[0] if found else None

    async def due_triggers(self, limit: int) -> Sequence[Trigger]:
        """See `AnalysisBook.due_triggers`."""
        values = {"now": self._now(), "limit": limit}
        return await self._database.read(_triggers, values)

    async def triggered(self, trigger: Trigger) -> None:
        """See `AnalysisBook.triggered`."""
        values = {
            "service": trigger.service,
            "study": trigger.study_instance_uid,
            "series": trigger.series_instance_uid,
            "due": trigger.due_at,
        }
        await self._database.write(_change, _TRIGGERED, values)


def forget_analyses(
    connection: Connection, sop_instance_uids: Sequence[str], studies: Sequence[str]
) -> None:
    """Objects are gone for good, or back: what is known of results that are gone, and what people
    said of them, is forgotten (a `ForgetHook`)."""
    for uid in sop_instance_uids:
        if connection.execute(_IS_KEPT, (uid, uid)).fetchone() is None:
            for statement in _FORGET:
                connection.execute(statement, (uid,))
    for study in studies:
        if connection.execute(_IS_STUDY_KEPT, (study, study)).fetchone() is None:
            connection.execute(
                "DELETE FROM analysis_request WHERE study_instance_uid = ? "
                "AND ended_at IS NOT NULL",
                (study,),
            )
            connection.execute("DELETE FROM analysis_result WHERE study_instance_uid = ?", (study,))


def _change(connection: Connection, statement: str, values: Mapping[str, Any]) -> None:
    connection.execute(statement, values)


def _begin(connection: Connection, request: AnalysisRequest) -> AnalysisRequest:
    values = {
        "job": request.job_id,
        "service": request.service,
        "model": replace_surrogates(request.model),
        "study": request.study_instance_uid,
        "series": request.series_instance_uid,
        "state": request.state.value,
        "hash": request.callback_hash,
        "at": request.created_at,
    }
    connection.execute(_BEGIN, values)
    (found,) = _requests(connection, f"{_REQUEST} WHERE job_id = :job", values)
    return found


def _called_back(connection: Connection, values: Mapping[str, Any]) -> AnalysisRequest | None:
    found = _requests(connection, OF_TOKEN, values)
    is_first = connection.execute(_CALLED_BACK, values).rowcount
    return found[0] if found and is_first else None


def _requests(
    connection: Connection, statement: str, values: Mapping[str, Any]
) -> list[AnalysisRequest]:
    return rows_as(AnalysisRequest, connection.execute(statement, values), state=RequestState)


def _results(
    connection: Connection, statement: str, values: Mapping[str, Any]
) -> list[ResultRecord]:
    return rows_as(ResultRecord, connection.execute(statement, values), state=ResultState)


def _triggers(connection: Connection, values: Mapping[str, Any]) -> list[Trigger]:
    return rows_as(Trigger, connection.execute(_DUE, values))
