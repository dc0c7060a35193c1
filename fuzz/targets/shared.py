"""Invariant: what repositories answer, and health records ask, is understood or refused.

Input: a byte for what it is, and the text or document itself.
"""

from __future__ import annotations

from typing import Any

import orjson
from wording import check_fault

from isocenter.engine.errors import IsocenterError
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.index.attributes import Level
from isocenter.services.integration.sharing.imaging_document_set import (
    imaging_request,
    read_imaging_answer,
    read_imaging_request,
)
from isocenter.services.integration.sharing.manifest import AssigningAuthorities, ManifestError
from isocenter.services.integration.sharing.mhd_publisher import reference_in
from isocenter.services.integration.sharing.mhd_source import documents_in
from isocenter.services.integration.sharing.received_manifest import read_manifest
from isocenter.services.integration.sharing.soap import read_answer
from isocenter.services.integration.sharing.xml_text import read_xml_document
from isocenter.services.net.http.client_errors import HttpClientError
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.fhir.searches import Searches

_SEARCHES = Searches(AssigningAuthorities(patient_ids="1.2.3", by_issuer={"X": "1.2.4"}), None)


def run(data: bytes) -> None:
    if not data:
        return
    kind, content = data[0] % 7, data[1:]
    try:
        match kind:
            case 0:
                _manifest(content)
            case 1:
                read_answer("application/soap+xml", content)
            case 2:
                read_answer("multipart/related; boundary=b", content)
            case 3:
                _resource(content)
            case 4:
                _transaction(content)
            case 5:
                _imaging(content)
            case _:
                _search(content)
    except (IsocenterError, HttpError) as fault:
        check_fault(fault)


def _manifest(content: bytes) -> None:
    try:
        found = read_manifest(content)
    except ManifestError as fault:
        check_fault(fault)
        return
    assert found.instance_count
    uids = [uid for one in found.series for uid in one.sop_instance_uids]
    assert all(map(is_safe_uid, [found.study_instance_uid, found.document_uid, *uids]))


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _resource(content: bytes) -> None:
    for one in documents_in(_json(content)):
        assert one.reference
        assert one.title.isprintable()


def _transaction(content: bytes) -> None:
    try:
        found = reference_in(_json(content), 4)
    except HttpClientError as fault:
        check_fault(fault)
        return
    assert found.startswith("DocumentReference/")


def _imaging(content: bytes) -> None:
    """Both halves of Retrieve Imaging Document Set."""
    body = read_answer("application/soap+xml", content).body
    try:
        found = read_imaging_request(body)
    except ValueError as fault:
        check_fault(fault)
    else:
        assert all(is_safe_uid(one.sop_instance_uid) for one in found.documents)
        again = read_xml_document(
            f"<B>{imaging_request(found.documents, found.transfer_syntaxes)}</B>".encode()
        )
        assert set(read_imaging_request(again).documents) == set(found.documents)
    answer = read_imaging_answer(body)
    assert all(code == "?" or code.replace(":", "").isalnum() for code in answer.codes)


def _search(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    query = [(name, value) for name, _, value in (one.partition("=") for one in text.split("&"))]
    for level in (Level.STUDY, Level.PATIENT):
        search = _SEARCHES.read(level, query, is_strict=False)
        assert search.is_empty or all(one.tag for one in search.criteria)
