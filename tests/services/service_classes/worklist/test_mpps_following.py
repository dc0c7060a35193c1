"""What becomes of an entry that is performed in one step or in several."""

from __future__ import annotations

import pytest

from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.worklist.entry import EntryState
from isocenter.services.service_classes.worklist.mpps_following import state_after_steps

RUNS, DONE, STOPPED = StepState.IN_PROGRESS, StepState.COMPLETED, StepState.DISCONTINUED


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([RUNS], EntryState.STARTED),
        ([RUNS, DONE, STOPPED], EntryState.STARTED),
        ([DONE], EntryState.COMPLETED),
        ([DONE, STOPPED], EntryState.COMPLETED),
        ([STOPPED], EntryState.SCHEDULED),
    ],
)
def test_the_furthest_step_counts(states: list[StepState], expected: EntryState) -> None:
    assert state_after_steps(states, EntryState.SCHEDULED) is expected


def test_what_a_discontinued_step_means_is_a_setting() -> None:
    for state in EntryState:
        assert state_after_steps([STOPPED], state) is state
