"""States of a worklist entry."""

from __future__ import annotations

from enum import Enum


class EntryState(Enum):
    """What became of a scheduled step."""

    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
