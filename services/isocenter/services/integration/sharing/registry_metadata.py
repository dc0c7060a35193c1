"""Metadata of XDS documents in ebRIM (ITI TF-3 4.2): entries, submission sets, associations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from isocenter.services.integration.sharing.fhir_values import date_of, date_time_of
from isocenter.services.integration.sharing.key_object_manifest import KEY_OBJECT_SELECTION
from isocenter.services.integration.sharing.manifest import StudyManifest
from isocenter.services.integration.sharing.mhd_bundle import submission_uid
from isocenter.services.integration.sharing.ports import Document, Publication
from isocenter.services.integration.sharing.repository import MetadataCode, Repository
from isocenter.services.integration.sharing.xml_text import element, text

RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
APPROVED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
_OBJECTS: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject"
_HAS_MEMBER: Final = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
_REPLACES: Final = "urn:ihe:iti:2007:AssociationType:RPLC"
_UPDATES_STATUS: Final = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
_DOCUMENT_ENTRY: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
_SUBMISSION_SET: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
# Of document entries (Table 4.2.3.2-1 …).
_AUTHOR: Final = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
_CLASS: Final = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
_CONFIDENTIALITY: Final = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
_EVENT: Final = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
_FORMAT: Final = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
_FACILITY: Final = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
_PRACTICE: Final = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
_TYPE: Final = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
_PATIENT_ID: Final = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
_UNIQUE_ID: Final = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
# Of submission sets.
_SET_CONTENT: Final = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
_SET_PATIENT_ID: Final = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
_SET_SOURCE_ID: Final = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"
_SET_UNIQUE_ID: Final = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"

_DICOM_UIDS: Final = "1.2.840.10008.2.6.1"
_DCM: Final = "1.2.840.10008.2.16.4"
#: What FHIR calls a coding system → what XDS does.
_SYSTEMS: Final = {
    "http://loinc.org": "2.16.840.1.113883.6.1",
    "http://snomed.info/sct": "2.16.840.1.113883.6.96",
    "http://terminology.hl7.org/CodeSystem/v3-RoleCode": "2.16.840.1.113883.5.111",
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality": "2.16.840.1.113883.5.25",
}
#: A CX holds none of these (HL7 v2).
_CX_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


def entry_uuid(document_uid: str) -> str:
    """The entryUUID of a document: the same each time."""
    return f"urn:uuid:{uuid5(NAMESPACE_OID, f'{document_uid}/entry')}"


def patient_cx(manifest: StudyManifest) -> str:
    """The Patient ID as a CX with who gave it.

    Raises:
        ManifestError: nobody outside would know whose the study is.
    """
    return cx_of(manifest.patient.patient_id, manifest.patient_authority)


def cx_of(patient_id: str, authority: str) -> str:
    """A Patient ID as a CX with the OID of who gave it."""
    return f"{_escaped(patient_id)}^^^&{authority}&ISO"


def submission(document: Document, repository: Repository, zone: tzinfo | None = None) -> str:
    """The SubmitObjectsRequest of a new document, or of one in the place of another.

    Args:
        zone: of Study Date and Time; None: that of this machine.
    """
    manifest, uid = document.manifest, document.identity.document_uid
    patient = patient_cx(manifest)
    package = f"urn:uuid:{uuid5(NAMESPACE_OID, f'{uid}/set')}"
    entry = entry_uuid(uid)
    objects = [
        _extrinsic_object(document, repository, entry, patient, zone),
        _package(package, document.identity.made_at, submission_uid(uid), repository, patient),
        _set_node(package),
        _association(
            "member", _HAS_MEMBER, package, entry, _slot("SubmissionSetStatus", ["Original"])
        ),
    ]
    if document.replaces is not None:
        objects.append(_association("replaces", _REPLACES, entry, document.replaces.reference))
    return _request(objects)


def deprecation(
    publication: Publication, patient: str, repository: Repository, now: datetime
) -> str:
    """The SubmitObjectsRequest that makes a document deprecated (ITI-57)."""
    key = f"{publication.document_uid}/deprecated"
    package = f"urn:uuid:{uuid5(NAMESPACE_OID, key)}"
    unique = f"2.25.{uuid5(NAMESPACE_OID, f'{key}/submission').int}"
    return _request(
        [
            _package(package, now, unique, repository, patient),
            _set_node(package),
            _association(
                "status",
                _UPDATES_STATUS,
                package,
                publication.reference,
                _slot("OriginalStatus", [APPROVED]),
                _slot("NewStatus", [DEPRECATED]),
            ),
        ]
    )


def _request(objects: Sequence[str]) -> str:
    found = element("rim:RegistryObjectList", None, *objects)
    return element("lcm:SubmitObjectsRequest", {"xmlns:lcm": LCM, "xmlns:rim": RIM}, found)


def _extrinsic_object(
    document: Document, repository: Repository, entry: str, patient: str, zone: tzinfo | None
) -> str:
    manifest, codes = document.manifest, repository.codes
    digest = hashlib.sha1(document.content, usedforsecurity=False).hexdigest()
    slots = [
        _slot("creationTime", [_time(document.identity.made_at)]),
        _slot("hash", [digest]),
        _slot("languageCode", [repository.language]),
        _slot("size", [str(len(document.content))]),
        _slot("sourcePatientId", [patient]),
        _slot("sourcePatientInfo", _patient_info(manifest, patient)),
        _slot("urn:ihe:iti:xds:2013:referenceIdList", _references(manifest)),
    ]
    if started := _study_time(manifest, zone):
        slots.insert(3, _slot("serviceStartTime", [started]))
    title = " ".join(manifest.description.split()) or "Imaging study"
    key = KEY_OBJECT_SELECTION
    made = [
        _classified(entry, "class", _CLASS, codes.category),
        _classified(entry, "type", _TYPE, codes.kind),
        _classified(entry, "confidentiality", _CONFIDENTIALITY, codes.confidentiality),
        _classified(entry, "facility", _FACILITY, codes.facility),
        _classified(entry, "practice", _PRACTICE, codes.practice),
        _classification(
            entry, "format", _FORMAT, key, _DICOM_UIDS, "Key Object Selection Document"
        ),
    ]
    made += [
        _classification(entry, f"event-{number}", _EVENT, modality, _DCM, modality)
        for number, modality in enumerate(manifest.modalities, 1)
    ]
    made += [
        _author(entry, manifest),
        _identifier(entry, "patient", _PATIENT_ID, patient, "XDSDocumentEntry.patientId"),
        _identifier(
            entry,
            "unique",
            _UNIQUE_ID,
            document.identity.document_uid,
            "XDSDocumentEntry.uniqueId",
        ),
    ]
    attributes = {
        "id": entry,
        "mimeType": "application/dicom",
        "objectType": _DOCUMENT_ENTRY,
        "status": APPROVED,
    }
    return element("rim:ExtrinsicObject", attributes, *slots, _name(title), *made)


def _package(package: str, at: datetime, unique: str, repository: Repository, patient: str) -> str:
    return element(
        "rim:RegistryPackage",
        {"id": package, "objectType": f"{_OBJECTS}:RegistryPackage", "status": APPROVED},
        _slot("submissionTime", [_time(at)]),
        _name("Manifest"),
        _classified(package, "content", _SET_CONTENT, repository.codes.kind),
        _identifier(package, "patient", _SET_PATIENT_ID, patient, "XDSSubmissionSet.patientId"),
        _identifier(
            package, "source", _SET_SOURCE_ID, repository.source_oid, "XDSSubmissionSet.sourceId"
        ),
        _identifier(package, "unique", _SET_UNIQUE_ID, unique, "XDSSubmissionSet.uniqueId"),
    )


def _set_node(package: str) -> str:
    return element(
        "rim:Classification",
        {
            "classifiedObject": package,
            "classificationNode": _SUBMISSION_SET,
            "id": _id(package, "node"),
            "objectType": f"{_OBJECTS}:Classification",
        },
    )


def _association(what: str, kind: str, source: str, target: str, *slots: str) -> str:
    attributes = {
        "associationType": kind,
        "sourceObject": source,
        "targetObject": target,
        "id": _id(source, f"{what}/{target}"),
        "objectType": f"{_OBJECTS}:Association",
    }
    return element("rim:Association", attributes, *slots)


def _slot(name: str, values: Sequence[str]) -> str:
    listed = [element("rim:Value", None, text(value)) for value in values]
    return element("rim:Slot", {"name": name}, element("rim:ValueList", None, *listed))


def _name(value: str) -> str:
    return element("rim:Name", None, element("rim:LocalizedString", {"value": value}))


def _classified(of: str, what: str, scheme: str, code: MetadataCode) -> str:
    system = _SYSTEMS.get(code.system, code.system.removeprefix("urn:oid:"))
    return _classification(of, what, scheme, code.code, system, code.meaning)


def _classification(of: str, what: str, scheme: str, code: str, system: str, meaning: str) -> str:
    attributes = {
        "classificationScheme": scheme,
        "classifiedObject": of,
        "nodeRepresentation": code,
        "id": _id(of, what),
        "objectType": f"{_OBJECTS}:Classification",
    }
    slot = _slot("codingScheme", [system])
    return element("rim:Classification", attributes, slot, _name(meaning))


def _author(of: str, manifest: StudyManifest) -> str:
    attributes = {
        "classificationScheme": _AUTHOR,
        "classifiedObject": of,
        "nodeRepresentation": "",
        "id": _id(of, "author"),
        "objectType": f"{_OBJECTS}:Classification",
    }
    # A device is told as a person with a family name (XCN).
    slots = [_slot("authorPerson", ["^Isocenter"])]
    if manifest.institution:
        slots.append(_slot("authorInstitution", [_escaped(manifest.institution)]))
    return element("rim:Classification", attributes, *slots)


def _identifier(of: str, what: str, scheme: str, value: str, name: str) -> str:
    attributes = {
        "identificationScheme": scheme,
        "registryObject": of,
        "value": value,
        "id": _id(of, f"identifier/{what}"),
        "objectType": f"{_OBJECTS}:ExternalIdentifier",
    }
    return element("rim:ExternalIdentifier", attributes, _name(name))


def _id(of: str, what: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_OID, f'{of}/{what}')}"


def _escaped(value: str) -> str:
    return "".join(_CX_ESCAPES.get(c, c if c.isprintable() else " ") for c in value)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def _study_time(manifest: StudyManifest, zone: tzinfo | None) -> str:
    """Study Date and Time in UTC; empty: nobody knows."""
    found = date_time_of(manifest.date, manifest.time, zone)
    if "T" in found:
        return _time(datetime.fromisoformat(found))
    return found.replace("-", "")


def _patient_info(manifest: StudyManifest, cx: str) -> list[str]:
    """As fields of a PID segment."""
    patient = manifest.patient
    found = [f"PID-3|{cx}"]
    if patient.name:
        parts = patient.name.partition("=")[0].split("^")
        # A PN has prefix and suffix the other way round.
        family, given, middle, prefix, suffix = (*parts, *[""] * 5)[:5]
        name = "^".join(map(_escaped, (family, given, middle, suffix, prefix))).rstrip("^")
        found.append(f"PID-5|{name}")
    if born := date_of(patient.birth_date):
        found.append(f"PID-7|{born.replace('-', '')}")
    if patient.sex in ("M", "F", "O"):
        found.append(f"PID-8|{patient.sex}")
    return found


def _references(manifest: StudyManifest) -> list[str]:
    """By what else others know the study: CXi with the kind of identifier (4.2.3.2.28)."""
    found = [f"{manifest.study_instance_uid}^^^^urn:ihe:iti:xds:2016:studyInstanceUID"]
    number, oid = manifest.accession_number, manifest.authorities.accession_numbers
    if number and oid:
        found.append(f"{_escaped(number)}^^^&{oid}&ISO^urn:ihe:iti:xds:2013:accession")
    return found
