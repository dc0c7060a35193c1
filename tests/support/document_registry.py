"""A document repository and registry of our own, for tests: self-consistent, no more.

No XDS registry can be had in this project's tests.  This one was written by the same people who
wrote the publisher, from the same reading of IHE's text: what passes here is not verified by
anybody else.
"""

from __future__ import annotations

import hashlib
from email import message_from_bytes
from email.policy import HTTP
from typing import Any
from xml.etree import ElementTree as ET

from support.web_archive import Answer, Asked

_SOAP = "{http://www.w3.org/2003/05/soap-envelope}"
_RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
_XDS = "{urn:ihe:iti:xds-b:2007}"
_XOP = "{http://www.w3.org/2004/08/xop/include}"
_WSA = "{http://www.w3.org/2005/08/addressing}"
#: Of the repository, as the registry calls it.
REPOSITORY_OID = "1.2.3.77"
_APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
_DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
_SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
_FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"


class DocumentRegistry:
    """Takes ITI-41, ITI-18 (GetDocuments, FindDocuments), ITI-43 and ITI-57
    (UpdateAvailabilityStatus).

    Attributes:
        entries: extrinsic objects by entryUUID, with `status`.
        documents: by entryUUID.
        fails: what is answered in the place of the next answers: a status, the code of a registry
            error, or ``lost``: it does what it is asked, and the connection breaks.
        asked: the action of each request.
    """

    def __init__(self) -> None:
        self.entries: dict[str, ET.Element] = {}
        self.documents: dict[str, bytes] = {}
        self.submissions: list[ET.Element] = []
        self.associations: list[ET.Element] = []
        self.fails: list[int | str] = []
        self.asked: list[str] = []

    @property
    def current(self) -> list[ET.Element]:
        """Entries that are not deprecated."""
        return [one for one in self.entries.values() if one.attrib["status"] == _APPROVED]

    def identifier(self, entry: ET.Element, name: str) -> str:
        """An external identifier of an entry."""
        for one in entry.iter(f"{_RIM}ExternalIdentifier"):
            localized = one.find(f"{_RIM}Name/{_RIM}LocalizedString")
            if localized is not None and localized.attrib["value"] == f"XDSDocumentEntry.{name}":
                return one.attrib["value"]
        raise AssertionError(name)

    def slot(self, of: ET.Element, name: str) -> list[str]:
        """The values of a slot."""
        for one in of.findall(f"{_RIM}Slot"):
            if one.attrib["name"] == name:
                return [value.text or "" for value in one.iter(f"{_RIM}Value")]
        return []

    async def __call__(self, asked: Asked) -> Answer:
        envelope, parts = self._read(asked)
        action = envelope.find(f"{_SOAP}Header/{_WSA}Action")
        assert action is not None
        assert action.text is not None
        self.asked.append(action.text.rpartition(":")[2])
        fail = self.fails.pop(0) if self.fails else None
        if isinstance(fail, int):
            return fail, [("content-type", "text/plain")], [b"Doe^Jane is not welcome"]
        if isinstance(fail, str) and fail != "lost":
            return self._answered(self._response(_FAILURE, fail))
        body = envelope.find(f"{_SOAP}Body")
        assert body is not None
        match self.asked[-1]:
            case "ProvideAndRegisterDocumentSet-b":
                answer = self._provided(body, parts)
            case "UpdateDocumentSet":
                answer = self._updated(body)
            case "RegistryStoredQuery":
                answer = self._found(body)
            case "RetrieveDocumentSet":
                return self._retrieved(body)
            case other:
                raise AssertionError(other)
        if fail == "lost":
            return 200, [("content-type", "application/soap+xml")], [b"<", None]
        return self._answered(answer)

    def _read(self, asked: Asked) -> tuple[ET.Element, dict[str, bytes]]:
        """As another library reads multipart/related."""
        kind = asked.headers["content-type"]
        if not kind.startswith("multipart/"):
            assert kind.startswith("application/soap+xml")
            return ET.fromstring(asked.body), {}
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        message: Any = message_from_bytes(head + asked.body, policy=HTTP)
        root, *others = message.iter_parts()
        assert root.get_content_type() == "application/xop+xml"
        assert root["content-id"] == message.get_param("start")
        assert message.get_param("start-info") == "application/soap+xml"
        parts = {one["content-id"].strip("<>"): one.get_payload(decode=True) for one in others}
        return ET.fromstring(root.get_payload(decode=True)), parts

    def _provided(self, body: ET.Element, parts: dict[str, bytes]) -> str:
        (request,) = body
        assert request.tag == f"{_XDS}ProvideAndRegisterDocumentSetRequest"
        ids = [
            one.attrib["id"]
            for one in request.iter()
            if one.tag.startswith(_RIM) and "id" in one.attrib
        ]
        assert len(ids) == len(set(ids))
        (entry,) = request.iter(f"{_RIM}ExtrinsicObject")
        (package,) = request.iter(f"{_RIM}RegistryPackage")
        include = request.find(f"{_XDS}Document/{_XOP}Include")
        assert include is not None
        content = parts[include.attrib["href"].removeprefix("cid:")]
        assert self.slot(entry, "size") == [str(len(content))]
        assert self.slot(entry, "hash") == [hashlib.sha1(content).hexdigest()]
        uid = self.identifier(entry, "uniqueId")
        if any(self.identifier(one, "uniqueId") == uid for one in self.entries.values()):
            return self._response(_FAILURE, "XDSDuplicateUniqueIdInRegistry")
        for one in request.iter(f"{_RIM}Association"):
            self.associations.append(one)
            if one.attrib["associationType"].endswith(":RPLC"):
                assert one.attrib["sourceObject"] == entry.attrib["id"]
                replaced = self.entries[one.attrib["targetObject"]]
                assert replaced.attrib["status"] == _APPROVED
                replaced.attrib["status"] = _DEPRECATED
            else:
                assert one.attrib["sourceObject"] == package.attrib["id"]
                assert one.attrib["targetObject"] == entry.attrib["id"]
        self.entries[entry.attrib["id"]] = entry
        self.documents[entry.attrib["id"]] = content
        self.submissions.append(package)
        return self._response(_SUCCESS)

    def _updated(self, body: ET.Element) -> str:
        (association,) = body.iter(f"{_RIM}Association")
        kind = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
        assert association.attrib["associationType"] == kind
        entry = self.entries[association.attrib["targetObject"]]
        assert self.slot(association, "OriginalStatus") == [entry.attrib["status"]]
        (entry.attrib["status"],) = self.slot(association, "NewStatus")
        return self._response(_SUCCESS)

    def _found(self, body: ET.Element) -> str:
        (query,) = body.iter(f"{_RIM}AdhocQuery")
        if patient := self.slot(query, "$XDSDocumentEntryPatientId"):
            assert self.slot(query, "$XDSDocumentEntryStatus") == [f"('{_APPROVED}')"]
            chosen = [
                one for one in self.current if [f"'{self.identifier(one, 'patientId')}'"] == patient
            ]
        else:
            (wanted,) = self.slot(query, "$XDSDocumentEntryUniqueId")
            chosen = [
                one
                for one in self.entries.values()
                if f"('{self.identifier(one, 'uniqueId')}')" == wanted
            ]
        for one in chosen:
            if not self.slot(one, "repositoryUniqueId"):
                place = f"<Slot xmlns='{_RIM.strip('{}')}' name='repositoryUniqueId'>"
                value = f"<ValueList><Value>{REPOSITORY_OID}</Value></ValueList></Slot>"
                one.insert(0, ET.fromstring(place + value))
        found = [ET.tostring(one, encoding="unicode") for one in chosen]
        return (
            '<q:AdhocQueryResponse xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" '
            f'status="{_SUCCESS}"><r:RegistryObjectList xmlns:r="{_RIM.strip("{}")}">'
            f"{''.join(found)}</r:RegistryObjectList></q:AdhocQueryResponse>"
        )

    def _retrieved(self, body: ET.Element) -> Answer:
        """The document beside the envelope."""
        (place,) = body.iter(f"{_XDS}RepositoryUniqueId")
        (wanted,) = body.iter(f"{_XDS}DocumentUniqueId")
        assert place.text == REPOSITORY_OID
        (key,) = (
            key
            for key, one in self.entries.items()
            if self.identifier(one, "uniqueId") == wanted.text
        )
        include = f'<x:Include xmlns:x="{_XOP.strip("{}")}" href="cid:doc%40x"/>'
        answer = (
            f'<RetrieveDocumentSetResponse xmlns="{_XDS.strip("{}")}">{self._response(_SUCCESS)}'
            f"<DocumentResponse><DocumentUniqueId>{wanted.text}</DocumentUniqueId>"
            f"<Document>{include}</Document></DocumentResponse></RetrieveDocumentSetResponse>"
        )
        status, headers, (data,) = self._answered(answer)
        assert data is not None
        part = b"\r\n--b\r\ncontent-id: <doc@x>\r\n\r\n" + self.documents[key] + b"\r\n--b--\r\n"
        return status, headers, [data.removesuffix(b"\r\n--b--\r\n") + part]

    def _response(self, status: str, code: str = "") -> str:
        errors = ""
        if code:
            errors = (
                f'<RegistryErrorList><RegistryError errorCode="{code}" '
                'codeContext="Doe^Jane is not welcome"/></RegistryErrorList>'
            )
        return (
            '<RegistryResponse xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" '
            f'status="{status}">{errors}</RegistryResponse>'
        )

    def _answered(self, body: str) -> Answer:
        """In parts, as services answer that speak MTOM."""
        envelope = (
            f'<s:Envelope xmlns:s="{_SOAP.strip("{}")}"><s:Body>{body}</s:Body></s:Envelope>'
        ).encode()
        kind = 'multipart/related; type="application/xop+xml"; boundary=b; start="<r>"'
        head = b"--b\r\ncontent-type: application/xop+xml\r\ncontent-id: <r>\r\n\r\n"
        return 200, [("content-type", kind)], [head + envelope + b"\r\n--b--\r\n"]
