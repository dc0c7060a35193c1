"""Contracts of the ports of storage commitments and event reports, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from isocenter.services.service_classes.commitment.ports import BeginResult
from isocenter.services.service_classes.commitment.transaction import (
    Reference,
    TransactionState,
    result_of,
)
from isocenter.services.service_classes.normalized.ports import NewReport
from isocenter.storage.database.leases import release_stale
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.service_classes.commitment.peers import Clock
from storage.databases import open_database

REFERENCES = [Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{number}") for number in (1, 2)]


class Kept:
    """The stores, at a time that the test moves."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self.clock = clock
        self.commitments, self.reports = stores.commitments, stores.reports

    async def begin(
        self, uid: str = "2.25.1", *, requester: str = "CT1", many: int = 2
    ) -> BeginResult:
        return await self.commitments.begin(
            transaction_uid=uid,
            requester=requester,
            called_ae_title="US",
            references=REFERENCES[:many],
            worker="one",
            seconds=60,
        )

    async def complete(self, failures: list[int], worker: str = "one") -> bool:
        transaction = await self.commitments.get("2.25.1")
        assert transaction is not None
        report = result_of(transaction, failures, retrieve_ae_title="US")
        claimed = await self.commitments.complete(
            "2.25.1", worker, failures, report, claim_seconds=0
        )
        return claimed is not None


@pytest.fixture
async def kept(each_database: str) -> AsyncIterator[Kept]:
    clock = Clock()
    async with open_database() as database:
        yield Kept(join_stores(database, StoresOptions(now=clock)), clock)


def report(destination: str = "CT1") -> NewReport:
    return NewReport(
        destination=destination,
        calling_ae_title="US",
        sop_class_uid="1.2",
        sop_instance_uid="1.2.3",
        event_type=1,
        data_set=b"\x08\x00",
    )


async def test_a_transaction_is_begun_once(kept: Kept) -> None:
    assert await kept.begin() is BeginResult.NEW
    assert await kept.begin() is BeginResult.AGAIN
    assert await kept.begin(requester="OTHER") is BeginResult.IN_USE
    assert await kept.begin(many=1) is BeginResult.IN_USE
    transaction = await kept.commitments.get("2.25.1")
    assert transaction is not None
    assert (transaction.state, transaction.failures) == (TransactionState.PENDING, None)
    assert list(transaction.references) == REFERENCES
    assert await kept.commitments.get("2.25.9") is None


async def test_a_transaction_is_of_one_worker_until_its_time_is_over(kept: Kept) -> None:
    await kept.begin()
    assert list(await kept.commitments.claim("two", 60, 10)) == []
    kept.clock.now += 50
    assert await kept.commitments.renew("2.25.1", "one", 60)
    assert not await kept.commitments.renew("2.25.1", "two", 60)
    kept.clock.now += 50
    assert list(await kept.commitments.claim("two", 60, 10)) == []
    kept.clock.now += 11
    assert list(await kept.commitments.claim("two", 60, 10)) == ["2.25.1"]
    assert not await kept.commitments.renew("2.25.1", "one", 60)
    assert not await kept.complete([0, 0])
    assert await kept.complete([0, 0], "two")
    assert not await kept.complete([0, 0], "two")


async def test_what_is_asked_over_the_web_has_no_report(kept: Kept) -> None:
    asked = [Reference("1.2", "1.3", "1.4", "1.5"), Reference("1.2", "1.6")]

    async def begin(called_ae_title: str) -> BeginResult:
        return await kept.commitments.begin(
            transaction_uid="2.25.1",
            requester="CT1",
            called_ae_title=called_ae_title,
            references=asked,
            worker="one",
            seconds=60,
        )

    assert await begin("") is BeginResult.NEW
    assert await begin("") is BeginResult.AGAIN
    # That an application entity is called as a user is does not make it the same.
    assert await begin("US") is BeginResult.IN_USE
    done = await kept.commitments.complete("2.25.1", "one", [0, 0x0112], None, claim_seconds=0)
    assert done is not None
    assert done.report is None
    (row,) = await kept.commitments.rows()
    assert (row.state, row.report) == (TransactionState.PARTIAL, "")
    transaction = await kept.commitments.get("2.25.1")
    assert transaction is not None
    assert list(transaction.references) == asked


