"""Publisher of manifests to an MHD document recipient (ITI-65), over HTTPS."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Any, Final
from urllib.parse import urlencode

from isocenter.services.integration.sharing.fhir_client import (
    LATER,
    NO_SUCH,
    FhirClient,
    listed,
)
from isocenter.services.integration.sharing.fhir_values import is_id, uid_urn
from isocenter.services.integration.sharing.mhd_bundle import (
    DOCUMENT_ENTRY,
    provide_bundle,
    superseding_patch,
)
from isocenter.services.integration.sharing.ports import (
    ArrivalUnknownError,
    Document,
    Publication,
    PublishingError,
)
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.net.http.client import HttpClient
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError

_REFERENCE: Final = re.compile(
    r"(?:.*/)?(DocumentReference/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?"
)


class MhdPublisher:
    """A document recipient; see `isocenter.services.integration.sharing.ports.Publisher`.

    Args:
        client: of the base of its FHIR service.
        zone: of Study Date and Time; None: that of this machine.
    """

    def __init__(
        self, client: HttpClient, repository: Repository, zone: tzinfo | None = None
    ) -> None:
        self._fhir = FhirClient(client, repository)
        self._repository = repository
        self._zone = zone

    async def publish(self, document: Document) -> str:
        """See `Publisher.publish`."""
        bundle = provide_bundle(document, self._repository, self._zone)
        answer = await self._fhir.ask("POST", "", bundle)
        return reference_in(answer, len(bundle["entry"]))

    async def withdraw(self, publication: Publication) -> None:
        """See `Publisher.withdraw`."""
        if _REFERENCE.fullmatch(publication.reference) is None:
            raise PublishingError("it is not known by which reference the document is called there")
        try:
            await self._fhir.ask("PATCH", f"/{publication.reference}", superseding_patch())
        except HttpStatusError as error:
            if error.status not in NO_SUCH:
                raise

    async def find(self, document_uid: str) -> str | None:
        """See `Publisher.find` (ITI-67)."""
        query = urlencode({"identifier": f"urn:ietf:rfc:3986|{uid_urn(document_uid)}"})
        try:
            bundle = await self._fhir.ask("GET", f"/DocumentReference?{query}")
        except HttpStatusError as error:
            if error.status in LATER:
                raise
            raise ArrivalUnknownError("it answers no searches") from None
        except PublishingError as error:
            raise ArrivalUnknownError(str(error)) from None
        for entry in listed(bundle.get("entry")):
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if not isinstance(resource, dict) or not _is_of(resource, document_uid):
                continue
            key = resource.get("id")
            if isinstance(key, str) and is_id(key):
                return f"DocumentReference/{key}"
        return None


def _is_of(resource: dict[str, Any], document_uid: str) -> bool:
    """Whether that is the reference of a document: servers answer with others as well, which do
    not know what they were asked by."""
    identifiers = [resource.get("masterIdentifier"), *listed(resource.get("identifier"))]
    return resource.get("resourceType") == "DocumentReference" and any(
        isinstance(one, dict) and one.get("value") in (uid_urn(document_uid), document_uid)
        for one in identifiers
    )


def reference_in(answer: dict[str, Any], count: int) -> str:
    """The document reference that a transaction has made."""
    entries = listed(answer.get("entry"))
    if answer.get("type") != "transaction-response" or len(entries) != count:
        raise BrokenAnswerError("the answer is none to a transaction of so many entries")
    location: object = None
    for number, entry in enumerate(entries):
        response = entry.get("response") if isinstance(entry, dict) else None
        status = response.get("status") if isinstance(response, dict) else None
        if not isinstance(status, str) or not status.startswith("2"):
            raise PublishingError("the repository has not taken all of the transaction")
        if number == DOCUMENT_ENTRY and isinstance(response, dict):
            location = response.get("location")
    found = _REFERENCE.fullmatch(location) if isinstance(location, str) else None
    if found is None:
        raise BrokenAnswerError("the answer does not say where the document reference is")
    return found[1]
