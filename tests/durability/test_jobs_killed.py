"""`kill -9` at any moment under many jobs: each ends once, and every object is where it should be.

With ``ISOCENTER_TEST_JOBS`` and ``ISOCENTER_TEST_KILLS`` there are more of both.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from time import monotonic

import pytest
import trio

from isocenter.services import composition
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.services.workflow.nodes.node import new_node
from support.processes import isocenter_command, served_archive, wait_until
from support.studies import write_studies

pytestmark = [pytest.mark.slow]

JOBS = int(os.environ.get("ISOCENTER_TEST_JOBS", "40"))
KILLS = int(os.environ.get("ISOCENTER_TEST_KILLS", "3"))
#: Seconds for all jobs that are left after the last kill, and for a command about all objects.
PATIENCE = 120.0 + JOBS
#: Several with the node at once: each kill meets them at different points.
SERVED = ("--no-http", "--no-monitoring")
SETTINGS = "[jobs]\nat_once_per_node = 4\n"


async def submit(settings: Settings, port: int, studies: Sequence[str]) -> None:
    async with composition.open_stores(settings) as stores:
        assert await stores.nodes.add(new_node(f"ISOCENTER@127.0.0.1:{port}", "OTHER"))
        for study in studies:
            keys = (("StudyInstanceUID", study),)
            request = JobRequest(kind=JobKind.RETRIEVE, node="OTHER", keys=keys)
            _, is_new = await stores.jobs.submit(request)
            assert is_new


async def jobs_of(settings: Settings) -> Sequence[Job]:
    async with composition.open_stores(settings) as stores:
        return await stores.jobs.jobs(limit=JOBS + 1)


async def studies_of(settings: Settings) -> list[str]:
    found: dict[str, None] = {}
    async with (
        composition.open_archive_parts(settings, lock=False, recover=False) as parts,
        parts.archive.index.instances() as blocks,
    ):
        async for block in blocks:
            found.update(dict.fromkeys(one.study_instance_uid for one in block))
    return list(found)


def test_each_job_ends_once_and_nothing_is_lost(tmp_path: Path) -> None:
    chance = Random(JOBS * 1_000 + KILLS)
    config = tmp_path / "isocenter.toml"
    config.write_text(SETTINGS)
    ours = (*SERVED, "--config", config)
    files = write_studies(tmp_path / "in", studies=JOBS, series=1, instances=2)
    here = load_settings(
        environ={}, overrides={"storage.data_dir": str(tmp_path / "here" / "data")}
    )
    there = load_settings(
        environ={}, overrides={"storage.data_dir": str(tmp_path / "there" / "data")}
    )
    with served_archive(tmp_path / "there", *SERVED) as other:
        peer = f"ISOCENTER@127.0.0.1:{other.port}"
        done = isocenter_command("storescu", peer, tmp_path / "in", seconds=PATIENCE)
        assert done.returncode == 0, done.stdout
        studies = trio.run(studies_of, there)
        assert len(studies) == JOBS
        with served_archive(tmp_path / "here", *ours):
            pass  # it makes its database
        trio.run(submit, here, other.port, studies)
        began = monotonic()
        database = tmp_path / "here" / "data" / "index.db"

        def ended() -> int:
            """Beside the server, and asked again and again: 10,000 rows are not to be read."""
            states = [state.value for state in JobState if state.is_final]
            marks = ", ".join("?" * len(states))
            with closing(sqlite3.connect(database)) as opened:
                counted = opened.execute(
                    f"SELECT count(*) FROM job WHERE state IN ({marks})",
                    states,
                )
                return int(counted.fetchone()[0])

        for kill in range(KILLS):
            with served_archive(tmp_path / "here", *ours) as server:
                # Some are over, some under way, some not begun.
                enough = (kill + chance.random()) / (KILLS + 1) * JOBS
                wait_until(lambda: ended() >= enough, server.process, PATIENCE)  # noqa: B023
                server.kill()
        with served_archive(tmp_path / "here", *ours) as server:
            wait_until(lambda: ended() == JOBS, server.process, PATIENCE)
        seconds = monotonic() - began
        print(f"{JOBS} jobs, {KILLS} kills: {seconds:.0f} s, {seconds / JOBS * 1e3:.0f} ms a job")
        jobs = trio.run(jobs_of, here)
    assert len(jobs) == JOBS
    assert {job.state for job in jobs} == {JobState.COMPLETED}, {job.last_fault for job in jobs}
    assert {job.progress.total for job in jobs} == {2}
    assert {job.progress.done + job.progress.skipped for job in jobs} == {2}
    assert sorted(trio.run(studies_of, here)) == sorted(studies)
    verified = isocenter_command(
        "db", "verify", "--data-dir", tmp_path / "here" / "data", seconds=PATIENCE
    )
    assert verified.returncode == 0, verified.stdout
    assert f"{len(files)} instances" in verified.stdout.replace(",", "")
