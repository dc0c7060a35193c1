"""Composition of sharing: manifests of studies, and the repositories that get them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import Index
from isocenter.services.composition.export import export_recorder
from isocenter.services.integration.sharing.manifest import AssigningAuthorities, Retrieval
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.mhd_publisher import MhdPublisher
from isocenter.services.integration.sharing.mhd_source import MhdSource
from isocenter.services.integration.sharing.ports import (
    DocumentSource,
    OpenPublisher,
    OpenSource,
    Publisher,
    PublishingError,
)
from isocenter.services.integration.sharing.publication_upkeep import PublicationUpkeep
from isocenter.services.integration.sharing.publishing import (
    PUBLISHED_AFTER,
    Publishing,
    PublishingDesk,
)
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.integration.sharing.studies_of_others import (
    StudiesOfOthers,
    fetched_document,
)
from isocenter.services.integration.sharing.xds_publisher import XdsPublisher
from isocenter.services.integration.sharing.xds_source import XdsSource
from isocenter.services.net.http.client import HttpClient, HttpDeadlines
from isocenter.services.net.tls.contexts import TlsFiles, client_context
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import SecretFileError, read_secret
from isocenter.services.workflow.events.consumer import Consumer, Publication
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job
from isocenter.services.workflow.jobs.local_works import LocalWork
from isocenter.services.workflow.jobs.ports import JobItems
from isocenter.services.workflow.jobs.retrieving import retrieve
from isocenter.storage.stores import Stores

#: Where DICOMweb is below the root of the web services.
_DICOMWEB: Final = "/dicomweb"
#: Before the names of the consumers of events that repositories are.
_CONSUMER: Final = "sharing-"


def retrieval_of(settings: Settings) -> Retrieval:
    """Where others are told that instances can be had."""
    sharing, root = settings.sharing, settings.web.public_root.rstrip("/")
    base = sharing.wado_rs.rstrip("/") or (
        root + _DICOMWEB if root and settings.web.enabled else ""
    )
    return Retrieval(
        wado_rs=base, location_uid=sharing.location_uid, ae_title=settings.server.ae_title
    )


def authorities_of(settings: Settings) -> AssigningAuthorities:
    """Who gives identifiers, as others know it."""
    sharing = settings.sharing
    return AssigningAuthorities(
        patient_ids=sharing.patient_authority,
        by_issuer=sharing.oids_by_issuer,
        accession_numbers=sharing.accession_authority,
    )


def reader_of(settings: Settings, index: Index) -> ManifestReader:
    """What makes manifests for others."""
    return ManifestReader(index, retrieval_of(settings), authorities_of(settings))


def repositories_of(settings: Settings) -> dict[str, Repository]:
    """By name, in their order."""
    return {one.name: one for one in settings.sharing.repositories}


def publishing_of(settings: Settings, index: Index, stores: Stores, process: str) -> Publishing:
    """What jobs of publishing do.

    Args:
        process: who tells the audit trail.
    """
    return Publishing(
        stores.publications,
        reader_of(settings, index),
        repositories_of(settings),
        publisher_opener(settings),
        export_recorder(settings, index, process),
        now=stores.clock,
    )


def publishing_desk_of(
    settings: Settings, index: Index, stores: Stores, jobs: JobDesk
) -> PublishingDesk | None:
    """Takes what is to be published; None: there is no repository."""
    repositories = repositories_of(settings)
    if not repositories:
        return None
    return PublishingDesk(
        stores.publications, reader_of(settings, index), repositories, jobs, now=stores.clock
    )


def publication_upkeep(
    settings: Settings, index: Index, stores: Stores, notices: Notices
) -> PublicationUpkeep | None:
    """Looks after what was published; None: there is nothing to be looked after."""
    # Whoever works jobs off looks for them by itself.
    jobs = JobDesk(stores.jobs, lambda: None)
    desk = publishing_desk_of(settings, index, stores, jobs)
    if desk is None or not settings.jobs.enabled:
        return None
    return PublicationUpkeep(
        stores.publications, reader_of(settings, index), desk, notices.publish, now=stores.clock
    )


def consumers_of(settings: Settings) -> tuple[Consumer, ...]:
    """Repositories as consumers of events: what they have follows what is here."""
    if not settings.jobs.enabled:
        return ()
    return tuple(
        Consumer(name=_CONSUMER + one.name, target=Publication(one.name), kinds=PUBLISHED_AFTER)
        for one in settings.sharing.repositories
    )


def publisher_opener(settings: Settings) -> OpenPublisher:
    """Speaks to repositories: certificates are verified, and nothing goes anywhere else."""

    @asynccontextmanager
    async def open_publisher(repository: Repository) -> AsyncIterator[Publisher]:
        async with _speaking(settings, repository) as speak:
            client = await speak(repository.url)
            if repository.protocol is Protocol.MHD:
                yield MhdPublisher(client, repository, settings.server.zone)
                return
            registry = await speak(repository.registry) if repository.registry else None
            yield XdsPublisher(
                client,
                registry,
                repository,
                now=lambda: datetime.now(UTC),
                zone=settings.server.zone,
            )

    return open_publisher


def source_opener(settings: Settings) -> OpenSource:
    """Asks repositories for what others have shared, in the same way."""

    @asynccontextmanager
    async def open_source(repository: Repository) -> AsyncIterator[DocumentSource]:
        async with _speaking(settings, repository) as speak:
            if repository.protocol is Protocol.MHD:
                yield MhdSource(await speak(repository.url), repository)
                return
            registry = await speak(repository.registry) if repository.registry else None
            documents = await speak(repository.documents) if repository.documents else None
            yield XdsSource(registry, documents, repository)

    return open_source


def shared_studies_of(settings: Settings, stores: Stores, jobs: JobDesk) -> StudiesOfOthers:
    """Finds what others have shared, and has it retrieved."""
    return StudiesOfOthers(
        repositories_of(settings),
        source_opener(settings),
        authorities_of(settings),
        stores.nodes,
        jobs,
    )


def fetch_work(settings: Settings, archive: Archive, notices: Notices) -> LocalWork:
    """What jobs of fetching do: they have the study of a manifest here, by RAD-69."""

    async def work(job: Job, queue: JobItems) -> None:
        # What needs the extra `web` is imported by those who use it.
        from isocenter.services.web.imaging_documents.consumer import ImagingSource

        name = job.request.node
        found = (one for one in settings.sharing.repositories if one.destination == name)
        repository = next(found, None)
        if repository is None or not repository.imaging:
            raise PublishingError(f"the settings have no {name} with imaging, for RAD-69")
        document = fetched_document(job.request)
        async with (
            source_opener(settings)(repository) as documents,
            _speaking(settings, repository) as speak,
        ):
            client = await speak(repository.imaging)
            source = ImagingSource(documents, document, client, archive, notices)
            await retrieve(job, queue, archive, source)

    return work


@asynccontextmanager
async def _speaking(
    settings: Settings, repository: Repository
) -> AsyncIterator[Callable[[str], Awaitable[HttpClient]]]:
    """Makes clients of the addresses of a repository, with its certificates and token."""
    tls = None
    if any(
        url.startswith("https:")
        for url in (
            repository.url,
            repository.registry,
            repository.documents,
            repository.imaging,
        )
    ):
        files = TlsFiles(ca=repository.ca, certificate=repository.certificate, key=repository.key)
        try:
            tls = await trio.to_thread.run_sync(client_context, files)
        except TlsFileError as error:
            raise PublishingError(f"repository {repository}: {error}") from error
    headers = []
    if repository.token_file is not None:
        try:
            token = await trio.to_thread.run_sync(read_secret, repository.token_file)
        except SecretFileError as error:
            raise PublishingError(f"repository {repository}: {error}") from error
        text = token.decode("ascii", "replace")
        if not text.isascii() or not text.isprintable():
            raise PublishingError(
                f"repository {repository}: {repository.token_file} holds no bearer token"
            )
        headers.append(("authorization", f"Bearer {text}"))
    deadlines = HttpDeadlines(connect=settings.deadlines.connect)
    async with AsyncExitStack() as stack:

        async def speak(url: str) -> HttpClient:
            client = HttpClient(url, tls=tls, headers=headers, deadlines=deadlines)
            return await stack.enter_async_context(client)

        yield speak
