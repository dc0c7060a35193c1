"""Source of documents over MHD: found by ITI-67, retrieved by ITI-68."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode, urljoin

import orjson

from isocenter.services.integration.sharing.fhir_client import FhirClient, listed
from isocenter.services.integration.sharing.fhir_values import (
    DICOM_UID,
    Json,
    search_token,
    single_line,
    uid_of,
    uid_urn,
)
from isocenter.services.integration.sharing.key_object_manifest import KEY_OBJECT_SELECTION
from isocenter.services.integration.sharing.ports import (
    MOST_DOCUMENTS,
    PublishingError,
    SharedDocument,
)
from isocenter.services.integration.sharing.received_manifest import MOST_BYTES
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.net.http.client import HttpClient
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError

_MOST_PAGES: Final = 50
_DICOM: Final = "application/dicom"


class MhdSource:
    """A document responder; see `isocenter.services.integration.sharing.ports.DocumentSource`.

    Args:
        client: of the base of its FHIR service.
    """

    def __init__(self, client: HttpClient, repository: Repository) -> None:
        self._client = client
        self._fhir = FhirClient(client, repository)
        self._repository = repository

    async def find(self, patient_id: str, authority: str) -> Sequence[SharedDocument]:
        """See `DocumentSource.find` (ITI-67)."""
        token = search_token(uid_urn(authority), patient_id)
        query = urlencode({"patient.identifier": token, "status": "current"})
        path = f"/DocumentReference?{query}"
        found: list[SharedDocument] = []
        for _ in range(_MOST_PAGES):
            bundle = await self._fhir.ask("GET", path)
            for entry in listed(bundle.get("entry")):
                resource = entry.get("resource") if isinstance(entry, dict) else None
                if isinstance(resource, dict):
                    found += documents_in(resource)
            if len(found) > MOST_DOCUMENTS:
                raise PublishingError(
                    f"repository {self._repository} answers with more than {MOST_DOCUMENTS} "
                    "documents"
                )
            following = _next(bundle)
            if not following:
                return found
            path = self._within(following)
        raise PublishingError(f"repository {self._repository} has more pages than are read")

    async def retrieve(self, document: SharedDocument) -> bytes:
        """See `DocumentSource.retrieve` (ITI-68)."""
        url = self._client.base + self._within(document.reference)
        headers = (("accept", f"{_DICOM}, application/fhir+json;q=0.5"),)
        try:
            async with self._client.request("GET", url, headers=headers) as response:
                raw = await response.body(2 * MOST_BYTES)
                kind = response.media_type
        except HttpStatusError as error:
            # Without what is said of it, which may name whom it is about.
            raise HttpStatusError(error.status, "") from None
        if kind is None or not kind.name.endswith("json"):
            return raw
        try:
            return b64decode(orjson.loads(raw)["data"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenAnswerError("the answer is neither a document nor a Binary") from error

    def _within(self, reference: str) -> str:
        """The path of a reference below the base.

        Raises:
            PublishingError: it leads elsewhere; nothing is asked for there.
        """
        base = self._client.base + "/"
        try:
            url = urljoin(base, reference)
        except ValueError:  # like http://[
            url = ""
        if not url.startswith(base) or "/../" in url or not url.isprintable() or " " in url:
            raise PublishingError(
                f"repository {self._repository} refers to another address than its own"
            )
        return url.removeprefix(self._client.base)


def documents_in(resource: Json) -> Iterator[SharedDocument]:
    """A document reference, where it is one of a manifest that stands."""
    if resource.get("resourceType") != "DocumentReference":
        return
    if resource.get("status", "current") != "current":
        return  # a server that does not search by it
    unique = _value(resource.get("masterIdentifier"))
    for content in listed(resource.get("content")):
        attachment = content.get("attachment") if isinstance(content, dict) else None
        if not isinstance(attachment, dict):
            continue
        form = content.get("format")
        code = form.get("code") if isinstance(form, dict) else None
        url = attachment.get("url")
        is_manifest = code in (KEY_OBJECT_SELECTION, f"urn:oid:{KEY_OBJECT_SELECTION}")
        if isinstance(url, str) and is_manifest and attachment.get("contentType") == _DICOM:
            yield SharedDocument(
                uid=uid_of(unique),
                reference=url,
                study_instance_uid=_study_of(resource),
                title=single_line(_text(attachment.get("title"))),
                created=single_line(_text(attachment.get("creation"))),
            )


def _study_of(resource: Mapping[str, Any]) -> str:
    context = resource.get("context")
    for related in listed(context.get("related") if isinstance(context, dict) else None):
        identifier = related.get("identifier") if isinstance(related, dict) else None
        if isinstance(identifier, dict) and identifier.get("system") == DICOM_UID:
            return uid_of(_value(identifier))
    return ""


def _value(identifier: object) -> str:
    return _text(identifier.get("value")) if isinstance(identifier, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _next(bundle: Mapping[str, Any]) -> str:
    for link in listed(bundle.get("link")):
        if isinstance(link, dict) and link.get("relation") == "next":
            return _text(link.get("url"))
    return ""
