"""Requests to AI services and their results: the contract of the book, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.integration.ai.assessment import (
    Assessment,
    AssessmentStatus,
    Opinion,
    Verdict,
)
from isocenter.services.integration.ai.requests import (
    AnalysisRequest,
    RequestState,
    ResultRecord,
    ResultState,
)
from isocenter.storage.database.analyses import DatabaseAnalyses, forget_analyses
from isocenter.storage.database.assessments import DatabaseAssessments
from isocenter.storage.database.leases import release_stale
from isocenter.storage.stores import StoresOptions, join_stores
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
ASKED = AnalysisRequest(
    job_id="a" * 32,
    service="lung",
    model="m",
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    state=RequestState.SENDING,
    callback_hash="h1",
    created_at=100.0,
)
RESULT = ResultRecord(
    job_id=ASKED.job_id,
    service="lung",
    study_instance_uid="1.2",
    series_instance_uid="1.2.4",
    sop_instance_uid="1.2.4.1",
    sop_class_uid=SEG,
    algorithm="A",
    algorithm_version="1",
    state=ResultState.STORED,
    why="",
    at=110.0,
)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened() -> AsyncIterator[DatabaseAnalyses]:
    async with open_database() as database:
        yield DatabaseAnalyses(database, quiet_seconds=60.0, now=Clock())


async def test_a_request_goes_from_sending_to_its_end() -> None:
    async with opened() as book:
        assert await book.begin(ASKED) == ASKED
        await book.submitted(ASKED.job_id, "r1", 101.0)
        await book.progressed(ASKED.job_id, 40)
        running = await book.get(ASKED.job_id)
        assert running is not None
        assert (running.state, running.remote_id, running.progress) == (
            RequestState.RUNNING, "r1", 40,
        )  # fmt: skip
        assert [one.job_id for one in await book.requests(is_open=True, limit=9)] == [ASKED.job_id]
        await book.end(ASKED.job_id, RequestState.COMPLETED, 120.0)
        await book.end(ASKED.job_id, RequestState.FAILED, 130.0, "too late")
        ended = await book.get(ASKED.job_id)
        assert ended is not None
        assert (ended.state, ended.ended_at, ended.fault, ended.callback_hash) == (
            RequestState.COMPLETED, 120.0, "", "",
        )  # fmt: skip
        assert not await book.requests(is_open=True, limit=9)


async def test_what_a_service_has_is_not_asked_anew() -> None:
    async with opened() as book:
        await book.begin(ASKED)
        await book.submitted(ASKED.job_id, "r1", 101.0)
        again = await book.begin(replace(ASKED, callback_hash="h2", created_at=200.0))
        assert (again.remote_id, again.callback_hash) == ("r1", "h1")
        assert again.request_id == ASKED.request_id


async def test_what_was_not_taken_keeps_its_name_and_gets_a_new_token() -> None:
    async with opened() as book:
        await book.begin(ASKED)
        again = await book.begin(replace(ASKED, callback_hash="h2", created_at=200.0))
        assert again.callback_hash == "h2"
        assert again.request_id == ASKED.request_id


async def test_what_failed_is_begun_anew() -> None:
    async with opened() as book:
        await book.begin(ASKED)
        await book.submitted(ASKED.job_id, "r1", 101.0)
        await book.end(ASKED.job_id, RequestState.FAILED, 120.0, "why")
        again = await book.begin(replace(ASKED, callback_hash="h2", created_at=200.0))
        assert (again.state, again.remote_id, again.ended_at, again.fault) == (
            RequestState.SENDING, "", None, "",
        )  # fmt: skip
        assert again.request_id != ASKED.request_id


async def test_a_token_is_good_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(*values: object) -> None:
        pytest.fail("whoever guesses keeps others from writing")

    async with opened() as book:
        await book.begin(ASKED)
        with monkeypatch.context() as patched:
            patched.setattr(book._database, "write", write)
            assert await book.called_back("other") is None
            assert await book.called_back("") is None
        found = await book.called_back("h1")
        assert found is not None
        assert found.job_id == ASKED.job_id
        assert await book.called_back("h1") is None


async def test_results_are_found_by_study_job_and_object() -> None:
    async with opened() as book:
        await book.note(RESULT)
        await book.note(replace(RESULT, sop_instance_uid="1.2.4.2", at=111.0))
        changed = replace(RESULT, state=ResultState.QUARANTINED, why="odd", at=112.0)
        await book.note(changed)
        assert [one.sop_instance_uid for one in await book.results(study="1.2", limit=9)] == [
            "1.2.4.1", "1.2.4.2",
        ]  # fmt: skip
        assert len(await book.results(job_id=ASKED.job_id, limit=1)) == 1
        assert await book.results(study="1.9", limit=9) == []
        assert await book.result("1.2.4.1") == changed
        assert await book.result("1.9") is None


def record(
    number: int, sop_class: str = CT, analyses: tuple[str, ...] = ("lung",)
) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid=sop_class,
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"k{number}",
        size=1,
        data_set_offset=0,
        digest="",
        analyses=analyses,
    )


async def test_a_series_is_due_once_nothing_has_come_for_a_while() -> None:
    clock = Clock()
    async with open_database() as database:
        book = DatabaseAnalyses(database, quiet_seconds=60.0, now=clock)
        new = AddResult(AddOutcome.ADDED)
        await database.write(book.added, [(record(1), new), (record(2, analyses=()), new)])
        clock.now += 50
        await database.write(book.added, [(record(3), new)])
        clock.now += 50
        assert await book.due_triggers(9) == []
        clock.now += 10
        (due,) = await book.due_triggers(9)
        assert (due.service, due.series_instance_uid) == ("lung", "1.2.3")
        # More has come before the job was asked for.
        await database.write(book.added, [(record(4), new)])
        await book.triggered(due)
        clock.now += 60
        (due,) = await book.due_triggers(9)
        await book.triggered(due)
        assert await book.due_triggers(9) == []


@pytest.mark.parametrize(
    ("sop_class", "outcome"), [(SEG, AddOutcome.ADDED), (CT, AddOutcome.DUPLICATE)]
)
async def test_results_and_what_is_here_already_trigger_nothing(
    sop_class: str, outcome: AddOutcome
) -> None:
    clock = Clock()
    async with open_database() as database:
        book = DatabaseAnalyses(database, quiet_seconds=60.0, now=clock)
        await database.write(book.added, [(record(1, sop_class), AddResult(outcome))])
        clock.now += 100
        assert await book.due_triggers(9) == []


def assessment(number: int, **changes: object) -> Assessment:
    made = Assessment(
        sop_instance_uid=f"1.9.{number}",
        study_instance_uid="1.2",
        result="1.2.4.1",
        result_class=SEG,
        service="lung",
        assessor="al",
        opinion=Opinion(verdict=Verdict.ACCEPT),
        at=float(number),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def test_assessments_are_found_and_the_last_word_on_each_result_counts() -> None:
    async with open_database() as database:
        book = DatabaseAssessments(database)
        first = assessment(1)
        second = assessment(
            2,
            predecessor="1.9.1",
            assessor="bo",
            opinion=Opinion(
                verdict=Verdict.REJECT,
                status=AssessmentStatus.AMENDED,
                institution="H",
                comment="c",
                reason="AI-21",
            ),
        )
        other = assessment(3, result="1.2.4.2", study_instance_uid="1.3", service="")
        for one in (first, second, other):
            assert await book.begin(one, 60.0)
            assert await book.add(one)
        assert await book.add(first)  # it is, once
        assert await book.find(result="1.2.4.1", limit=9) == [second, first]
        assert await book.find(study="1.3", limit=9) == [other]
        assert await book.find(assessor="bo", limit=9) == [second]
        assert await book.find(limit=1) == [other]
        assert [(one.service, one.verdict, one.results) for one in await book.statistics()] == [
            ("", Verdict.ACCEPT, 1),
            ("lung", Verdict.REJECT, 1),
        ]


async def test_of_assessments_at_once_one_is_made() -> None:
    clock = Clock()
    async with open_database() as database:
        book = DatabaseAssessments(database, now=clock)
        mine, yours = assessment(1), assessment(2, assessor="bo")
        assert await book.begin(mine, 60.0)
        assert not await book.begin(yours, 60.0)
        assert await book.add(mine)
        # It was to be the first, and is not any more.
        assert not await book.begin(yours, 60.0)
        assert not await book.add(yours)
        amended = replace(yours, predecessor=mine.sop_instance_uid)
        assert await book.begin(amended, 60.0)
        await book.give_up(amended)
        assert not await book.add(amended)
        third = assessment(3, predecessor=mine.sop_instance_uid)
        assert await book.begin(third, 60.0)
        assert await book.add(third)
        assert await book.find(limit=9) == [third, mine]


async def test_who_dies_over_an_assessment_keeps_nobody_from_another() -> None:
    clock = Clock()
    async with open_database() as database:
        book = DatabaseAssessments(database, now=clock)
        dead, next_one = assessment(1), assessment(2)
        assert await book.begin(dead, 60.0)
        clock.now += 59
        assert not await book.begin(next_one, 60.0)
        clock.now += 2
        assert await book.begin(next_one, 60.0)
        # It was not dead, and comes too late.
        assert not await book.add(dead)
        assert await book.add(next_one)
        assert await book.find(limit=9) == [next_one]
        amended = assessment(3, predecessor=next_one.sop_instance_uid)
        assert await book.begin(amended, 60.0)
        # As a server does that owns the database, at its start.
        await database.write(release_stale)
        assert await book.begin(replace(amended, sop_instance_uid="1.9.4"), 60.0)


@pytest.mark.parametrize("how", ["start", "next", "given up"])
async def test_an_assessment_whose_report_was_stored_is_kept(how: str) -> None:
    """Whoever stored it died before it was added, or was never answered: the report is no result
    to be assessed."""
    clock = Clock()
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=clock))
        stored = replace(
            record(9, SEG),
            sop_instance_uid="1.9.1",
            attributes={0x0020000D: "1.2", 0x0020000E: "1.2.3", 0x00080018: "1.9.1"},
        )
        mine, lost = assessment(1), assessment(2, result="1.2.4.2")
        for one in (mine, lost):
            assert await stores.assessments.begin(one, 60.0)
        await stores.index.add([stored])
        assert await stores.assessments.find(limit=9) == []
        if how == "start":
            await database.write(release_stale)
        elif how == "given up":
            for one in (mine, lost):
                await stores.assessments.give_up(one)
        else:
            clock.now += 61
            # Who comes next is not the first.
            assert not await stores.assessments.begin(assessment(3), 60.0)
            after = assessment(4, predecessor=mine.sop_instance_uid)
            assert await stores.assessments.begin(after, 60.0)
        assert await stores.assessments.find(limit=9) == [mine]
        assert await stores.assessments.add(mine)
        assert not await stores.assessments.add(lost)
        assert await stores.assessments.find(limit=9) == [mine]


@pytest.mark.parametrize("how", ["added", "died"])
async def test_an_assessment_whose_report_is_stored_too_late_follows_the_next(how: str) -> None:
    """Whoever stored it took longer than it had, and somebody else was heard meanwhile."""
    clock = Clock()
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=clock))
        book = stores.assessments
        late, heard = assessment(1), assessment(2, assessor="bo")
        assert await book.begin(late, 60.0)
        clock.now += 61
        assert await book.begin(heard, 60.0)
        stored = replace(
            record(9, SEG),
            sop_instance_uid=late.sop_instance_uid,
            attributes={0x0020000D: "1.2", 0x0020000E: "1.2.3", 0x00080018: late.sop_instance_uid},
        )
        await stores.index.add([stored])
        assert await book.add(heard)
        if how == "added":
            assert await book.add(late)
        else:
            clock.now += 61
            await book.begin(assessment(3), 60.0)
        follows = replace(late, predecessor=heard.sop_instance_uid)
        assert sorted(await book.find(limit=9), key=lambda one: one.sop_instance_uid) == [
            follows,
            heard,
        ]
        # Each result counts once.
        assert [one.results for one in await book.statistics()] == [1]
        assert await book.add(late)
        assert follows in await book.find(limit=9)


async def test_what_is_gone_for_good_is_forgotten_with_what_was_said_of_it() -> None:
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=Clock()))
        kept = replace(
            record(9, SEG),
            attributes={0x0020000D: "1.2", 0x0020000E: "1.2.3", 0x00080018: "1.2.3.9"},
        )
        await stores.index.add([kept])
        await stores.analyses.begin(ASKED)
        await stores.analyses.end(ASKED.job_id, RequestState.COMPLETED, 120.0)
        for uid in ("1.2.3.9", "1.2.3.8"):
            await stores.analyses.note(replace(RESULT, sop_instance_uid=uid))
            said = assessment(1, result=uid, sop_instance_uid=f"{uid}.1", service=uid)
            assert await stores.assessments.begin(said, 60.0)
            assert await stores.assessments.add(said)
        gone = ["1.2.3.8", "1.2.3.9"]
        await database.write(forget_analyses, gone, ["1.2"])
        assert await stores.analyses.result("1.2.3.8") is None
        assert await stores.analyses.result("1.2.3.9") is not None
        assert [one.result for one in await stores.assessments.find(limit=9)] == ["1.2.3.9"]
        assert await stores.analyses.get(ASKED.job_id) is not None
        await stores.index.remove(["1.2.3.9"])
        await database.write(forget_analyses, gone, ["1.2"])
        assert await stores.analyses.result("1.2.3.9") is None
        assert await stores.assessments.find(limit=9) == []
        assert await stores.analyses.get(ASKED.job_id) is None
