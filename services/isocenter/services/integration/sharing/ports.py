"""Ports of sharing: what was published where, and how a repository is spoken to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Protocol

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

if TYPE_CHECKING:
    # Whoever keeps publications needs none of it.
    from isocenter.services.integration.sharing.key_object_manifest import DocumentIdentity
    from isocenter.services.integration.sharing.manifest import StudyManifest
    from isocenter.services.integration.sharing.repository import Repository


class PublishingError(IsocenterError):
    """A repository was reached and refuses; the message says why, and names no patient."""

    error_code = ErrorCode.SHARING


class ArrivalUnknownError(PublishingError):
    """A repository does not tell whether a document has arrived; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A study and a repository.

    Attributes:
        is_wanted: the repository is to have its manifest.
        document_uid: of the document that it has; empty: it has none.
        reference: by which it calls that document.
        digest: of the manifest in it.
        instances: that it names.
        published_at: in seconds since 1970; None: there is none.
        sent_uid, sent_digest, sent_at: of the document that was sent last, of which nobody knows
            yet whether it arrived; empty: none is.
        behind_since: since when what the repository has is not what it ought to have, as far as is
            known, in seconds since 1970; None: it is.
        next_attempt_at: when that is tried to be put right again; None: it need not be.
        attempts: that came to nothing since then.
        fault: of the last of them; names no patient.
        under_way_since: when the document that was sent last left, while there was no answer yet;
            None: there was one, or none was sent.
    """

    repository: str
    study_instance_uid: str
    is_wanted: bool = True
    document_uid: str = ""
    reference: str = ""
    digest: str = ""
    instances: int = 0
    published_at: float | None = None
    sent_uid: str = ""
    sent_digest: str = ""
    sent_at: float | None = None
    behind_since: float | None = None
    next_attempt_at: float | None = None
    attempts: int = 0
    fault: str = ""
    under_way_since: float | None = None

    @property
    def state(self) -> str:
        """In a word."""
        if self.sent_uid:
            return "sent"
        if self.document_uid:
            if not self.is_wanted:
                return "to be withdrawn"
            return "published" if self.behind_since is None else "outdated"
        return "waiting" if self.is_wanted else "not published"


class PublicationBook(Protocol):
    """Keeps what was published, durably, for all processes.  Failures are `StorageError`."""

    async def get(self, repository: str, study_instance_uid: str) -> Publication | None: ...

    async def of_study(self, study_instance_uid: str) -> Sequence[Publication]:
        """By name of the repository."""
        ...

    async def of_repository(
        self, repository: str, *, after: str = "", limit: int
    ) -> Sequence[Publication]:
        """By Study Instance UID."""
        ...

    async def want(
        self, repository: str, study_instance_uid: str, *, is_wanted: bool, also_known: bool = True
    ) -> bool:
        """Say whether a repository is to have a study.

        Args:
            also_known: also where something was said before.

        Returns:
            Whether that is another thing than what was said.
        """
        ...

    async def sending(
        self, was: Publication, document_uid: str, digest: str, *, at: float, now: float
    ) -> bool:
        """From now on nobody knows whether that document has arrived, and it is under way.

        Args:
            was: what the repository had, and what was sent, as far as the caller knows.
            at: when the document was made.

        Returns:
            False: somebody else has published meanwhile, and nothing is written down.
        """
        ...

    async def answered(self, repository: str, study_instance_uid: str, document_uid: str) -> None:
        """That document is under way no more; it was refused, say."""
        ...

    async def settled(self, publication: Publication, was: Publication) -> bool:
        """The repository has a document, or has none any more; and nothing is on its way.

        Args:
            was: as of `sending`.

        Returns:
            False: somebody else has settled it meanwhile, and nothing is written down.
        """
        ...

    async def behind(self, repository: str, study_instance_uid: str, at: float) -> None:
        """What the repository has is perhaps not what it ought to have, from now on until
        somebody has `caught_up`; it is looked at once."""
        ...

    async def tried(
        self,
        repository: str,
        study_instance_uid: str,
        fault: str,
        *,
        at: float,
        next_attempt_at: float,
    ) -> None:
        """An attempt to put that right came to nothing, or is still at work."""
        ...

    async def caught_up(self, publication: Publication, at: float) -> bool:
        """The repository has what it ought to have; False: another thing is wanted by now."""
        ...

    async def due(self, at: float, limit: int) -> Sequence[Publication]:
        """Those whose next attempt is due, in the order in which they became so."""
        ...

    async def all_behind(self, limit: int) -> Sequence[Publication]:
        """Those that are not what they ought to be, as far as is known; the oldest first."""
        ...

    async def to_compare(self, before: float, limit: int) -> Sequence[Publication]:
        """Of the others those that nobody has held against their study since *before*."""
        ...

    async def compared(self, repository: str, study_instance_uid: str, at: float) -> None:
        """Somebody has, and nothing differs."""
        ...

    async def backlog(self) -> Mapping[str, tuple[int, float]]:
        """By repository: how many are not what they ought to be, and since when."""
        ...

    async def standing(self) -> Mapping[str, int]:
        """By repository: how many documents it has."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A manifest as a document.

    Attributes:
        content: a Part 10 file.
        replaces: what it comes in the place of; None: it is the first.
    """

    manifest: StudyManifest
    identity: DocumentIdentity
    content: bytes
    replaces: Publication | None = None


class Publisher(Protocol):
    """A repository that is being spoken to.

    What its methods raise: `PublishingError` when it refuses; `HttpClientError` when it cannot be
    reached, is lost, or cannot do it now.
    """

    async def publish(self, document: Document) -> str:
        """Submit a document; the reference by which the repository calls it."""
        ...

    async def withdraw(self, publication: Publication) -> None:
        """Deprecate a document; one that is deprecated or gone already stays so."""
        ...

    async def find(self, document_uid: str) -> str | None:
        """The reference of a document; None: it is not there.

        Raises:
            ArrivalUnknownError: it does not tell.
        """
        ...


#: Speaks to a repository for as long as the context lasts.
OpenPublisher = Callable[["Repository"], AbstractAsyncContextManager[Publisher]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDocument:
    """A document that others have shared, as a repository or its registry tells of it.

    Attributes:
        uid: its unique ID; of a manifest its SOP Instance UID.
        reference: what it is asked for by.
        study_instance_uid: empty: the metadata do not say.
        title, created: for people; may be empty.
        place: OID of the repository that has it (XDS); empty: the one that was asked.
    """

    uid: str
    reference: str
    study_instance_uid: str = ""
    title: str = ""
    created: str = ""
    place: str = ""


#: Documents of one patient; a page of them is for people.
MOST_DOCUMENTS: Final = 10_000


class DocumentSource(Protocol):
    """A repository that is asked for what others have shared; raises as `Publisher` does."""

    async def find(self, patient_id: str, authority: str) -> Sequence[SharedDocument]:
        """Manifests of a patient, by an ID and the OID of who gave it."""
        ...

    async def retrieve(self, document: SharedDocument) -> bytes:
        """A document."""
        ...


#: Asks a repository for as long as the context lasts.
OpenSource = Callable[["Repository"], AbstractAsyncContextManager[DocumentSource]]
