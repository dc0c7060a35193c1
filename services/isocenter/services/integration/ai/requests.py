"""Requests to AI services, their state, and their results, as values."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass


class RequestState(Enum):
    """How far a request is."""

    #: Objects are on their way, or wait for it.
    SENDING = "sending"
    #: The service has it.
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL: Final = (RequestState.COMPLETED, RequestState.FAILED, RequestState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """What was asked of a service, and how far that is.  Times are seconds since 1970.

    Attributes:
        job_id: of the job that works on it.
        series_instance_uid: empty: all series of the study that the service takes.
        remote_id: what the service calls it; empty: it has not taken it yet.
        callback_hash: of the token by which the service may say that it is done; empty: it has.
        progress: in percent, as the service says.
        fault: why it failed.
    """

    job_id: str
    service: str
    model: str
    study_instance_uid: str
    series_instance_uid: str
    state: RequestState
    remote_id: str = ""
    callback_hash: str = ""
    progress: int = 0
    created_at: float
    submitted_at: float | None = None
    ended_at: float | None = None
    fault: str = ""

    @property
    def request_id(self) -> str:
        """By which the service knows it when it is asked once more; begun anew, it has another."""
        return f"{self.job_id}-{self.created_at:.0f}"


class ResultState(Enum):
    """What became of an object that a service answered with."""

    STORED = "stored"
    QUARANTINED = "quarantined"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord:
    """An object that a service answered with.

    Attributes:
        algorithm, algorithm_version: which made it, as it says.
        why: it was not simply stored.
    """

    job_id: str
    service: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    algorithm: str
    algorithm_version: str
    state: ResultState
    why: str
    at: float


class AnalysisError(IsocenterError):
    """A request that cannot be, or was not, answered; the message shows no value of a patient."""

    error_code = ErrorCode.AI
