"""Port of performed procedure steps: where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.service_classes.mpps.performed_step import PerformedStep, StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """One line of a list of steps, without what it says of a patient.

    Attributes:
        instances: that it names; *arrived*: those of them that the archive has.
    """

    sop_instance_uid: str
    state: StepState
    source_ae_title: str
    station_ae_title: str
    modality: str
    performed_step_id: str
    start_date: str
    start_time: str
    changed_at: float
    studies: tuple[str, ...]
    series: int
    instances: int
    arrived: int


class Steps(Protocol):
    """Keeps steps, durably.  Failures are `StorageError`.

    *notify*: AE titles to which the notification is to be sent, as called AE title *as_ae_title*;
    it is written in the same transaction.
    """

    async def create(self, step: PerformedStep, *, notify: Sequence[str], as_ae_title: str) -> bool:
        """Keep a new step; False: there is one with its UID, and nothing was changed."""
        ...

    async def change(
        self,
        sop_instance_uid: str,
        change: Callable[[PerformedStep], PerformedStep],
        *,
        notify: Sequence[str],
        as_ae_title: str,
    ) -> PerformedStep:
        """Put what *change* makes of the step in its place; nobody else changes it meanwhile.

        What *change* raises comes out, and nothing was changed.

        Raises:
            KeyError: there is no such step.
        """
        ...

    async def get(self, sop_instance_uid: str) -> PerformedStep | None: ...

    async def rows(
        self,
        *,
        state: StepState | None = None,
        study_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        limit: int = 100,
    ) -> Sequence[StepSummary]:
        """The latest steps, newest first."""
        ...
