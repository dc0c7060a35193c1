"""Answers in FHIR: resources, Bundles, and OperationOutcome for errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from isocenter.services.integration.sharing.fhir_values import FhirRelease, Json
from isocenter.services.net.http.media_types import MediaTypeError, parse_accept
from isocenter.services.net.http.messages import Headers, HttpError, Request, Response

#: Where the service begins.
ROOT: Final = "/fhir"
FHIR_JSON: Final = "application/fhir+json"
_JSON: Final = (FHIR_JSON, "application/json", "text/json", "application/json+fhir")
_FORMATS: Final = frozenset((*_JSON, "json"))
#: Status → code of an issue (http://hl7.org/fhir/issue-type).
_ISSUES: Final = {
    400: "invalid", 401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported",
    406: "not-supported", 408: "timeout", 410: "deleted", 413: "too-costly", 415: "not-supported",
    422: "processing", 429: "throttled", 503: "transient",
}  # fmt: skip


def check_accepted(request: Request, release: FhirRelease) -> None:
    """Whether the caller takes JSON of a release.

    Raises:
        HttpError: it does not (406).
    """
    asked = request.parameter("_format")
    if asked is not None:
        # A plus that nobody has encoded arrives as a space.
        if asked.replace(" ", "+").partition(";")[0].strip().lower() in _FORMATS:
            return
        raise HttpError(406, "NOT_ACCEPTABLE", f"resources are had as {FHIR_JSON} only")
    try:
        ranges = parse_accept(request.header("accept") or "")
    except MediaTypeError as error:
        raise HttpError(406, "NOT_ACCEPTABLE", str(error)) from error
    version = release.version.rpartition(".")[0]
    for one in ranges:
        wanted = one.range.parameter("fhirversion")
        if one.quality > 0 and any(map(one.range.covers, _JSON)) and wanted in (None, version):
            return
    raise HttpError(406, "NOT_ACCEPTABLE", f"resources are had as {FHIR_JSON} of FHIR {version}")


def fhir_response(
    resource: Json, release: FhirRelease | None, status: int = 200, headers: Headers = ()
) -> Response:
    """A resource as the answer; *release*: None of one that is the same in all."""
    kind = FHIR_JSON
    if release is not None:
        kind += f"; fhirVersion={release.version.rpartition('.')[0]}"
    said = (("content-type", kind), ("cache-control", "no-store"), ("vary", "Accept"), *headers)
    return Response(status=status, headers=said, body=orjson.dumps(resource))


def outcome(code: str, text: str, severity: str = "error") -> Json:
    """An OperationOutcome with one issue."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "diagnostics": text}],
    }


def outcome_response(request: Request, error: HttpError) -> Response:
    """What a request below `ROOT` is answered by where it fails."""
    issue = _ISSUES.get(error.status, "exception" if error.status >= 500 else "processing")
    made = outcome(issue, f"{error.message} (request {request.name})")
    made["issue"][0]["details"] = {"text": error.code}
    return fhir_response(made, None, error.status, error.headers)


def search_set(
    matches: Sequence[Json],
    *,
    base: str,
    links: Sequence[tuple[str, str]],
    included: Sequence[Json] = (),
    total: int | None = None,
    warnings: Sequence[str] = (),
) -> Json:
    """A Bundle of matches.

    Args:
        links: relation and URL.
        total: of all pages; None: nobody has counted.
        warnings: what has to be said of the search as a whole.
    """
    entries: list[Json] = [_entry(one, base, "match") for one in matches]
    entries += [_entry(one, base, "include") for one in included]
    entries += [
        {"resource": outcome("not-supported", text, "warning"), "search": {"mode": "outcome"}}
        for text in warnings
    ]
    found: Json = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": relation, "url": url} for relation, url in links],
    }
    if total is not None:
        found["total"] = total
    if entries:
        found["entry"] = entries
    return found


def _entry(resource: Json, base: str, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = {"resource": resource, "search": {"mode": mode}}
    if "id" in resource:
        found["fullUrl"] = f"{base}/{resource['resourceType']}/{resource['id']}"
    return found
