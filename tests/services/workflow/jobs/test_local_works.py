"""Jobs that ask no node: objects verified, studies exported."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread

from isocenter.services import composition
from isocenter.services.archive.export.service import Exporter
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.jobs.job import JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.local_works import LocalWorks
from services.archive_support import STUDY, data_set, store, uid
from services.workflow.jobs.test_runner import world

VERIFY = JobRequest(kind=JobKind.VERIFY, node="", keys=(("StudyInstanceUID", STUDY),))
EXPORT = JobRequest(kind=JobKind.EXPORT, node="", requested_by="al")


async def test_objects_are_compared_with_their_digests(tmp_path: Path) -> None:
    async with world(storage__data_dir=str(tmp_path)) as here:
        for number in (1, 2, 3):
            await store(here.parts.archive, number)
        await store(here.parts.archive, 9, data_set(9, study="1.2.9", series="1.2.9.1"))
        job = await here.done(VERIFY)
        assert (job.state, job.progress.done, job.attempts) == (JobState.COMPLETED, 3, 1)
        assert job.progress.size > 0
        stored = (await here.parts.archive.index.get([uid(2)]))[uid(2)]
        path = tmp_path / "objects" / stored.object_key
        path.chmod(0o600)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        job = await here.done(VERIFY)
        assert (job.state, job.progress.done, job.progress.failed) == (JobState.FAILED, 2, 1)
        (failed,) = await here.desk.failures(job, 9)
        assert failed.sop_instance_uid == uid(2)
        assert job.attempts == 1, "it would fail again"


async def test_studies_are_written_to_a_folder_of_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    async with world(jobs__export_folder=str(folder)) as here:
        for number in (1, 2):
            await store(here.parts.archive, number)
        await store(here.parts.archive, 9, data_set(9, study="1.2.9", series="1.2.9.1"))
        job = await here.done(EXPORT)
        assert (job.state, job.last_fault) == (JobState.COMPLETED, "")
        assert job.progress.done == 3
        files = sorted((folder / job.job_id).rglob("*.dcm"))
        assert [str(dcmread(file).SOPInstanceUID) for file in files] == [uid(1), uid(2), uid(9)]
        assert [path.name for path in folder.iterdir()] == [job.job_id]


async def test_what_a_crash_left_written_is_not_written_again(tmp_path: Path) -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with composition.open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        queue = parts.stores.jobs
        job_id, _ = await queue.submit(EXPORT)
        written = tmp_path / job_id / STUDY
        written.mkdir(parents=True)
        job = await queue.claim("w", 600.0, not_for=())
        assert job is not None
        works = LocalWorks(parts.archive, Exporter(parts.archive), tmp_path)
        await works.export(job, queue)
        now = await queue.get(job_id)
        assert now is not None
        assert (now.progress.total, now.progress.done) == (1, 1)
        assert not list(written.iterdir())


async def test_what_cannot_be_is_told_at_once() -> None:
    async with world() as here:
        job = await here.done(EXPORT)
        assert job.state is JobState.FAILED
        assert "jobs.export_folder" in job.last_fault
        job = await here.done(VERIFY)
        assert (job.state, job.last_fault) == (
            JobState.FAILED, "the archive has no such study",
        )  # fmt: skip
