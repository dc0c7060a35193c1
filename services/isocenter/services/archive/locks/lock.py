"""Locks of studies as values, and the error of one that is refused."""

from __future__ import annotations

from enum import Enum

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import WingNotice


class LockKind(Enum):
    """What a lock that nobody else may have is for."""

    #: Something of the study changes or goes.
    EXCLUSIVE = "exclusive"
    #: Its files move; whoever waits with it goes before others that wait.
    MIGRATION = "migration"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLock:
    """A study that somebody changes.

    Attributes:
        lock_id: of this lock; whoever has it later has another.
        holder: who has it, for those who may know.
        reason: what for; without patients.
        process: that has it.
        since, until: seconds since 1970 by the clock of the database; unless it is renewed, it is
            free from *until* on.
        readers: who is being waited for.
    """

    study_instance_uid: str
    lock_id: str
    kind: LockKind
    holder: str
    reason: str
    process: str
    since: float
    until: float
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockCount:
    """What has become of locks of one kind, of all processes, since they are counted.

    Attributes:
        active: that somebody has now.
        released: by whoever had them.
        forced: taken away.
        expired: that were not renewed in time.
        refused: tries that gave up, since somebody read or changed the study.
        waited: of those that were released: for which somebody had to wait.
        waited_seconds: of these together.
        held_seconds, longest_seconds: of those that were released: together, and of one.
    """

    kind: LockKind
    active: int = 0
    released: int = 0
    forced: int = 0
    expired: int = 0
    refused: int = 0
    waited: int = 0
    waited_seconds: float = 0.0
    held_seconds: float = 0.0
    longest_seconds: float = 0.0

    @property
    def taken(self) -> int:
        """All that somebody ever had."""
        return self.active + self.released + self.forced + self.expired

    @property
    def average_seconds(self) -> float:
        """Of one that was released."""
        return self.held_seconds / self.released if self.released else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LockEnded(WingNotice):
    """A lock of this process is over, or was not to be had.

    Attributes:
        outcome: ``released``, ``lost`` (taken away, or not renewed in time) or ``refused``.
        seconds: how long it was held, or waited for.
    """

    kind: LockKind
    outcome: str
    seconds: float


class StudyLockedError(IsocenterError):
    """A study cannot be read, or changed, now.

    Attributes:
        holder: who has it; for those who may know.
    """

    error_code = ErrorCode.LOCKED

    def __init__(self, study_instance_uid: str, holder: str) -> None:
        super().__init__(f"study {study_instance_uid} is in use: {holder}")
        self.study_instance_uid = study_instance_uid
        self.holder = holder
