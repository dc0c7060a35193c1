"""Retrieve Imaging Document Set (RAD-69): its request, and its response, as XML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final
from urllib.parse import unquote

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid, is_uid
from isocenter.services.integration.sharing.registry_metadata import RIM
from isocenter.services.integration.sharing.soap import include
from isocenter.services.integration.sharing.xml_text import XmlElement, element, text
from isocenter.services.net.http.client_errors import BrokenAnswerError

RETRIEVE_IMAGING: Final = "urn:ihe:rad:2009:RetrieveImagingDocumentSet"
#: That of ITI-43: both are answered in the same form.
RETRIEVED: Final = "urn:ihe:iti:2007:RetrieveDocumentSetResponse"
#: Documents of one request.
MOST_DOCUMENTS: Final = 20_000
#: Transfer syntaxes of one request; there are fewer than 100.
_MOST_SYNTAXES: Final = 200

_SYNTAXES: Final = "TransferSyntaxUIDList"
_REQUEST: Final = "RetrieveImagingDocumentSetRequest"
_XDSI: Final = "urn:ihe:rad:xdsi-b:2009"
_XDS: Final = "urn:ihe:iti:xds-b:2007"
_RS: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
_STATUS: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:"
_PARTIAL: Final = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
_ERROR: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
_DICOM: Final = "application/dicom"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingDocument:
    """One object that a request names.

    Attributes:
        place: OID of the repository that has it, the Retrieve Location UID of its manifest.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingRequest:
    """Request for the objects of a document set.

    Attributes:
        transfer_syntaxes: in which the objects are taken; empty: nothing was said.
    """

    documents: tuple[ImagingDocument, ...]
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingError:
    """An object that is not in a response.

    Attributes:
        code: of ITI TF-3 Table 4.2.4.1-2, or PS3.18.
    """

    code: str
    document: ImagingDocument
    why: str


def imaging_request(documents: Sequence[ImagingDocument], syntaxes: Iterable[str]) -> str:
    """The body of a request; the documents of a series stand together."""
    studies = []
    for study, of_study in groupby(documents, key=lambda one: one.study_instance_uid):
        series = [
            element(
                "iherad:SeriesRequest",
                {"seriesInstanceUID": uid},
                *(
                    element(
                        "ihe:DocumentRequest",
                        None,
                        element("ihe:RepositoryUniqueId", None, text(one.place)),
                        element("ihe:DocumentUniqueId", None, text(one.sop_instance_uid)),
                    )
                    for one in of_series
                ),
            )
            for uid, of_series in groupby(of_study, key=lambda one: one.series_instance_uid)
        ]
        studies.append(element("iherad:StudyRequest", {"studyInstanceUID": study}, *series))
    taken = [element("iherad:TransferSyntaxUID", None, text(uid)) for uid in syntaxes]
    return element(
        f"iherad:{_REQUEST}",
        {"xmlns:iherad": _XDSI, "xmlns:ihe": _XDS},
        *studies,
        element(f"iherad:{_SYNTAXES}", None, *taken),
    )


def read_imaging_request(body: XmlElement) -> ImagingRequest:
    """The request in the body of an envelope.

    Raises:
        ValueError: it is none, or names too much; the message says what.
    """
    root = next(body.within(_REQUEST), None)
    if root is None:
        raise ValueError(f"the body of the message is no {_REQUEST}")
    documents = tuple(_requested(root))
    if not documents:
        raise ValueError("the request names no document")
    listed = (one for some in root.within(_SYNTAXES) for one in some.within("TransferSyntaxUID"))
    syntaxes = tuple(dict.fromkeys(one.text.strip() for one in listed))
    if len(syntaxes) > _MOST_SYNTAXES or not all(map(is_uid, syntaxes)):
        raise ValueError("a Transfer Syntax UID is none, or there are too many")
    return ImagingRequest(documents=documents, transfer_syntaxes=syntaxes)


