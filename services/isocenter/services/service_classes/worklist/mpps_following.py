"""State of a worklist entry, as it follows from its performed procedure steps."""

from __future__ import annotations

from collections.abc import Collection

from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.worklist.entry import EntryState


def state_after_steps(states: Collection[StepState], discontinued: EntryState) -> EntryState:
    """What becomes of an entry whose steps are in these states.

    One scheduled step may be performed in several: it is started while one of them is in
    progress, completed when one was completed, else *discontinued*.
    """
    if StepState.IN_PROGRESS in states:
        return EntryState.STARTED
    if StepState.COMPLETED in states:
        return EntryState.COMPLETED
    return discontinued
