"""A document recipient of our own, for tests: it shows that ours is self-consistent, no more.

No MHD recipient can be had in this project's tests.  This one was written by the same people who
wrote the publisher, from the same reading of IHE's text: what passes here is not verified by
anybody else.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.parameters import Parameters

from support.web_archive import Answer, Asked

_FHIR = [("content-type", "application/fhir+json")]


class DocumentRecipient:
    """Takes Provide Document Bundles (ITI-65) and patches, answers searches (ITI-67) and gives
    documents (ITI-68).

    Attributes:
        references: document references by id.
        fails: statuses that are answered in the place of an answer, one after the other; a status
            below zero: it does what it is asked, and the connection breaks instead of the answer.
        asked: method and path of each request.
    """

    def __init__(self) -> None:
        self.references: dict[str, dict[str, Any]] = {}
        self.binaries: dict[str, bytes] = {}
        self.patients: dict[str, dict[str, Any]] = {}
        self.submissions: list[dict[str, Any]] = []
        self.fails: list[int] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.searches = True

    @property
    def current(self) -> list[dict[str, Any]]:
        """Document references that are not superseded."""
        return [one for one in self.references.values() if one["status"] == "current"]

    def document(self, reference: dict[str, Any]) -> bytes:
        """The document of a reference."""
        return self.binaries[reference["content"][0]["attachment"]["url"]]

    async def __call__(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.target)
        path = parts.path.removeprefix("/fhir").strip("/")
        self.asked.append((asked.method, path))
        self.headers.append(asked.headers)
        fail = self.fails.pop(0) if self.fails else 0
        if fail > 0:
            text = b'{"resourceType": "OperationOutcome", "message": "Doe^Jane is not welcome"}'
            return fail, _FHIR, [text]
        status, body = self._answered(asked, path, parse_qs(parts.query))
        if fail < 0:
            return status, _FHIR, [b"{", None]
        return status, _FHIR, [orjson.dumps(body)]

    def _answered(
        self, asked: Asked, path: str, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, Any]]:
        if asked.method == "POST" and not path:
            assert asked.headers["content-type"] == "application/fhir+json"
            Bundle.model_validate_json(asked.body)
            return 200, self._transaction(orjson.loads(asked.body))
        if asked.method == "PATCH":
            return self._patched(path, orjson.loads(asked.body))
        if asked.method == "GET" and path.startswith("Binary/") and path in self.binaries:
            data = b64encode(self.binaries[path]).decode()
            return 200, {"resourceType": "Binary", "data": data}
        if asked.method == "GET" and "patient.identifier" in query:
            return 200, self._of_patient(query)
        if asked.method == "GET" and path == "DocumentReference" and self.searches:
            (wanted,) = query["identifier"]
            system, _, value = wanted.partition("|")
            found = [
                one
                for one in self.references.values()
                if (one["masterIdentifier"]["system"], one["masterIdentifier"]["value"])
                == (system, value)
            ]
            entries = [{"resource": one} for one in found]
            return 200, {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return 404, {"resourceType": "OperationOutcome", "issue": []}

    def _of_patient(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """Page by page, one reference on each."""
        assert query["status"] == ["current"]
        (wanted,) = query["patient.identifier"]
        keys = [
            f"Patient/{key}"
            for key, one in self.patients.items()
            if wanted == "{system}|{value}".format(**one["identifier"][0])
        ]
        found = [one for one in self.current if one["subject"]["reference"] in keys]
        page = int(query.get("page", ["0"])[0])
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
        bundle["entry"] = [{"resource": one} for one in found[page : page + 1]]
        if page + 1 < len(found):
            said = urlencode({"patient.identifier": wanted, "status": "current", "page": page + 1})
            bundle["link"] = [{"relation": "next", "url": f"DocumentReference?{said}"}]
        return bundle

    def _patched(self, path: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        Parameters.model_validate(parameters)
        found = self.references.get(path.removeprefix("DocumentReference/"))
        if found is None:
            return 404, {"resourceType": "OperationOutcome", "issue": []}
        parts = {one["name"]: one for one in parameters["parameter"][0]["part"]}
        assert parts["path"]["valueString"] == "DocumentReference.status"
        found["status"] = parts["value"]["valueCode"]
        return 200, found

    def _transaction(self, bundle: dict[str, Any]) -> dict[str, Any]:
        assert bundle["type"] == "transaction"
        given: dict[str, str] = {}
        responses = []
        for number, entry in enumerate(bundle["entry"]):
            kind, request = entry["resource"]["resourceType"], entry["request"]
            assert entry["fullUrl"] not in given
            if request["method"] == "PATCH":
                status, _ = self._patched(request["url"], entry["resource"])
                assert status == 200
                responses.append({"status": "200 OK", "location": request["url"]})
                continue
            assert request == {**request, "method": "POST", "url": kind}
            key = f"{len(self.references) + len(self.submissions)}-{number}"
            is_new = True
            if kind == "Patient":
                wanted = request["ifNoneExist"]
                known = [key for key, one in self.patients.items() if one["wanted"] == wanted]
                is_new = not known
                key = known[0] if known else key
                self.patients.setdefault(key, {**entry["resource"], "wanted": wanted})
            given[entry["fullUrl"]] = f"{kind}/{key}"
            responses.append(
                {
                    "status": "201 Created" if is_new else "200 OK",
                    "location": f"https://recipient.example/fhir/{kind}/{key}/_history/1",
                }
            )
        for entry in bundle["entry"]:
            resource = entry["resource"]
            match resource["resourceType"]:
                case "List":
                    assert resource["entry"][0]["item"]["reference"] in given
                    assert resource["subject"]["reference"] in given
                    self.submissions.append(resource)
                case "DocumentReference":
                    attachment = resource["content"][0]["attachment"]
                    attachment["url"] = given[attachment["url"]]
                    resource["subject"] = {"reference": given[resource["subject"]["reference"]]}
                    for relation in resource.get("relatesTo", ()):
                        key = relation["target"]["reference"].removeprefix("DocumentReference/")
                        assert self.references[key]["status"] == "superseded"
                    key = given[entry["fullUrl"]].removeprefix("DocumentReference/")
                    self.references[key] = {**resource, "id": key}
                case "Binary":
                    self.binaries[given[entry["fullUrl"]]] = b64decode(resource["data"])
        return {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [{"response": one} for one in responses],
        }