async def test_what_is_postponed_is_due_later(kept: Kept) -> None:
    await kept.begin()
    await kept.commitments.postpone("2.25.1", "one", 30)
    assert list(await kept.commitments.claim("two", 60, 10)) == []
    kept.clock.now += 31
    assert list(await kept.commitments.claim("two", 60, 10)) == ["2.25.1"]


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        ([0, 0], TransactionState.SUCCESS),
        ([0, 0x0112], TransactionState.PARTIAL),
        ([0x0112, 0x0112], TransactionState.FAILED),
    ],
)
async def test_the_outcome_and_its_report_are_kept_together(
    kept: Kept, failures: list[int], state: TransactionState
) -> None:
    await kept.begin()
    assert await kept.complete(failures)
    transaction = await kept.commitments.get("2.25.1")
    assert transaction is not None
    assert transaction.failures is not None
    assert (transaction.state, list(transaction.failures)) == (state, failures)
    (row,) = await kept.commitments.rows()
    assert (row.state, row.references, row.failed) == (state, 2, sum(map(bool, failures)))
    assert row.report == "due"
    assert [each.transaction_uid for each in await kept.commitments.rows(state=state)] == ["2.25.1"]
    assert list(await kept.commitments.rows(state=TransactionState.PENDING)) == []
    (claimed,) = await kept.reports.claim("two", 60, 10)
    assert claimed.report.transaction_uid == "2.25.1"


async def test_a_report_is_of_one_worker_until_its_time_is_over(kept: Kept) -> None:
    ours = await kept.commitments.report(report(), "one", claim_seconds=60)
    assert list(await kept.reports.claim("two", 60, 10)) == []
    kept.clock.now += 61
    (claimed,) = await kept.reports.claim("two", 60, 10)
    assert (claimed.number, claimed.report, claimed.attempts) == (ours.number, report(), 0)
    await kept.reports.release(claimed.number)
    (again,) = await kept.reports.claim("three", 60, 10)
    assert again == claimed


async def test_reports_come_oldest_first_and_not_for_those_that_are_left_out(kept: Kept) -> None:
    for destination in ("A", "B", "A"):
        await kept.commitments.report(report(destination), "", claim_seconds=0)
    claimed = await kept.reports.claim("w", 60, 2, not_for=["B"])
    assert [each.report.destination for each in claimed] == ["A", "A"]
    assert claimed[0].number < claimed[1].number
    (other,) = await kept.reports.claim("w", 60, 10)
    assert other.report.destination == "B"


@pytest.mark.parametrize("retry_in", [None, 30.0])
async def test_a_report_that_failed_is_due_again_or_given_up(
    kept: Kept, retry_in: float | None
) -> None:
    await kept.commitments.report(report(), "", claim_seconds=0)
    (claimed,) = await kept.reports.claim("w", 60, 10)
    await kept.reports.failed(claimed.number, "no route", retry_in)
    assert list(await kept.reports.claim("w", 60, 10)) == []
    kept.clock.now += 31
    again = await kept.reports.claim("w", 60, 10)
    assert [each.attempts for each in again] == ([] if retry_in is None else [1])


async def test_a_report_that_arrived_is_over(kept: Kept) -> None:
    await kept.commitments.report(report(), "", claim_seconds=0)
    (claimed,) = await kept.reports.claim("w", 60, 10)
    await kept.reports.delivered(claimed.number)
    await kept.reports.failed(claimed.number, "too late", 0.0)
    kept.clock.now += 100
    assert list(await kept.reports.claim("w", 60, 10)) == []


async def test_the_next_owner_finds_all_claims_released(each_database: str) -> None:
    clock = Clock()
    async with open_database() as database:
        kept = Kept(join_stores(database, StoresOptions(now=clock)), clock)
        await kept.begin()
        await kept.commitments.report(report(), "one", claim_seconds=60)
        await database.write(release_stale)
        assert list(await kept.commitments.claim("two", 60, 10)) == ["2.25.1"]
        assert len(await kept.reports.claim("two", 60, 10)) == 1
