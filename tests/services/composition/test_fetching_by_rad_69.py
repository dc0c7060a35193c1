"""Fetching of a study as a server has it done: from a repository, by its imaging document source.

Repository and source are of our own (`support.document_registry`, and the archive itself).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.archive.archive import Archive
from isocenter.services.composition.sharing import fetch_work
from isocenter.services.integration.sharing.ports import Document, PublishingError
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.integration.sharing.xds_publisher import XdsPublisher
from isocenter.services.net.http.client import HttpClient
from isocenter.services.notices import Notices
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.jobs.job import JobKind, JobRequest
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.memory import MemoryStore
from services.integration.sharing.samples import MADE_AT, identity, manifest
from services.web.imaging_documents.test_imaging_documents import (
    IMAGES,
    MANIFEST,
    STUDY,
    manifest_of,
    served,
)
from support.document_registry import REPOSITORY_OID, DocumentRegistry
from support.web_archive import Scripted, http_serving


async def test_a_study_comes_from_the_source_that_the_settings_name(tmp_path: Path) -> None:
    async with (
        served(*IMAGES) as (source, there),
        http_serving(Scripted(DocumentRegistry())) as registry,
        Archive(MemoryStore(), MemoryIndex()) as here,
        open_sqlite_database(":memory:") as database,
    ):
        config = tmp_path / "isocenter.toml"
        config.write_text(
            f"""
            [[sharing.repositories]]
            name = "regional"
            xds = "{registry}"
            documents = "{registry}"
            imaging = "{source}"
            source_oid = "1.2.3.9"
            """
        )
        settings = load_settings(config, {}, changes={})
        repository = Repository(
            name="regional", protocol=Protocol.XDS, url=registry, source_oid="1.2.3.9"
        )
        async with HttpClient(registry) as client:
            publisher = XdsPublisher(client, client, repository, now=lambda: MADE_AT)
            await publisher.publish(
                Document(
                    manifest=manifest(study_instance_uid=STUDY),
                    identity=replace(identity(), document_uid=MANIFEST),
                    content=await manifest_of(there),
                )
            )
        queue = DatabaseJobs(database)
        work = fetch_work(settings, here, Notices())
        for node, detail in (
            ("repository:regional", f"{MANIFEST} {REPOSITORY_OID}"),
            ("repository:gone", MANIFEST),
        ):
            keys = (("StudyInstanceUID", STUDY),)
            await queue.submit(JobRequest(kind=JobKind.FETCH, node=node, keys=keys, detail=detail))
        job = await queue.claim("worker", 60.0, not_for=("repository:gone",))
        assert job is not None
        await work(job, queue)
        now = await queue.get(job.job_id)
        assert now is not None
        assert (now.progress.total, now.progress.done) == (3, 3)
        kept = await here.index.get([one.SOPInstanceUID for one in IMAGES])
        assert len(kept) == 3
        other = await queue.claim("worker", 60.0, not_for=("repository:regional",))
        assert other is not None
        with pytest.raises(PublishingError, match="repository:gone"):
            await work(other, queue)
