"""Source of documents over XDS: found by ITI-18, retrieved by ITI-43 (RAD-68 consumer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from isocenter.services.integration.sharing.key_object_manifest import KEY_OBJECT_SELECTION
from isocenter.services.integration.sharing.ports import (
    MOST_DOCUMENTS,
    PublishingError,
    SharedDocument,
)
from isocenter.services.integration.sharing.registry_metadata import APPROVED, cx_of
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.integration.sharing.soap import call, decoded
from isocenter.services.integration.sharing.stored_queries import (
    STORED_QUERY,
    check_response,
    patient_of,
    quoted,
    stored_query,
    values_of_slot,
)
from isocenter.services.integration.sharing.xml_text import XmlElement, element, text
from isocenter.services.net.http.client import HttpClient
from isocenter.services.net.http.client_errors import BrokenAnswerError

RETRIEVE_DOCUMENT_SET: Final = "urn:ihe:iti:2007:RetrieveDocumentSet"
_XDS: Final = "urn:ihe:iti:xds-b:2007"
_FIND_DOCUMENTS: Final = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
_FORMAT: Final = f"{KEY_OBJECT_SELECTION}^^1.2.840.10008.2.6.1"
_STUDY: Final = "urn:ihe:iti:xds:2016:studyInstanceUID"


class XdsSource:
    """A registry and a repository; see `ports.DocumentSource`.

    Args:
        registry: of the address for ITI-18; None: the settings name none.
        documents: of that for ITI-43; None: the settings name none.
    """

    def __init__(
        self, registry: HttpClient | None, documents: HttpClient | None, repository: Repository
    ) -> None:
        self._registry = registry
        self._documents = documents
        self._repository = repository

    async def find(self, patient_id: str, authority: str) -> Sequence[SharedDocument]:
        """See `DocumentSource.find`."""
        if self._registry is None:
            raise PublishingError(f"repository {self._repository}: set registry, which is asked")
        patient = cx_of(patient_id, authority)
        body = stored_query(
            _FIND_DOCUMENTS,
            {
                "$XDSDocumentEntryPatientId": quoted(patient),
                "$XDSDocumentEntryStatus": f"({quoted(APPROVED)})",
                "$XDSDocumentEntryFormatCode": f"({quoted(_FORMAT)})",
            },
        )
        answer = await call(self._registry, STORED_QUERY, body)
        check_response(answer, self._repository)
        entries = list(answer.body.all("ExtrinsicObject"))
        if len(entries) > MOST_DOCUMENTS:
            raise PublishingError(
                f"repository {self._repository} answers with more than {MOST_DOCUMENTS} documents"
            )
        if any(_patient(patient_of(one)) != _patient(patient) for one in entries):
            raise PublishingError(
                f"repository {self._repository} answers with documents of another patient"
            )
        # Also of a registry that does not search by it.
        standing = [one for one in entries if one.attributes.get("status", APPROVED) == APPROVED]
        return list(map(_document, standing))

    async def retrieve(self, document: SharedDocument) -> bytes:
        """See `DocumentSource.retrieve`."""
        if self._documents is None:
            raise PublishingError(f"repository {self._repository}: set documents, for ITI-43")
        body = element(
            "xds:RetrieveDocumentSetRequest",
            {"xmlns:xds": _XDS},
            element(
                "xds:DocumentRequest",
                None,
                element("xds:RepositoryUniqueId", None, text(document.place)),
                element("xds:DocumentUniqueId", None, text(document.uid)),
            ),
        )
        answer = await call(self._documents, RETRIEVE_DOCUMENT_SET, body)
        check_response(answer, self._repository)
        for one in answer.body.all("DocumentResponse"):
            uid, content = one.first("DocumentUniqueId"), one.first("Document")
            if uid is None or content is None or uid.text.strip() != document.uid:
                continue
            return _content(content, answer.attachments)
        raise PublishingError(f"repository {self._repository} answers without the document")


def _patient(cx: str) -> tuple[str, str]:
    """Patient ID and OID of who gave it: registries add what they call that by."""
    parts = [*cx.split("^"), "", "", "", ""]
    return parts[0], [*parts[3].split("&"), "", ""][1]


def _content(of: XmlElement, attachments: dict[str, bytes]) -> bytes:
    """A document beside the envelope, or within it."""
    include = of.first("Include")
    if include is not None:
        name = unquote(include.attributes.get("href", "").removeprefix("cid:"))
        found = attachments.get(name)
        if found is None:
            raise BrokenAnswerError("the answer has no part of the name that it gives")
        return found
    return decoded(of.text)


def _document(entry: XmlElement) -> SharedDocument:
    uid = ""
    for one in entry.within("ExternalIdentifier"):
        name = one.first("LocalizedString")
        if name is not None and name.attributes.get("value") == "XDSDocumentEntry.uniqueId":
            uid = one.attributes.get("value", "")
    title = next((one for one in entry.children if one.name == "Name"), None)
    localized = None if title is None else title.first("LocalizedString")
    references = values_of_slot(entry, "urn:ihe:iti:xds:2013:referenceIdList")
    study = next((one.split("^")[0] for one in references if one.endswith(_STUDY)), "")
    return SharedDocument(
        uid=uid,
        reference=entry.attributes.get("id", ""),
        study_instance_uid=study,
        title="" if localized is None else " ".join(localized.attributes.get("value", "").split()),
        created=next(iter(values_of_slot(entry, "creationTime")), ""),
        place=next(iter(values_of_slot(entry, "repositoryUniqueId")), ""),
    )
