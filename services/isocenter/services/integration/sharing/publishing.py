"""Publishing of manifests: what a repository has is made what the archive has.

A job does that for one study and one repository.  What is sent is written down before, so that a
job that was cut short finds out whether it has arrived, and sends no second document for the same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import Final
from urllib.parse import urlsplit

import orjson
import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.export.values import ExportedStudy, ExportRecorder
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import StorageError, text_of
from isocenter.services.integration.sharing.key_object_manifest import (
    KEY_OBJECT_SELECTION,
    DocumentIdentity,
    manifest_bytes,
)
from isocenter.services.integration.sharing.manifest import ManifestError, StudyManifest
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.ports import (
    ArrivalUnknownError,
    Document,
    OpenPublisher,
    Publication,
    PublicationBook,
    Publisher,
    PublishingError,
)
from isocenter.services.integration.sharing.repository import PublishWhen, Repository
from isocenter.services.net.http.client_errors import HttpStatusError, ServerUnreachableError
from isocenter.services.workflow.events.event import Kind, StoredEvent
from isocenter.services.workflow.events.targets import DeliveryError
from isocenter.services.workflow.jobs.asker import Asker
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import JobItems
from isocenter.services.workflow.jobs.turns import AskLaterError

log = logging.getLogger("isocenter.sharing")

#: Events after which a repository may have to have another manifest.
PUBLISHED_AFTER: Final = (
    Kind.STUDY_COMPLETE.value,
    Kind.STUDY_CORRECTED.value,
    Kind.STUDY_OTHER_PATIENT.value,
    Kind.INSTANCES_DELETED.value,
    Kind.INSTANCES_RESTORED.value,
)
#: Intervals after which a repository that is behind is tried again, for as long as it is.
RETRIES: Final = Backoff(
    first_seconds=300.0, longest_seconds=6 * 3_600.0, give_up_after_seconds=inf
)
#: Answers of who stands before the repository, which may do it all the same.
_OF_GATEWAYS: Final = frozenset({502, 504})
#: When somebody else may be through with it.
_LATER_SECONDS: Final = 60.0
_SOON_SECONDS: Final = 2.0
_STUDY: Final = "StudyInstanceUID"
#: Digits of a digest that tell patients of one study apart.
_WHOSE: Final = 16


class Publishing:
    """Brings repositories up to date.

    Args:
        repositories: by name.
        record: has it in the audit trail before it leaves.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: PublicationBook,
        reader: ManifestReader,
        repositories: Mapping[str, Repository],
        open_publisher: OpenPublisher,
        record: ExportRecorder,
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._reader = reader
        self._by_destination = {one.destination: one for one in repositories.values()}
        self._open_publisher = open_publisher
        self._record = record
        self._now = now

    async def work(self, job: Job, queue: JobItems) -> None:
        """The work of a job of kind `JobKind.PUBLISH`.

        Raises:
            ManifestError, PublishingError: the study cannot be published.
            HttpClientError: the repository cannot be reached, or cannot do it now.
            StorageError: the archive cannot be read now.
            AskLaterError: somebody else is at it, or has been a moment ago.
        """
        studies = [value for name, value in job.request.keys if name == _STUDY]
        repository = self._by_destination.get(job.request.node)
        if repository is None or len(studies) != 1:
            raise PublishingError(f"the settings have no {job.request.node}")
        await queue.plan(job, [], is_last=True)
        known = await self._book.get(repository.name, studies[0])
        if known is None:
            return
        try:
            await self._bring_up_to_date(repository, known, job.request.requested_by)
        except (StorageError, AskLaterError):
            raise
        except Exception as error:
            # It stays behind when this job was given up, and is tried again by the upkeep.
            now = self._now()
            await self._book.tried(
                known.repository,
                known.study_instance_uid,
                _fault_of(error),
                at=now,
                next_attempt_at=now + RETRIES.interval(known.attempts + 1),
            )
            raise

    async def _bring_up_to_date(
        self, repository: Repository, known: Publication, actor: str
    ) -> None:
        async with self._open_publisher(repository) as publisher:
            while True:
                await self._work_on(publisher, repository, known, actor)
                if await self._book.caught_up(known, self._now()):
                    return
                # Somebody has said so meanwhile, who was told that a job is at it.
                now = await self._book.get(repository.name, known.study_instance_uid)
                if now is None:
                    return
                known = now

    async def _work_on(
        self, publisher: Publisher, repository: Repository, known: Publication, actor: str
    ) -> None:
        known, unknown = await self._settled(publisher, repository, known)
        # As the archive is now: whoever changes it meanwhile has an event to tell of it.
        study = known.study_instance_uid
        manifest = await self._reader.read(study) if known.is_wanted else None
        if manifest is None:
            await self._withdraw(publisher, known, unknown)
            return
        # Of a large study that takes a while.
        digest = await trio.to_thread.run_sync(digest_of, manifest, repository)
        if known.document_uid and known.digest == digest:
            return
        there = [known.digest] if known.document_uid else []
        there += [known.sent_digest] if unknown else []
        if any(_patient_of(one) != _patient_of(digest) for one in there):
            # A document of one patient takes no place of another's (XDSPatientIdDoesNotMatch).
            known = await self._withdraw(publisher, known, unknown)
        await self._publish(publisher, repository, manifest, digest, known, actor)

    async def _settled(
        self, publisher: Publisher, repository: Repository, known: Publication
    ) -> tuple[Publication, ArrivalUnknownError | None]:
        """What the repository has, where a document was sent and no answer was written down; and
        why nobody knows."""
        if not known.sent_uid:
            return known, None
        unknown: ArrivalUnknownError | None = None
        reference: str | None = None
        try:
            reference = await publisher.find(known.sent_uid)
        except ArrivalUnknownError as error:
            unknown = error
        if reference is None:
            since = known.under_way_since
            if since is not None:
                # Another process sends it, or has died while it did: it may arrive yet, and beside
                # it would stand whatever is sent now.
                left = since + repository.arrival_seconds - self._now()
                if left > 0:
                    raise AskLaterError(min(left, _LATER_SECONDS))
            return known, unknown
        found = _published(known, reference, known.sent_uid, known.sent_digest, 0, self._now())
        await self._settle(found, known)
        return found, None

    async def _settle(self, found: Publication, was: Publication) -> None:
        """Write down what the repository has.

        Raises:
            AskLaterError: somebody else has written down another thing.
        """
        if await self._book.settled(found, was):
            return
        now = await self._book.get(was.repository, was.study_instance_uid)
        if now is not None and (now.document_uid, now.sent_uid) == (found.document_uid, ""):
            return  # the same, by whoever found it there
        raise AskLaterError(_SOON_SECONDS)

    async def _publish(
        self,
        publisher: Publisher,
        repository: Repository,
        manifest: StudyManifest,
        digest: str,
        known: Publication,
        actor: str,
    ) -> None:
        # Nothing leaves, and nothing is said to have left, of whom nobody outside knows.
        _ = manifest.patient_authority
        uid, at = known.sent_uid, known.sent_at
        if not uid or at is None or known.sent_digest != digest:
            uid, at = new_uid(), float(int(self._now()))
        identity = DocumentIdentity(
            document_uid=uid, made_at=datetime.fromtimestamp(at, UTC), form=repository.form
        )
        document = Document(
            manifest=manifest,
            identity=identity,
            content=await trio.to_thread.run_sync(manifest_bytes, manifest, identity),
            replaces=known if known.document_uid else None,
        )
        await self._record(
            [
                ExportedStudy(
                    study_instance_uid=manifest.study_instance_uid,
                    sop_classes={KEY_OBJECT_SELECTION: 1},
                    actor=actor or "isocenter",
                    place=_origin(repository.url),
                )
            ]
        )
        study = manifest.study_instance_uid
        if not await self._book.sending(known, uid, digest, at=at, now=self._now()):
            raise AskLaterError(_SOON_SECONDS)
        try:
            reference = await publisher.publish(document)
        except (PublishingError, HttpStatusError, ServerUnreachableError) as error:
            if not isinstance(error, HttpStatusError) or error.status not in _OF_GATEWAYS:
                # It was answered, or never left: nothing is under way any more.
                await self._book.answered(repository.name, study, uid)
            raise
        known = replace(known, sent_uid=uid)
        await self._settle(
            _published(known, reference, uid, digest, manifest.instance_count, self._now()), known
        )
        what = "replaced" if document.replaces else "published"
        log.info("%s: %s the manifest of study %s", repository.name, what, study)

    async def _withdraw(
        self, publisher: Publisher, known: Publication, unknown: ArrivalUnknownError | None
    ) -> Publication:
        """Deprecate what is there; what is known afterwards.

        Raises:
            PublishingError: perhaps there is another document, which nobody can name.
        """
        if known.document_uid:
            await publisher.withdraw(known)
            log.info(
                "%s: deprecated the manifest of study %s",
                known.repository,
                known.study_instance_uid,
            )
        if unknown is not None:
            raise PublishingError(
                f"repository {known.repository} may have document {known.sent_uid}, which is to be "
                f"deprecated there, and does not tell: {unknown}"
            )
        nothing = Publication(
            repository=known.repository,
            study_instance_uid=known.study_instance_uid,
            is_wanted=known.is_wanted,
        )
        await self._settle(nothing, known)
        return nothing


