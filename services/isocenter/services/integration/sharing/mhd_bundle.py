"""MHD Provide Document Bundle of a manifest (ITI-65, comprehensive metadata, FHIR R4)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import tzinfo
from typing import Final
from urllib.parse import quote
from uuid import NAMESPACE_OID, uuid5

from isocenter.services.integration.sharing.fhir_values import (
    Json,
    accession_identifier,
    codeable,
    coding,
    date_time_of,
    patient_identifier,
    search_token,
    single_line,
    study_identifier,
    uid_urn,
)
from isocenter.services.integration.sharing.imaging_study import patient_resource
from isocenter.services.integration.sharing.key_object_manifest import KEY_OBJECT_SELECTION
from isocenter.services.integration.sharing.ports import Document
from isocenter.services.integration.sharing.repository import MetadataCode, Repository

_MHD: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
_URI: Final = "urn:ietf:rfc:3986"
_UIDS: Final = "http://dicom.nema.org/resources/ontology/DCMUID"
_IDENTIFIER_TYPES: Final = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDIdentifierType"
_LIST_TYPES: Final = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
#: Where the document reference stands in the bundle, and so in its answer.
DOCUMENT_ENTRY: Final = 1


def provide_bundle(document: Document, repository: Repository, zone: tzinfo | None = None) -> Json:
    """The transaction.

    Args:
        zone: of Study Date and Time; None: that of this machine.

    Raises:
        ManifestError: nobody outside would know whose the study is.
    """
    manifest, uid = document.manifest, document.identity.document_uid
    # Whoever cannot be told apart outside is not told of.
    _ = manifest.patient_authority
    entries = [
        _entry(_submission_set(document, repository), "List", _urn(uid, "set")),
        _entry(
            _document_reference(document, repository, zone), "DocumentReference", _urn(uid, "entry")
        ),
    ]
    if document.replaces is not None:
        entries.append(
            {
                "fullUrl": _urn(uid, "superseded"),
                "resource": superseding_patch(),
                "request": {"method": "PATCH", "url": document.replaces.reference},
            }
        )
    binary = {
        "resourceType": "Binary",
        "contentType": "application/dicom",
        "data": b64encode(document.content).decode(),
    }
    entries.append(_entry(binary, "Binary", _urn(uid, "document")))
    entries.append(_patient(document))
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [f"{_MHD}IHE.MHD.Comprehensive.ProvideBundle"]},
        "type": "transaction",
        "timestamp": _instant(document),
        "entry": entries,
    }


def superseding_patch() -> Json:
    """What makes a document reference superseded, which XDS calls deprecated."""
    return {
        "resourceType": "Parameters",
        "meta": {"profile": [f"{_MHD}IHE.MHD.Patch.Parameters"]},
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "replace"},
                    {"name": "path", "valueString": "DocumentReference.status"},
                    {"name": "value", "valueCode": "superseded"},
                ],
            }
        ],
    }


def _entry(resource: Json, kind: str, url: str) -> Json:
    return {
        "fullUrl": url,
        "resource": resource,
        "request": {"method": "POST", "url": kind},
    }


def _urn(uid: str, what: str) -> str:
    """The same each time for the same document."""
    return f"urn:uuid:{uuid5(NAMESPACE_OID, f'{uid}/{what}')}"


def _identifier(kind: str, value: str) -> Json:
    """Typed as the profile wants it, and with the use that its earlier versions told by."""
    use = "official" if kind == "entryUUID" else "usual"
    return {
        "use": use,
        "type": codeable(kind, _IDENTIFIER_TYPES),
        "system": _URI,
        "value": value,
    }


def _instant(document: Document) -> str:
    return document.identity.made_at.isoformat(timespec="seconds")


def _code(code: MetadataCode) -> Json:
    return codeable(code.code, code.system, code.meaning)


def _submission_set(document: Document, repository: Repository) -> Json:
    uid = document.identity.document_uid
    return {
        "resourceType": "List",
        "meta": {"profile": [f"{_MHD}IHE.MHD.Comprehensive.SubmissionSet"]},
        "extension": [
            {
                "url": f"{_MHD}ihe-designationType",
                "valueCodeableConcept": _code(repository.codes.kind),
            },
            {
                "url": f"{_MHD}ihe-sourceId",
                "valueIdentifier": {"value": uid_urn(repository.source_oid)},
            },
        ],
        "identifier": [
            _identifier("entryUUID", _urn(uid, "set")),
            _identifier("uniqueId", uid_urn(submission_uid(uid))),
        ],
        "status": "current",
        "mode": "working",
        "code": codeable("submissionset", _LIST_TYPES),
        "subject": {"reference": _urn(uid, "patient")},
        "date": _instant(document),
        "entry": [{"item": {"reference": _urn(uid, "entry")}}],
    }


def submission_uid(document_uid: str) -> str:
    """The unique ID of the submission of a document: the same each time."""
    return f"2.25.{uuid5(NAMESPACE_OID, f'{document_uid}/submission').int}"


def _document_reference(document: Document, repository: Repository, zone: tzinfo | None) -> Json:
    manifest, uid, codes = document.manifest, document.identity.document_uid, repository.codes
    unique = _identifier("uniqueId", uid_urn(uid))
    related = [{"identifier": study_identifier(manifest.study_instance_uid)}]
    if number := single_line(manifest.accession_number):
        related.append({"identifier": accession_identifier(number, manifest.authorities)})
    source = patient_resource(manifest.patient, manifest.authorities) | {"id": "patient"}
    author = {
        "resourceType": "Device",
        "id": "author",
        "manufacturer": "Isocenter",
        "deviceName": [{"name": "Isocenter", "type": "manufacturer-name"}],
    }
    context: Json = {
        "facilityType": _code(codes.facility),
        "practiceSetting": _code(codes.practice),
        "sourcePatientInfo": {"reference": "#patient"},
        "related": related,
    }
    if manifest.modalities:
        context["event"] = [codeable(modality) for modality in manifest.modalities]
    if started := date_time_of(manifest.date, manifest.time, zone):
        context["period"] = {"start": started}
    found: Json = {
        "resourceType": "DocumentReference",
        "meta": {"profile": [f"{_MHD}IHE.MHD.Comprehensive.DocumentReference"]},
        "contained": [source, author],
        "masterIdentifier": unique,
        "identifier": [
            _identifier("entryUUID", _urn(uid, "entry")),
            unique,
        ],
        "status": "current",
        "type": _code(codes.kind),
        "category": [_code(codes.category)],
        "subject": {"reference": _urn(uid, "patient")},
        "date": _instant(document),
        "author": [{"reference": "#author"}],
        "securityLabel": [_code(codes.confidentiality)],
        "content": [
            {
                "attachment": {
                    "contentType": "application/dicom",
                    "language": repository.language,
                    "url": _urn(uid, "document"),
                    "size": len(document.content),
                    # SHA-1, as XDS wants it: it finds errors, and proves nothing.
                    "hash": b64encode(
                        hashlib.sha1(document.content, usedforsecurity=False).digest()
                    ).decode(),
                    "title": single_line(manifest.description) or "Imaging study",
                    "creation": _instant(document),
                },
                "format": coding(KEY_OBJECT_SELECTION, _UIDS, "Key Object Selection Document"),
            }
        ],
        "context": context,
    }
    if document.replaces is not None:
        target = {"reference": document.replaces.reference}
        found["relatesTo"] = [{"code": "replaces", "target": target}]
    return found


def _patient(document: Document) -> Json:
    """The patient, who is made there if the identifier is not known yet."""
    manifest = document.manifest
    resource = patient_resource(manifest.patient, manifest.authorities)
    resource.pop("id", None)
    identifier = patient_identifier(manifest.patient, manifest.authorities)
    # As it stands, a comma would make it two, of whom one may be somebody else.
    token = search_token(identifier["system"], identifier["value"])
    entry = _entry(resource, "Patient", _urn(document.identity.document_uid, "patient"))
    entry["request"]["ifNoneExist"] = f"identifier={quote(token, safe=':')}"
    return entry
