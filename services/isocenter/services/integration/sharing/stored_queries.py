"""Stored queries of a registry, and responses of registries (ITI TF-2 3.18, TF-3 4.2.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from isocenter.services.integration.sharing.ports import PublishingError
from isocenter.services.integration.sharing.registry_metadata import RIM
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.integration.sharing.soap import SoapAnswer
from isocenter.services.integration.sharing.xml_text import XmlElement, element, text
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError

STORED_QUERY: Final = "urn:ihe:iti:2007:RegistryStoredQuery"
_QUERY: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
_SUCCESS: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
#: Errors by which a repository or a registry says that it may be done later.
_LATER: Final = frozenset(
    {"XDSRegistryBusy", "XDSRepositoryBusy", "XDSRegistryNotAvailable", "XDSRegistryOutOfResources",
     "XDSRepositoryOutOfResources"}
)  # fmt: skip
_MOST_CODE: Final = 64
#: Codes that people are told; an answer may hold a hundred thousand.
_MOST_SHOWN: Final = 20


def stored_query(query: str, parameters: Mapping[str, str]) -> str:
    """The request of a stored query, for whole entries."""
    slots = [
        element(
            "rim:Slot",
            {"name": name},
            element("rim:ValueList", None, element("rim:Value", None, text(value))),
        )
        for name, value in parameters.items()
    ]
    option = {"returnComposedObjects": "true", "returnType": "LeafClass"}
    return element(
        "query:AdhocQueryRequest",
        {"xmlns:query": _QUERY, "xmlns:rim": RIM},
        element("query:ResponseOption", option),
        element("rim:AdhocQuery", {"id": query}, *slots),
    )


def quoted(value: str) -> str:
    """A text of a parameter (ITI TF-2 3.18.4.1.2.3.5)."""
    return "'" + value.replace("'", "''") + "'"


def values_of_slot(of: XmlElement, name: str) -> list[str]:
    """The values of a slot of an object."""
    for one in of.children:
        if one.name == "Slot" and one.attributes.get("name") == name:
            return [value.text.strip() for value in one.all("Value")]
    return []


def check_response(answer: SoapAnswer, repository: Repository) -> None:
    """Whether a registry or a repository has done all that it was asked for.

    Raises:
        PublishingError: it refuses.
        HttpStatusError: it cannot do it now.
        BrokenAnswerError: it does not say.
    """
    responses = list(answer.body.all("RegistryResponse")) or answer.body.children
    status = responses[0].attributes.get("status", "") if responses else ""
    if status == _SUCCESS:
        return
    if not status:
        raise BrokenAnswerError("the answer has no status")
    # Codes are those of ITI TF-3 Table 4.2.4.1-2; the context may name whom it is about.
    codes = {
        code[:_MOST_CODE]
        for one in answer.body.all("RegistryError")
        if (code := one.attributes.get("errorCode", "")).isalnum()
    }
    if is_for_later(codes):
        raise HttpStatusError(503, "")
    said = shown_codes(sorted(codes)) or "no code"
    raise PublishingError(f"repository {repository} refuses: {said}")


def shown_codes(codes: Sequence[str]) -> str:
    """Codes of errors for people: the first of them, and whether there are more."""
    return ", ".join(codes[:_MOST_SHOWN]) + (", …" if len(codes) > _MOST_SHOWN else "")


def is_for_later(codes: Iterable[str]) -> bool:
    """Whether these errors say that it may be done later."""
    return not _LATER.isdisjoint(codes)


def patient_of(entry: XmlElement) -> str:
    """Whose a document is, as a CX."""
    for identifier in entry.within("ExternalIdentifier"):
        name = identifier.first("LocalizedString")
        said = "" if name is None else name.attributes.get("value", "")
        if said == "XDSDocumentEntry.patientId":
            return identifier.attributes.get("value", "")
    raise BrokenAnswerError("the registry does not say whose a document is")
