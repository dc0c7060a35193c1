"""Publisher of manifests to an XDS document repository and registry (ITI-41, RAD-68, ITI-57)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Final

from isocenter.services.integration.sharing.ports import (
    ArrivalUnknownError,
    Document,
    Publication,
    PublishingError,
)
from isocenter.services.integration.sharing.registry_metadata import (
    DEPRECATED,
    deprecation,
    entry_uuid,
    submission,
)
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.integration.sharing.soap import Attachment, call
from isocenter.services.integration.sharing.stored_queries import (
    STORED_QUERY,
    check_response,
    patient_of,
    quoted,
    stored_query,
)
from isocenter.services.integration.sharing.xml_text import XmlElement, element
from isocenter.services.net.http.client import HttpClient

PROVIDE_AND_REGISTER: Final = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
UPDATE_DOCUMENT_SET: Final = "urn:ihe:iti:2010:UpdateDocumentSet"
_XDS: Final = "urn:ihe:iti:xds-b:2007"
_GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"


class XdsPublisher:
    """A repository and its registry; see `isocenter.services.integration.sharing.ports.Publisher`.

    Args:
        repository_client: of the address for ITI-41.
        registry_client: of that for ITI-18 and ITI-57; None: the settings name none.
        now: for submissions.
        zone: of Study Date and Time; None: that of this machine.
    """

    def __init__(
        self,
        repository_client: HttpClient,
        registry_client: HttpClient | None,
        repository: Repository,
        *,
        now: Callable[[], datetime],
        zone: tzinfo | None = None,
    ) -> None:
        self._client = repository_client
        self._registry = registry_client
        self._repository = repository
        self._now = now
        self._zone = zone

    async def publish(self, document: Document) -> str:
        """See `Publisher.publish`."""
        uid = document.identity.document_uid
        attachment = Attachment("document@isocenter", "application/dicom", document.content)
        body = element(
            "xds:ProvideAndRegisterDocumentSetRequest",
            {"xmlns:xds": _XDS},
            submission(document, self._repository, self._zone),
            element("xds:Document", {"id": entry_uuid(uid)}, attachment.included()),
        )
        answer = await call(self._client, PROVIDE_AND_REGISTER, body, (attachment,))
        check_response(answer, self._repository)
        return entry_uuid(uid)

    async def withdraw(self, publication: Publication) -> None:
        """See `Publisher.withdraw`."""
        if self._registry is None:
            raise PublishingError(
                f"repository {self._repository}: set registry: without it nothing is deprecated"
            )
        entry = await self._entry(publication.document_uid)
        if entry is None or entry.attributes.get("status") == DEPRECATED:
            return
        body = deprecation(publication, patient_of(entry), self._repository, self._now())
        check_response(await call(self._registry, UPDATE_DOCUMENT_SET, body), self._repository)

    async def find(self, document_uid: str) -> str | None:
        """See `Publisher.find` (ITI-18, GetDocuments)."""
        if self._registry is None:
            raise ArrivalUnknownError("set registry, which is asked")
        found = await self._entry(document_uid)
        return None if found is None else entry_uuid(document_uid)

    async def _entry(self, document_uid: str) -> XmlElement | None:
        """A document as the registry has it; None: it has no such document."""
        assert self._registry is not None
        body = stored_query(
            _GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": f"({quoted(document_uid)})"}
        )
        answer = await call(self._registry, STORED_QUERY, body)
        check_response(answer, self._repository)
        wanted = entry_uuid(document_uid)
        entries = answer.body.all("ExtrinsicObject")
        return next((one for one in entries if one.attributes.get("id") == wanted), None)