class PublishingDesk:
    """Takes what is to be published, by hand and by events.

    Args:
        repositories: by name, in their order.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: PublicationBook,
        reader: ManifestReader,
        repositories: Mapping[str, Repository],
        jobs: JobDesk,
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._reader = reader
        self.repositories = repositories
        self._jobs = jobs
        self._now = now

    async def of_study(self, study_instance_uid: str) -> list[Publication]:
        """What is known of a study, for each repository."""
        known = {one.repository: one for one in await self._book.of_study(study_instance_uid)}
        return [
            known.get(name)
            or Publication(repository=name, study_instance_uid=study_instance_uid, is_wanted=False)
            for name in self.repositories
        ]

    async def knows(self, study_instance_uid: str) -> bool:
        """Whether the archive has the study, or has ever published it."""
        return bool(await self._book.of_study(study_instance_uid)) or await self._reader.has(
            study_instance_uid
        )

    async def behind(self, limit: int) -> Sequence[Publication]:
        """What repositories have and ought not to, or the other way round; the oldest first."""
        return await self._book.all_behind(limit)

    async def standing(self) -> Mapping[str, int]:
        """By repository: how many documents it has."""
        return await self._book.standing()

    async def ask(
        self,
        repository: str,
        study_instance_uid: str,
        *,
        is_wanted: bool,
        requested_by: str,
        asker: Asker | None = None,
    ) -> tuple[str, bool]:
        """Have a study published, or withdrawn: the ID of the job, and False where one is at it
        already.

        Raises:
            ManifestError: it cannot be published.
            KeyError: there is no such repository.
        """
        self.repositories[repository]
        if is_wanted and await self._reader.read(study_instance_uid) is None:
            raise ManifestError("the archive has no such study")
        await self._book.want(repository, study_instance_uid, is_wanted=is_wanted)
        await self._book.behind(repository, study_instance_uid, self._now())
        asked = await self.submit(repository, study_instance_uid, requested_by, asker)
        if not asked[1]:
            job = await self._jobs.get(asked[0])
            if job is None or job.state.is_final:
                # It has ended without a look at what is wanted now.
                asked = await self.submit(repository, study_instance_uid, requested_by, asker)
        return asked

    async def on_event(self, repository: str, event: StoredEvent) -> None:
        """Something happened to a study: what the repository has may be no more what is here.

        Raises:
            DeliveryError: a job is at it, which may have read what was here before.
        """
        found = self.repositories[repository]
        fields = orjson.loads(event.body)
        previous = fields.get("previous_study_instance_uid", "")
        for study in dict.fromkeys((event.study_instance_uid, previous)):
            if not study:
                continue
            if event.kind == Kind.STUDY_COMPLETE.value and _is_wanted(found, fields):
                await self._book.want(repository, study, is_wanted=True, also_known=False)
            if await self._book.get(repository, study) is None:
                continue
            await self._book.behind(repository, study, self._now())
            job_id, is_new = await self.submit(repository, study, f"event {event.kind}")
            if not is_new:
                job = await self._jobs.get(job_id)
                if job is None or job.state not in (JobState.WAITING, JobState.PAUSED):
                    # It runs, or has just ended, and has not seen what the event tells of.
                    raise DeliveryError("the study is being published now")

    async def submit(
        self, repository: str, study: str, requested_by: str, asker: Asker | None = None
    ) -> tuple[str, bool]:
        """Have a job bring a repository up to date: its ID, and False where one is at it
        already."""
        return await self._jobs.submit(
            JobRequest(
                kind=JobKind.PUBLISH,
                node=self.repositories[repository].destination,
                keys=((_STUDY, study),),
                requested_by=requested_by,
                asker=asker,
            )
        )


def _is_wanted(repository: Repository, fields: Mapping[str, object]) -> bool:
    if repository.when is not PublishWhen.COMPLETE:
        return False
    modalities = fields.get("modalities")
    found = set(modalities) if isinstance(modalities, list) else set()
    return not repository.modalities or bool(found & set(repository.modalities))


def digest_of(manifest: StudyManifest, repository: Repository) -> str:
    """Of what the document says, its form and whose it is first."""
    patient = manifest.patient
    oid = manifest.authorities.of_patient(patient.issuer)
    whose = hashlib.sha256(f"{oid}\n{patient.patient_id}".encode()).hexdigest()[:_WHOSE]
    return f"{repository.form.value}:{whose}:{manifest.digest}"


def _patient_of(digest: str) -> str:
    """Whose document it is, of `digest_of`."""
    return digest.split(":")[1]


def _published(
    known: Publication, reference: str, uid: str, digest: str, instances: int, at: float
) -> Publication:
    return Publication(
        repository=known.repository,
        study_instance_uid=known.study_instance_uid,
        is_wanted=known.is_wanted,
        document_uid=uid,
        reference=reference,
        digest=digest,
        instances=instances or known.instances,
        published_at=at,
    )


def _fault_of(error: Exception) -> str:
    """What went wrong, in words that name nobody."""
    match error:
        case HttpStatusError():
            # What a service says may name whom it is about.
            return f"it answered {error.status}"
        case IsocenterError() | OSError():
            return text_of(error)
        case _:
            return f"internal error ({type(error).__name__})"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
