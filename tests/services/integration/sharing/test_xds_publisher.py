"""Manifests published by XDS: provided and registered, replaced, deprecated, found.

The repository and registry are of our own (`support.document_registry`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta, timezone
from io import BytesIO
from typing import Any

import pydicom
import pytest

from isocenter.services.integration.sharing.key_object_manifest import manifest_bytes
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    ManifestPatient,
    StudyManifest,
)
from isocenter.services.integration.sharing.ports import (
    ArrivalUnknownError,
    Document,
    Publication,
    PublishingError,
)
from isocenter.services.integration.sharing.registry_metadata import entry_uuid, submission
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.integration.sharing.soap import call
from isocenter.services.integration.sharing.stored_queries import values_of_slot
from isocenter.services.integration.sharing.xds_publisher import XdsPublisher
from isocenter.services.integration.sharing.xml_text import read_xml_document
from isocenter.services.net.http.client import HttpClient, Retries
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from services.integration.sharing.samples import MADE_AT, ROOT, identity, manifest
from support.document_registry import DocumentRegistry
from support.web_archive import Asked, Scripted, http_serving

REPOSITORY = Repository(
    name="national", protocol=Protocol.XDS, url="http://repository.example", source_oid="1.2.3.9"
)


def document(
    of: StudyManifest, uid: str = f"{ROOT}.900", replaces: Publication | None = None
) -> Document:
    from dataclasses import replace

    made = replace(identity(), document_uid=uid)
    return Document(manifest=of, identity=made, content=manifest_bytes(of, made), replaces=replaces)


def published(uid: str = f"{ROOT}.900") -> Publication:
    return Publication(
        repository="national", study_instance_uid=ROOT, document_uid=uid, reference=entry_uuid(uid)
    )


@asynccontextmanager
async def speaking(
    answer: Callable[[Asked], Awaitable[Any]], *, has_registry: bool = True
) -> AsyncIterator[XdsPublisher]:
    once = Retries(attempts=1)
    async with (
        http_serving(Scripted(answer)) as url,
        HttpClient(f"{url}/repository", retries=once) as client,
        HttpClient(f"{url}/registry", retries=once) as registry,
    ):
        yield XdsPublisher(
            client, registry if has_registry else None, REPOSITORY, now=lambda: MADE_AT
        )


async def test_a_document_arrives_with_its_metadata() -> None:
    registry = DocumentRegistry()
    async with speaking(registry) as publisher:
        reference = await publisher.publish(document(manifest()))
    (entry,) = registry.current
    assert entry.attrib["id"] == reference == entry_uuid(f"{ROOT}.900")
    content = pydicom.dcmread(BytesIO(registry.documents[reference]))
    assert content.StudyInstanceUID == ROOT
    assert registry.identifier(entry, "uniqueId") == content.SOPInstanceUID
    assert registry.identifier(entry, "patientId") == "P1^^^&1.3.6.1.4.1.2&ISO"
    assert registry.slot(entry, "creationTime") == ["20261130073015"]
    assert registry.slot(entry, "urn:ihe:iti:xds:2013:referenceIdList") == [
        f"{ROOT}^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
        "A1^^^&1.3.6.1.4.1.3&ISO^urn:ihe:iti:xds:2013:accession",
    ]
    info = registry.slot(entry, "sourcePatientInfo")
    assert info == ["PID-3|P1^^^&1.3.6.1.4.1.2&ISO", "PID-5|Müller^Jörg^^^Dr.", "PID-7|19700102",
                    "PID-8|O"]  # fmt: skip
    codes = {
        one.attrib["nodeRepresentation"]: one.attrib["classificationScheme"]
        for one in entry
        if one.tag.endswith("Classification")
    }
    assert codes["1.2.840.10008.5.1.4.1.1.88.59"].endswith("3699a4309d")
    assert {"CT", "ECG", "SR", "18748-4", "394914008", "N"} <= codes.keys()


def test_the_time_of_a_study_is_that_of_the_zone_of_the_settings() -> None:
    found = [
        values_of_slot(entry, "serviceStartTime")
        for hours in (0, 5)
        for entry in read_xml_document(
            submission(
                document(manifest(date="20260102", time="0130")),
                REPOSITORY,
                timezone(timedelta(hours=hours)),
            ).encode()
        ).all("ExtrinsicObject")
    ]
    assert found == [["20260102013000"], ["20260101203000"]]


async def test_a_document_takes_the_place_of_another() -> None:
    registry = DocumentRegistry()
    async with speaking(registry) as publisher:
        await publisher.publish(document(manifest()))
        await publisher.publish(document(manifest(), f"{ROOT}.901", published()))
    (entry,) = registry.current
    assert entry.attrib["id"] == entry_uuid(f"{ROOT}.901")
    assert len(registry.entries) == 2


async def test_a_document_is_found_and_deprecated() -> None:
    registry = DocumentRegistry()
    async with speaking(registry) as publisher:
        assert await publisher.find(f"{ROOT}.900") is None
        await publisher.publish(document(manifest()))
        assert await publisher.find(f"{ROOT}.900") == entry_uuid(f"{ROOT}.900")
        await publisher.withdraw(published())
        await publisher.withdraw(published(f"{ROOT}.7"))  # it was never there
        await publisher.withdraw(published())  # an answer was lost, perhaps
    assert registry.current == []
    assert registry.asked.count("UpdateDocumentSet") == 1


async def test_without_a_registry_nothing_is_deprecated() -> None:
    async with speaking(DocumentRegistry(), has_registry=False) as publisher:
        with pytest.raises(ArrivalUnknownError, match="set registry"):
            await publisher.find(f"{ROOT}.900")
        with pytest.raises(PublishingError, match="set registry"):
            await publisher.withdraw(published())


async def test_what_is_refused_is_told_by_its_code_alone() -> None:
    registry = DocumentRegistry()
    async with speaking(registry) as publisher:
        registry.fails = ["XDSUnknownPatientId"]
        with pytest.raises(PublishingError, match="national refuses: XDSUnknownPatientId") as told:
            await publisher.publish(document(manifest()))
        assert "Doe" not in str(told.value)
        for busy in ("XDSRepositoryBusy", "XDSRegistryBusy"):
            registry.fails = [busy]
            with pytest.raises(HttpStatusError):
                await publisher.publish(document(manifest()))
        registry.fails = [503]
        with pytest.raises(HttpStatusError) as later:
            await publisher.publish(document(manifest()))
        assert "Doe" not in str(later.value)
        registry.fails = ["lost"]
        with pytest.raises(BrokenAnswerError):
            await publisher.publish(document(manifest()))
        assert await publisher.find(f"{ROOT}.900") is not None


async def test_patients_whom_nobody_outside_knows_are_not_published() -> None:
    async with speaking(DocumentRegistry()) as publisher:
        for of, said in (
            (manifest(patient=ManifestPatient()), "no Patient ID"),
            (manifest(authorities=AssigningAuthorities()), "who gave"),
        ):
            with pytest.raises(ManifestError, match=said):
                await publisher.publish(document(of))


async def test_odd_texts_stay_within_their_fields() -> None:
    registry = DocumentRegistry()
    patient = ManifestPatient(patient_id="P^1&<x>\x01", name="A&B^C|D", issuer="CLINIC")
    async with speaking(registry) as publisher:
        await publisher.publish(document(manifest(patient=patient, description='"<&>\n')))
    (entry,) = registry.current
    assert registry.identifier(entry, "patientId") == ("P\\S\\1\\T\\<x> ^^^&1.3.6.1.4.1.2&ISO")


SOAP = "http://www.w3.org/2003/05/soap-envelope"


def envelope(body: str) -> bytes:
    return f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


def fault(code: str) -> bytes:
    value = f"<s:Code><s:Value>s:{code}</s:Value></s:Code>"
    return envelope(f"<s:Fault>{value}<s:Reason><s:Text>Doe^Jane</s:Text></s:Reason></s:Fault>")


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (500, "application/soap+xml", fault("Receiver"), HttpStatusError),
        (400, "application/soap+xml", fault("Sender"), PublishingError),
        (400, "application/soap+xml", fault("<"), HttpStatusError),
        (500, "text/html", b"<html>Doe^Jane", HttpStatusError),
        (403, "text/plain", b"Doe^Jane", HttpStatusError),
        (200, "application/soap+xml", b"", BrokenAnswerError),
        (200, "application/soap+xml", b"<a/>", BrokenAnswerError),
        (200, "application/soap+xml", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
         BrokenAnswerError),
        (200, "multipart/related", b"--b--", BrokenAnswerError),
        (200, "multipart/related; boundary=b", b"--b--\r\n", BrokenAnswerError),
        (200, "multipart/related; boundary=b", b"--b\r\n\r\n<a", BrokenAnswerError),
    ],
)  # fmt: skip
async def test_answers_that_are_none_are_faults(
    status: int, kind: str, body: bytes, error: type[Exception]
) -> None:
    async def answer(asked: Asked) -> Any:
        return status, [("content-type", kind)], [body]

    async with (
        http_serving(Scripted(answer)) as url,
        HttpClient(url, retries=Retries(attempts=1)) as client,
    ):
        with pytest.raises(error) as told:
            await call(client, "urn:x", "<x/>")
        assert "Doe" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        b"<a>" * 100 + b"</a>" * 100,
        b"<a>" + b"<b/>" * 200_001 + b"</a>",
        b"<a>" + b"<b c='' d='' e=''/>" * 170_000 + b"</a>",
        b"<a " + b"".join(b"b%d='' " % n for n in range(200_000)) + b"/>",
        b"<!--" + b" " * (2 << 20),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<?xml version="1.0" encoding="utf-99"?><a/>',
        b"\xff",
    ],
)
def test_xml_beyond_bounds_is_refused(text: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        read_xml_document(text)