def _requested(root: XmlElement) -> Iterator[ImagingDocument]:
    # Directly below each other: those of their own kind within them would be read again for each.
    count = 0
    for study in root.within("StudyRequest"):
        for series in study.within("SeriesRequest"):
            for one in series.within("DocumentRequest"):
                count += 1
                if count > MOST_DOCUMENTS:
                    raise ValueError(f"the request names more than {MOST_DOCUMENTS} documents")
                found = ImagingDocument(
                    study_instance_uid=study.attributes.get("studyInstanceUID", "").strip(),
                    series_instance_uid=series.attributes.get("seriesInstanceUID", "").strip(),
                    sop_instance_uid=_text_of(one, "DocumentUniqueId"),
                    place=_text_of(one, "RepositoryUniqueId"),
                )
                uids = (
                    found.study_instance_uid, found.series_instance_uid, found.sop_instance_uid,
                )  # fmt: skip
                if not all(map(is_safe_uid, uids)):
                    raise ValueError("a UID of study, series or document is missing, or is none")
                yield found


def imaging_response(
    provided: Sequence[tuple[ImagingDocument, str]], errors: Sequence[ImagingError]
) -> str:
    """The body of a response.

    Args:
        provided: documents that are there, and the IDs of their parts.
        errors: of the others.
    """
    status = _PARTIAL if provided and errors else f"{_STATUS}{'Failure' if errors else 'Success'}"
    listed = [
        element(
            "rs:RegistryError",
            {
                "errorCode": one.code,
                "codeContext": f"{one.why}: {one.document.sop_instance_uid}",
                "severity": _ERROR,
                "location": one.document.sop_instance_uid,
            },
        )
        for one in errors
    ]
    said = [element("rs:RegistryErrorList", {"highestSeverity": _ERROR}, *listed)] if listed else []
    return element(
        "ihe:RetrieveDocumentSetResponse",
        {"xmlns:ihe": _XDS, "xmlns:rs": _RS, "xmlns:rim": RIM},
        element("rs:RegistryResponse", {"status": status}, *said),
        *(
            element(
                "ihe:DocumentResponse",
                None,
                element("ihe:RepositoryUniqueId", None, text(one.place)),
                element("ihe:DocumentUniqueId", None, text(one.sop_instance_uid)),
                element("ihe:mimeType", None, _DICOM),
                element("ihe:Document", None, include(content_id)),
            )
            for one, content_id in provided
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingAnswer:
    """A response, as far as it stands in the envelope.

    Attributes:
        beside: content IDs of documents that stand beside the envelope.
        within: documents that stand in it, in base64, perhaps with spaces.
        codes: of errors, each once.
    """

    beside: frozenset[str]
    within: tuple[str, ...]
    codes: tuple[str, ...]


def read_imaging_answer(body: XmlElement) -> ImagingAnswer:
    """The response in the body of an envelope.

    Raises:
        BrokenAnswerError: it is none.
    """
    if body.first("RegistryResponse") is None:
        raise BrokenAnswerError("the answer has no status")
    beside, within = set(), []
    # Directly below each other: a document is read once, whatever is said around it.
    for one in (one for said in body.children for one in said.within("DocumentResponse")):
        content = next(one.within("Document"), None)
        if content is None:
            continue
        place = next(content.within("Include"), None)
        if place is None:
            within.append(content.text)
        else:
            beside.add(unquote(place.attributes.get("href", "").removeprefix("cid:")))
    codes = dict.fromkeys(one.attributes.get("errorCode", "") for one in body.all("RegistryError"))
    # What is no code may name whom it is about.
    known = (code if code.replace(":", "").isalnum() and len(code) <= 64 else "?" for code in codes)
    return ImagingAnswer(
        beside=frozenset(beside), within=tuple(within), codes=tuple(dict.fromkeys(known))
    )


def _text_of(parent: XmlElement, name: str) -> str:
    found = next(parent.within(name), None)
    return "" if found is None else found.text.strip()
