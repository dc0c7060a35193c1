"""Studies that others have shared, over the web: found, shown, fetched, recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, ValueList
from isocenter.services.archive.ports import Index
from isocenter.services.errors import StorageError
from isocenter.services.integration.sharing.manifest import ManifestError
from isocenter.services.integration.sharing.ports import PublishingError, SharedDocument
from isocenter.services.integration.sharing.received_manifest import ReceivedManifest
from isocenter.services.integration.sharing.studies_of_others import StudiesOfOthers
from isocenter.services.net.http.client_errors import HttpClientError, HttpStatusError
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.notices import FunctionUsed, Notices
from isocenter.services.web.principal import asker_of, caller_name, caller_of
from isocenter.services.web.publications import no_repository


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQuery:
    """Documents that somebody asks a repository for.

    Attributes:
        repository: by its name in the settings.
        patient_id, issuer: as this archive knows the patient.
        document: its unique ID; empty: all.
    """

    repository: str
    patient_id: str
    issuer: str = ""
    document: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownManifest:
    """A manifest, and what could be done with it.

    Attributes:
        place: from which the study would be fetched; empty: from nowhere.
        obstacle: why from nowhere.
    """

    document: SharedDocument
    manifest: ReceivedManifest
    place: str
    obstacle: str


class StudiesElsewhere:
    """Asks repositories for people and programs."""

    def __init__(self, shared: StudiesOfOthers, index: Index, notices: Notices) -> None:
        self._shared = shared
        self._index = index
        self._notices = notices

    @property
    def repositories(self) -> Collection[str]:
        """Their names."""
        return self._shared.repositories.keys()

    async def find(self, request: Request, wanted: DocumentQuery) -> Sequence[SharedDocument]:
        """Manifests of a patient that a repository has.

        Raises:
            HttpError: there is no such repository (404), it refuses or nobody outside knows the
                patient (409), it cannot be reached (502), or nothing can be read now (503).
        """
        if wanted.repository not in self._shared.repositories:
            raise no_repository(self.repositories)
        if not wanted.patient_id:
            raise HttpError(400, "INVALID_REQUEST", "name a patient: the Patient ID is empty")
        # Before it leaves: whatever becomes of the question, somebody else has heard it.
        self._tell(request, f"documents of a patient listed at repository {wanted.repository}")
        async with _asking():
            found = await self._shared.find(wanted.repository, wanted.patient_id, wanted.issuer)
        request.told["matches"] = len(found)
        return found

    async def show(self, request: Request, wanted: DocumentQuery) -> ShownManifest:
        """A manifest, read from the repository.

        Raises:
            HttpError: as of `find`, or the patient has no such document there (404).
        """
        document = await self._document(request, wanted)
        async with _asking():
            manifest = await self._shared.read(wanted.repository, document)
            place, obstacle = "", ""
            try:
                place = await self._shared.place_of(wanted.repository, manifest)
            except ManifestError as error:
                obstacle = str(error)
        self._tell(
            request, f"manifest {manifest.document_uid} read from repository {wanted.repository}"
        )
        return ShownManifest(document=document, manifest=manifest, place=place, obstacle=obstacle)

    async def fetch(self, request: Request, wanted: DocumentQuery) -> tuple[str, bool]:
        """Have the study of a manifest retrieved.

        Returns:
            The ID of the job, and False where one is at it already.

        Raises:
            HttpError: as of `show`.
        """
        document = await self._document(request, wanted)
        async with _asking():
            job_id, is_new, manifest = await self._shared.fetch(
                wanted.repository,
                document,
                requested_by=caller_name(caller_of(request)),
                asker=asker_of(request),
            )
        study = manifest.study_instance_uid
        self._tell(request, f"study {study} fetched by repository {wanted.repository}")
        return job_id, is_new

    async def instances_here(self, study_instance_uids: Collection[str]) -> dict[str, int]:
        """By study: how many instances this archive has; nothing of those that it has not.

        Raises:
            HttpError: it cannot be read now (503).
        """
        counts: dict[str, int] = {}
        wanted = filter(None, dict.fromkeys(study_instance_uids))
        async with _asking():
            while uids := tuple(islice(wanted, _TOGETHER)):
                criterion = Criterion(_STUDY, ValueList(uids))
                tags = (_STUDY, _NUMBER_OF_INSTANCES)
                query = Query(level=Level.STUDY, criteria=(criterion,), return_tags=tags)
                for row in (await self._index.find_page(query, Page(limit=len(uids)))).matches:
                    counts[row[_STUDY]] = int(row.get(_NUMBER_OF_INSTANCES) or 0)
        return counts

    async def _document(self, request: Request, wanted: DocumentQuery) -> SharedDocument:
        found = await self.find(request, wanted)
        document = next((one for one in found if one.uid == wanted.document), None)
        if document is None:
            raise HttpError(404, "NOT_FOUND", "the repository has no such manifest of this patient")
        return document

    def _tell(self, request: Request, what: str) -> None:
        self._notices.publish(FunctionUsed(caller=caller_of(request), what=what))


#: Number of Study Related Instances.
_NUMBER_OF_INSTANCES: Final = 0x0020_1208
_STUDY: Final = UNIQUE_KEY[Level.STUDY]
#: Studies of one question: of a page as a rule all.
_TOGETHER: Final = 500


@asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    """What goes wrong with a repository, as an answer."""
    try:
        yield
    except (ManifestError, PublishingError) as error:
        raise HttpError(409, "NOT_SHARED", str(error)) from error
    except HttpStatusError as error:
        # Without what is said of it, which may name whom it is about.
        said = f"the repository answered {error.status}"
        raise HttpError(502, "REPOSITORY_FAILED", said) from error
    except HttpClientError as error:
        raise HttpError(502, "REPOSITORY_FAILED", str(error)) from error
    except StorageError as error:
        raise HttpError(
            503, "UNAVAILABLE", "nothing can be read or written down now", [("retry-after", "60")]
        ) from error
