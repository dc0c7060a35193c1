"""Objects of a job that are settled while work on them goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from isocenter.services.errors import StorageError
from isocenter.services.workflow.jobs.job import ItemState
from isocenter.services.workflow.jobs.ports import ItemOutcome
from isocenter.services.workflow.jobs.settling import settling


class _Queue:
    def __init__(self, failures: int) -> None:
        self._failures = failures
        self.settled: list[str] = []

    async def settle(self, job: object, outcomes: Sequence[ItemOutcome]) -> None:
        await trio.lowlevel.checkpoint()
        if outcomes and self._failures:
            self._failures -= 1
            raise StorageError("the database is away")
        self.settled += [each.sop_instance_uid for each in outcomes]


async def _work(tell: Callable[[ItemOutcome], None]) -> None:
    tell(ItemOutcome(sop_instance_uid="1.2.3", state=ItemState.DONE))
    await trio.sleep(10)


@pytest.mark.parametrize("failures", [1, 100])
async def test_a_database_that_is_away_meanwhile_is_no_fault_of_the_job(
    autojump_clock: MockClock, failures: int
) -> None:
    job: Any = None
    queue: Any = _Queue(failures)
    with pytest.raises(StorageError, match="is away"):
        await settling(job, queue, _work)
    assert queue.settled == (["1.2.3"] if failures == 1 else [])


async def test_what_was_told_is_settled_once(autojump_clock: MockClock) -> None:
    job: Any = None
    queue: Any = _Queue(0)
    await settling(job, queue, _work)
    assert queue.settled == ["1.2.3"]
