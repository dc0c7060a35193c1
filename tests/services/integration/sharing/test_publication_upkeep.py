"""Publications that nobody came back to, until what stands is what ought to.

The recipient is of our own (`support.document_recipient`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from isocenter.services.errors import StorageError
from isocenter.services.integration.sharing import publication_upkeep
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    StudyManifest,
)
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.ports import Publication, PublishingError
from isocenter.services.integration.sharing.publication_upkeep import (
    COMPARE_SECONDS,
    PublicationsMeasured,
    PublicationUpkeep,
)
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.workflow.jobs.job import JobState
from isocenter.services.workflow.jobs.turns import AskLaterError
from services.integration.sharing.test_publishing import STUDY, World, add_instance, opened
from storage.index_contract import make_record


class Kept:
    """A world, and whoever looks after its publications."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[PublicationsMeasured] = []

    @property
    def upkeep(self) -> PublicationUpkeep:
        world = self.world
        return PublicationUpkeep(
            world.book, world.reader, world.desk, self.told.append, now=lambda: world.now
        )

    async def look(self, *, later: float = 0.0) -> None:
        self.world.now += later
        await self.upkeep.look()

    async def has_job(self) -> bool:
        jobs = await self.world.queue.jobs(states=(JobState.WAITING,), limit=1)
        return bool(jobs)

    async def give_up(self) -> None:
        """The job that is due fails, and its retries are over."""
        job = await self.world.job()
        with pytest.raises(HttpStatusError):
            await self.world.publishing().work(job, self.world.queue)
        await self.world.queue.end(job, JobState.FAILED)


@asynccontextmanager
async def kept() -> AsyncIterator[Kept]:
    async with opened() as world:
        yield Kept(world)


async def test_a_withdrawal_that_was_given_up_is_done_when_the_repository_is_back() -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        await world.desk.ask("regional", STUDY, is_wanted=False, requested_by="alice")
        world.recipient.fails = [503]
        await site.give_up()
        state = await world.state()
        assert (state.state, state.fault) == ("to be withdrawn", "it answered 503")
        assert len(world.recipient.current) == 1
        await site.look()
        assert not await site.has_job(), "it was tried a moment ago"
        await site.look(later=300.0)
        await world.work()
        assert world.recipient.current == []
        state = await world.state()
        assert (state.state, state.behind_since, state.fault) == ("not published", None, "")
        await site.look(later=COMPARE_SECONDS + 1)
        assert not await site.has_job()


async def test_a_replacement_that_was_given_up_is_made_up_for() -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        await add_instance(world, 1)
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        world.recipient.fails = [503]
        await site.give_up()
        assert (await world.state()).state == "sent", "nobody knows whether it has arrived"
        await site.look(later=301.0)
        await world.work()
        assert (await world.state()).state == "published"
        (reference,) = world.recipient.current
        assert reference["relatesTo"][0]["code"] == "replaces"


async def test_intervals_grow_and_never_end() -> None:
    async with kept() as site:
        world = site.world
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        waits = []
        for _ in range(12):
            world.recipient.fails = [400, 400]
            with pytest.raises(PublishingError):
                await world.work()
            state = await world.state()
            assert state.next_attempt_at is not None
            waits.append(state.next_attempt_at - world.now)
            await site.look(later=waits[-1] - 1)
            assert not await site.has_job()
            await site.look(later=1.0)
            assert await site.has_job()
        assert waits[0] == 300.0
        assert waits == sorted(waits)
        assert waits[-1] == 6 * 3_600.0
        assert world.now > 1_000_000.0 + 86_400.0
        await world.work()
        assert (await world.state()).state == "published"


async def test_a_study_that_cannot_be_compared_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        await world.book.behind("regional", STUDY, world.now)
        other = f"{STUDY}.9"
        await world.book.want("regional", other, is_wanted=True)
        read = ManifestReader.read

        async def broken(reader: ManifestReader, study: str) -> StudyManifest | None:
            if study == other:
                raise IndexError("Mustermann")
            return await read(reader, study)

        monkeypatch.setattr(ManifestReader, "read", broken)
        await site.look(later=COMPARE_SECONDS + 1)
        assert await site.has_job(), "what is due is done"
        assert not await world.book.to_compare(world.now, 10), "it is looked at again in a day"
        assert f"{other} cannot be compared: internal error (IndexError)" in caplog.text


async def test_a_job_that_is_at_it_gets_no_second_one() -> None:
    async with kept() as site:
        world = site.world
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        await site.look()
        await site.look(later=301.0)
        assert len(await world.queue.jobs(limit=10)) == 1


async def test_a_withdrawal_whose_job_was_cancelled_is_done_all_the_same() -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        await world.desk.ask("regional", STUDY, is_wanted=False, requested_by="alice")
        await world.queue.end(await world.job(), JobState.CANCELLED)
        await site.look()
        await world.work()
        assert (await world.state()).state == "not published"


