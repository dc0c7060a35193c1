"""Jobs that ask nodes, and that have objects compressed."""

from __future__ import annotations

from typing import Any, cast

import trio
import trio.testing

from isocenter.services import composition
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.compression.ports import CompressionState
from isocenter.services.workflow.jobs.job import ItemState, JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.services.workflow.jobs.runner import JobOptions, JobRunner
from services.archive_support import STUDY, data_set, store, uid
from services.workflow.jobs.test_runner import World, other_archive, world
from support.ports import free_port

JPEG_LS = BY_KEYWORD["jpeg-ls"].uid
COMPRESS = JobRequest(
    kind=JobKind.COMPRESS, node="", keys=(("StudyInstanceUID", STUDY),), detail="jpeg-ls"
)


async def test_what_a_node_answers_is_kept() -> None:
    async with other_archive() as (other, port), world() as here:
        await store(other.archive, 1)
        await store(other.archive, 9, data_set(9, study="1.2.9", series="1.2.9.1", patient_id="Q"))
        await here.add_node(f"OTHER@127.0.0.1:{port}")
        ask = JobRequest(kind=JobKind.QUERY, node="OTHER", keys=(("PatientID", "P*"),))
        job = await here.done(ask)
        assert (job.state, job.progress.total, job.progress.done) == (JobState.COMPLETED, 1, 1)
        (study,) = await here.desk.results(job, 9)
        assert (study["study_instance_uid"], study["patient_name"]) == (STUDY, "Bäcker^Anna")
        none = await here.done(
            JobRequest(kind=JobKind.QUERY, node="OTHER", keys=(("PatientID", "X"),))
        )
        assert (none.state, await here.desk.results(none, 9)) == (JobState.COMPLETED, [])
        assert await here.steer(job.job_id, Wish.DELETE)
        assert await here.desk.results(job, 9) == []


async def test_a_node_that_is_away_is_asked_again_until_the_job_is_given_up() -> None:
    async with world(jobs__give_up_after=4) as here:
        await here.add_node(f"OTHER@127.0.0.1:{free_port()}")
        job = await here.done(JobRequest(kind=JobKind.QUERY, node="OTHER"))
        assert (job.state, await here.desk.results(job, 9)) == (JobState.FAILED, [])
        assert job.attempts > 1


async def ordered(here: World, job_id: str) -> dict[str, Any]:
    """The records of the compressor, once the job waits for them."""
    compressions = here.parts.stores.compressions
    await here.until(job_id, lambda job: job.due_at > job.since)
    return dict(await compressions.of([uid(number) for number in range(1, 9)]))


async def say(here: World, number: int, state: CompressionState, fault: str = "") -> None:
    """What the compressor would say of an object."""
    database = here.parts.archive.index._database  # type: ignore[attr-defined]
    await database.write(
        lambda connection: connection.execute(
            "UPDATE compression SET state = ?, last_fault = ?, size = 7 WHERE sop_instance_uid = ?",
            (state.value, fault, uid(number)),
        )
    )


async def test_objects_are_ordered_once_and_what_becomes_of_them_is_told() -> None:
    async with world() as here:
        for number in range(1, 5):
            await store(here.parts.archive, number)
        job_id = await here.submit(COMPRESS)
        records = await ordered(here, job_id)
        assert sorted(records) == [uid(number) for number in range(1, 5)]
        assert {each.transfer_syntax_uid for each in records.values()} == {JPEG_LS}
        assert {each.rule for each in records.values()} == {f"job {job_id}"}
        job = await here.desk.get(job_id)
        assert job is not None
        assert (job.state, job.attempts) == (JobState.WAITING, 0), "waiting is no attempt"
        await say(here, 1, CompressionState.DONE)
        await say(here, 2, CompressionState.KEPT, "it has digital signatures, which would break")
        await say(here, 3, CompressionState.FAILED, "no codec")
        await here.parts.archive.remove([uid(4)])
        job = await here.until(job_id, lambda job: job.state.is_final)
        progress = job.progress
        assert (progress.done, progress.skipped, progress.failed) == (1, 2, 1)
        assert (job.state, progress.size) == (JobState.FAILED, 7)
        (skipped,) = [
            item
            for item in await here.parts.stores.jobs.items(job_id, (ItemState.SKIPPED,), 9)
            if item.fault
        ]
        assert "signatures" in skipped.fault
        # What failed is ordered anew when somebody says so.
        assert await here.steer(job_id, Wish.RETRY)
        await here.until(job_id, lambda job: job.due_at > job.since)
        records = dict(await here.parts.stores.compressions.of([uid(3)]))
        assert records[uid(3)].state is CompressionState.DUE
        await here.steer(job_id, Wish.CANCEL)


async def test_only_lossless_transfer_syntaxes_can_be_asked_for() -> None:
    async with world() as here:
        await store(here.parts.archive, 1)
        wrong = JobRequest(kind=JobKind.COMPRESS, node="", detail="jpeg-baseline")
        job = await here.done(wrong)
        assert job.state is JobState.FAILED
        assert "is no lossless transfer syntax" in job.last_fault


async def test_what_a_command_cannot_do_is_left_to_the_server() -> None:
    """A command works off what is due where no server does; it has no compressor."""
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with composition.open_archive_parts(settings) as parts:
        stores, nobody = parts.stores, cast(Any, None)
        backoff = Backoff(first_seconds=1.0, longest_seconds=1.0, give_up_after_seconds=1.0)
        runner = JobRunner(
            stores.jobs, parts.archive, nobody, nobody, JobOptions(backoff=backoff),
            forwards=stores.forwards, closed=tuple, local={}, now=stores.clock,
        )  # fmt: skip
        job_id, _ = await stores.jobs.submit(COMPRESS)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runner.run)
                while (
                    job := await stores.jobs.get(job_id)
                ) is None or job.due_at <= job.created_at:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
        assert (job.state, job.attempts, job.claim) == (JobState.WAITING, 0, 1)
