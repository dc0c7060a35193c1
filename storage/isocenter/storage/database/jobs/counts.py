"""Numbers of a job: what is added when its objects are settled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final, assert_never

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.jobs.job import ItemState
from isocenter.storage.database.database import Connection

_COUNT: Final = """
    UPDATE job SET total = total + :total, done = done + :done, skipped = skipped + :skipped,
        failed = failed + :failed, size = size + :size
    WHERE job_pk = :number
"""


@dataclass(slots=True)
class JobCounts:
    """What is added to the numbers of a job."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    size: int = 0

    def add(self, state: ItemState, count: int) -> None:
        """So many objects came to that state."""
        match state:
            case ItemState.DONE:
                self.done += count
            case ItemState.SKIPPED:
                self.skipped += count
            case ItemState.FAILED:
                self.failed += count
            case ItemState.DUE:
                pass
            case other:
                assert_never(other)

    def write(self, connection: Connection, number: int) -> None:
        """Add them to a job."""
        connection.execute(_COUNT, {"number": number, **asdict(self)})
