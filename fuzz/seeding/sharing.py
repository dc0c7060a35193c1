"""Seeds that are what repositories answer, and what health records ask."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from corpora import Seeds

from isocenter.services.integration.sharing.imaging_document_set import (
    ImagingDocument,
    ImagingError,
    imaging_request,
    imaging_response,
)
from isocenter.services.integration.sharing.key_object_manifest import (
    DocumentIdentity,
    ManifestForm,
    manifest_bytes,
)
from isocenter.services.integration.sharing.manifest import (
    ManifestInstance,
    ManifestPatient,
    ManifestSeries,
    Retrieval,
    StudyManifest,
)

_SOAP = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>'
_END = "</s:Body></s:Envelope>"


def shared() -> Seeds:
    answer = f'{_SOAP}<R status="x:Success"/>{_END}'.encode()
    fault = f"{_SOAP}<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code></s:Fault>{_END}"
    part = b"--b\r\nContent-ID: <r>\r\n\r\n"
    reference = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"value": "urn:oid:1.2"},
        "context": {"related": [{"identifier": {"system": "urn:dicom:uid", "value": "1.2"}}]},
        "content": [
            {
                "attachment": {
                    "contentType": "application/dicom",
                    "url": "Binary/1",
                    "title": "Study",
                },
                "format": {"code": "1.2.840.10008.5.1.4.1.1.88.59"},
            }
        ],
    }
    response = {"status": "201", "location": "DocumentReference/1/_history/1"}
    transaction = {"type": "transaction-response", "entry": [{"response": response}] * 4}
    return {
        "manifest": b"\0" + _manifest(ManifestForm.XDS_I),
        "mado": b"\0" + _manifest(ManifestForm.MADO),
        "answer": b"\1" + answer,
        "fault": b"\1" + fault.encode(),
        "doctype": b"\1<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "parts": b"\2" + part + answer + b"\r\n" + part + b"x\r\n--b--\r\n",
        "reference": b"\3" + json.dumps(reference).encode(),
        "transaction": b"\4" + json.dumps(transaction).encode(),
        "imaging-request": b"\5" + f"{_SOAP}{_imaging_request()}{_END}".encode(),
        "imaging-response": b"\5" + f"{_SOAP}{_imaging_response()}{_END}".encode(),
        "studies": b"\6identifier=urn:dicom:uid|urn:oid:1.2,1.3&patient=Patient/UDE&_count=5&"
        b"started=ge2026-01-02T10:15:00Z&started=lt2026-02&modality=CT&_include=ImagingStudy:subject",
        "patients": b"\6identifier=urn:oid:1.2.3|P1&name=a*&birthdate=1970&gender=male,other",
    }


_DOCUMENT = ImagingDocument(
    study_instance_uid="1.2", series_instance_uid="1.3", sop_instance_uid="1.4", place="1.5"
)


def _imaging_request() -> str:
    return imaging_request([_DOCUMENT], ["1.2.840.10008.1.2.1"])


def _imaging_response() -> str:
    error = ImagingError(code="XDSDocumentUniqueIdError", document=_DOCUMENT, why="gone")
    return imaging_response([(_DOCUMENT, "1@a")], [error])


def _manifest(form: ManifestForm) -> bytes:
    instance = ManifestInstance(
        sop_instance_uid="1.2.3.4", sop_class_uid="1.2.840.10008.5.1.4.1.1.2", number=1
    )
    series = ManifestSeries(
        series_instance_uid="1.2.3", modality="CT", instances=(instance,), instance_count=1
    )
    study = StudyManifest(
        study_instance_uid="1.2",
        patient=ManifestPatient(patient_id="P1"),
        series=(series,),
        retrieval=Retrieval(wado_rs="https://a.example", location_uid="1.2.5", ae_title="A"),
    )
    made_at = datetime(2026, 1, 2, tzinfo=UTC)
    return manifest_bytes(study, DocumentIdentity(document_uid="1.2.9", made_at=made_at, form=form))