async def test_what_somebody_has_cancelled_before_it_began_is_not_published() -> None:
    async with kept() as site:
        world = site.world
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        await world.queue.end(await world.job(), JobState.CANCELLED)
        for _ in range(4):
            await site.look(later=COMPARE_SECONDS)
        assert not await site.has_job()
        state = await world.state()
        assert (state.state, state.behind_since is None) == ("waiting", False)


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_what_no_event_told_of_is_found_by_comparing(is_deleted: bool) -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        await site.look(later=COMPARE_SECONDS - 1)
        if is_deleted:
            await world.index.remove(["1.1.1.1", "1.1.1.2"])
        else:
            await add_instance(world, 1)
        await site.look()
        assert not await site.has_job(), "it was up to date less than a day ago"
        await site.look(later=2.0)
        await world.work()
        assert len(world.recipient.current) == (0 if is_deleted else 1)
        assert len(world.recipient.references) == (1 if is_deleted else 2)


async def test_what_became_unpublishable_says_so() -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        asked = len(world.recipient.asked)
        await world.index.remove(["1.1.1.1", "1.1.1.2"])
        await world.index.add(
            [make_record("1.1.1.1", "1.1.1", STUDY, PatientID="P1", IssuerOfPatientID="X")]
        )
        await site.look(later=COMPARE_SECONDS + 1)
        with pytest.raises(ManifestError):
            await world.work()
        state = await world.state()
        assert (state.state, state.sent_uid) == ("waiting", ""), "nothing was sent"
        assert "who gave" in state.fault
        assert world.recipient.current == [], "it is perhaps another patient's"
        assert len(world.recipient.asked) == asked + 1
        assert len(world.recorded) == 1


async def test_settings_by_which_nobody_is_known_deprecate_nothing() -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        world.authorities = AssigningAuthorities()
        await site.look(later=COMPARE_SECONDS + 1)
        assert not await site.has_job()
        assert len(world.recipient.current) == 1


async def test_an_answer_that_never_came_is_cleared_up_by_comparing() -> None:
    async with kept() as site:
        world = site.world
        await world.book.want("regional", STUDY, is_wanted=True)
        wanted = await world.state()
        sent = "xds-i:other:digest"
        assert await world.book.sending(wanted, "2.25.77", sent, at=world.now, now=world.now)
        await site.look()
        job = await world.job()
        with pytest.raises(AskLaterError):
            await world.publishing().work(job, world.queue)
        await world.queue.give_way(job)
        world.now += 360.0
        await world.publishing().work(await world.job(), world.queue)
        assert (await world.state()).state == "published"


async def test_what_is_in_order_makes_no_work() -> None:
    async with kept() as site:
        world = site.world
        await world.ask()
        asked = len(world.recipient.asked)
        for _ in range(3):
            await site.look(later=COMPARE_SECONDS + 1)
        assert len(world.recipient.asked) == asked
        assert not await site.has_job()


async def test_how_far_repositories_are_behind_is_told() -> None:
    async with kept() as site:
        world = site.world
        await site.look()
        assert site.told[-1] == PublicationsMeasured(
            behind={"regional": 0}, seconds={"regional": 0.0}
        )
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        await site.look(later=90.0)
        assert site.told[-1] == PublicationsMeasured(
            behind={"regional": 1}, seconds={"regional": 90.0}
        )


async def test_a_repository_that_the_settings_have_no_more_is_not_asked() -> None:
    async with kept() as site:
        world = site.world
        await world.book.want("gone", STUDY, is_wanted=False)
        nothing = Publication(repository="gone", study_instance_uid=STUDY)
        assert await world.book.settled(replace(nothing, document_uid="2.25.1"), nothing)
        await site.look()
        assert not await site.has_job()
        await world.book.behind("gone", STUDY, world.now)
        await site.look()
        assert not await site.has_job()
        (found,) = await world.book.all_behind(10)
        assert "no such repository" in found.fault
        assert list(site.told[-1].behind) == ["regional"]


async def test_a_fault_ends_no_server(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept() as site:
        faults = [StorageError("the disk is full"), ValueError("Doe^Jane")]

        class Broken(PublicationUpkeep):
            async def look(self) -> None:
                if faults:
                    raise faults.pop(0)
                done.set()

        done = trio.Event()
        monkeypatch.setattr(publication_upkeep, "LOOK_SECONDS", 0.0)
        world = site.world
        upkeep = Broken(
            world.book, world.reader, world.desk, site.told.append, now=lambda: world.now
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            await done.wait()
            nursery.cancel_scope.cancel()
    assert "the disk is full" in caplog.text
    assert "ValueError" in caplog.text
    assert "Doe" not in caplog.text
