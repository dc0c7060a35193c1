"""Studies that others have shared: found, their manifests read, and retrieved from our nodes.

Both halves are of our own (`support.document_recipient`, `support.document_registry`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from isocenter.services.integration.sharing import mhd_source, xds_source
from isocenter.services.integration.sharing.key_object_manifest import (
    ManifestForm,
    manifest_bytes,
)
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    Retrieval,
)
from isocenter.services.integration.sharing.mhd_publisher import MhdPublisher
from isocenter.services.integration.sharing.mhd_source import MhdSource
from isocenter.services.integration.sharing.ports import (
    Document,
    DocumentSource,
    PublishingError,
    SharedDocument,
)
from isocenter.services.integration.sharing.received_manifest import read_manifest
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.integration.sharing.studies_of_others import (
    StudiesOfOthers,
    fetched_document,
)
from isocenter.services.integration.sharing.xds_publisher import XdsPublisher
from isocenter.services.integration.sharing.xds_source import XdsSource
from isocenter.services.net.http.client import HttpClient, Retries
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobKind
from isocenter.services.workflow.nodes.node import new_node
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.nodes import DatabaseNodes
from isocenter.storage.database.sqlite.database import open_sqlite_database
from services.integration.sharing.samples import MADE_AT, ROOT, identity, manifest, series
from support.document_recipient import DocumentRecipient
from support.document_registry import DocumentRegistry
from support.web_archive import Asked, Scripted, http_serving

OTHER = f"{ROOT}.77"


def document(**values: Any) -> Document:
    of = manifest(**values)
    made = replace(identity(), document_uid=f"{of.study_instance_uid}.900")
    return Document(manifest=of, identity=made, content=manifest_bytes(of, made))


@asynccontextmanager
async def source(
    protocol: Protocol, answer: Any, *, publishes: bool = True
) -> AsyncIterator[DocumentSource]:
    """A repository that has two studies of the patient, and is asked."""
    once = Retries(attempts=1)
    async with http_serving(Scripted(answer)) as url, HttpClient(f"{url}/fhir", retries=once) as to:
        repository = Repository(name="regional", protocol=protocol, url=url, source_oid="1.2.3.9")
        is_mhd = protocol is Protocol.MHD
        publisher = (
            MhdPublisher(to, repository)
            if is_mhd
            else XdsPublisher(to, to, repository, now=lambda: MADE_AT)
        )
        if publishes:
            await publisher.publish(document())
            await publisher.publish(document(study_instance_uid=OTHER, description="Other"))
        yield MhdSource(to, repository) if is_mhd else XdsSource(to, to, repository)


WORLDS = pytest.mark.parametrize(
    ("protocol", "world"), [(Protocol.MHD, DocumentRecipient), (Protocol.XDS, DocumentRegistry)]
)


@WORLDS
async def test_manifests_of_a_patient_are_found_and_read(
    protocol: Protocol, world: Callable[[], Any]
) -> None:
    async with source(protocol, world()) as asked:
        found = await asked.find("P1", "1.3.6.1.4.1.2")
        assert await asked.find("P1", "1.3.6.1.4.1.99") == []
        first, second = sorted(found, key=lambda one: one.study_instance_uid)
        assert (first.study_instance_uid, first.title) == (ROOT, "CT Thorax")
        assert (second.study_instance_uid, second.uid) == (OTHER, f"{OTHER}.900")
        read = read_manifest(await asked.retrieve(second))
        assert read.study_instance_uid == OTHER
        assert read.instance_count == 6


def test_a_manifest_is_read_with_where_its_series_are() -> None:
    for form in ManifestForm:
        found = read_manifest(manifest_bytes(manifest(), identity(form)))
        assert (found.document_uid, found.study_instance_uid) == (f"{ROOT}.900", ROOT)
        assert [len(one.sop_instance_uids) for one in found.series] == [3, 1, 1, 1]
        assert found.series[0].wado_rs == "https://archive.example/dicomweb"
        assert found.series[0].ae_title == "ISOCENTER"


def test_documents_that_are_no_manifests_are_refused() -> None:
    whole = manifest_bytes(manifest(), identity())
    other = whole.replace(b"1.2.840.10008.5.1.4.1.1.88.59", b"1.2.840.10008.5.1.4.1.1.88.11")
    nothing = manifest_bytes(manifest(series=(replace(series(1), instances=()),)), identity())
    for content, why in (
        (b"", "cannot be read"),
        (b"%PDF-1.7", "cannot be read"),
        (other, "no Key Object Selection"),
        (nothing, "no instances"),
        (whole.replace(f"{ROOT}.1.2".encode(), b"../../../etc" + b"x" * (len(ROOT) - 8)), "no UID"),
    ):
        with pytest.raises(ManifestError, match=why):
            read_manifest(content)


@asynccontextmanager
async def studies(
    nodes: list[str],
    authorities: AssigningAuthorities,
    asked: DocumentSource,
    *,
    imaging: str = "",
) -> AsyncIterator[tuple[StudiesOfOthers, DatabaseJobs]]:
    repository = Repository(
        name="regional", protocol=Protocol.XDS, url="x", source_oid="1.2", imaging=imaging
    )

    @asynccontextmanager
    async def open_source(of: Repository) -> AsyncIterator[DocumentSource]:
        assert of is repository
        yield asked

    async with open_sqlite_database(":memory:") as database:
        book, queue = DatabaseNodes(database), DatabaseJobs(database)
        for number, address in enumerate(nodes):
            await book.add(new_node(address, f"node-{number}"))
        jobs = JobDesk(queue, lambda: None)
        yield StudiesOfOthers({"regional": repository}, open_source, authorities, book, jobs), queue


class Given:
    """A source that has one document."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def find(self, patient_id: str, authority: str) -> list[SharedDocument]:
        assert (patient_id, authority) == ("P1", "1.3.6.1.4.1.2")
        return [SharedDocument(uid=f"{ROOT}.900", reference="r")]

    async def retrieve(self, document: SharedDocument) -> bytes:
        return self.content


IMAGING = "https://source.example/rad69"


async def test_where_no_node_has_a_study_its_imaging_document_source_is_asked() -> None:
    given = Given(manifest_bytes(manifest(), identity()))
    async with studies([], manifest().authorities, given, imaging=IMAGING) as (shared, queue):
        found = SharedDocument(uid=f"{ROOT}.900", reference="", place="1.2.3.77")
        job_id, _, _ = await shared.fetch("regional", found, requested_by="alice")
        job = await queue.get(job_id)
        assert job is not None
        assert (job.request.kind, job.request.node) == (JobKind.FETCH, "repository:regional")
        assert fetched_document(job.request) == replace(found, study_instance_uid=ROOT)
    nodes = ["https://archive.example/dicomweb"]
    async with studies(nodes, manifest().authorities, given, imaging=IMAGING) as (shared, _):
        assert await shared.place_of("regional", read_manifest(given.content)) == "node-0"
    nowhere = manifest(retrieval=Retrieval(wado_rs="https://x.example"))
    content = manifest_bytes(nowhere, identity())
    async with studies([], manifest().authorities, given, imaging=IMAGING) as (shared, _):
        with pytest.raises(ManifestError, match="isocenter node add"):
            await shared.place_of("regional", read_manifest(content))


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        (["https://other.example/dicomweb", "https://archive.example/dicomweb/"], "node-1"),
        (["ISOCENTER@192.0.2.1:104"], "node-0"),
    ],
)
async def test_a_study_is_retrieved_from_the_node_that_its_manifest_names(
    nodes: list[str], name: str
) -> None:
    given = Given(manifest_bytes(manifest(), identity()))
    async with studies(nodes, manifest().authorities, given) as (shared, queue):
        (found,) = await shared.find("regional", "P1", "CLINIC")
        job_id, is_new, read = await shared.fetch("regional", found, requested_by="alice")
        job = await queue.get(job_id)
        assert job is not None
        assert is_new
        assert read.instance_count == 6
        assert (job.request.kind, job.request.node) == (JobKind.RETRIEVE, name)
        assert job.request.keys == (("StudyInstanceUID", ROOT),)


async def test_nothing_is_asked_of_an_address_that_only_a_document_names() -> None:
    given = Given(manifest_bytes(manifest(), identity()))
    async with studies(["https://other.example"], manifest().authorities, given) as (shared, queue):
        (found,) = await shared.find("regional", "P1", "CLINIC")
        with pytest.raises(ManifestError, match=r"no node .*archive\.example"):
            await shared.fetch("regional", found, requested_by="")
        given.content = manifest_bytes(manifest(retrieval=Retrieval()), identity())
        with pytest.raises(ManifestError, match="neither address nor AE title"):
            await shared.fetch("regional", found, requested_by="")
        with pytest.raises(ManifestError, match="another UID"):
            await shared.fetch("regional", replace(found, uid="1.2.3"), requested_by="")
        with pytest.raises(ManifestError, match="another study"):
            await shared.fetch(
                "regional", replace(found, study_instance_uid=OTHER), requested_by=""
            )
        with pytest.raises(PublishingError, match="patient_authority"):
            await shared.find("regional", "P1", "UNKNOWN")
        assert await queue.jobs(limit=10) == []


async def test_a_patient_id_is_one_value_of_a_stored_query_whatever_is_in_it() -> None:
    asked: list[Asked] = []

    async def answer(one: Asked) -> Any:
        asked.append(one)
        return 400, [], [b""]

    async with source(Protocol.XDS, answer, publishes=False) as one:
        with pytest.raises(HttpStatusError):
            await one.find("A'B", "1.2.3")
    assert b">'A''B^^^&amp;1.2.3&amp;ISO'<" in asked[0].body


async def test_documents_of_another_patient_are_not_taken() -> None:
    registry = DocumentRegistry()

    def careless(of: Any, name: str) -> str:
        return "P1^^^&1.3.6.1.4.1.2&ISO"

    def rename(cx: str) -> None:
        for entry in registry.current:
            for identifier in entry:
                if "1.3.6.1.4.1.2&ISO" in identifier.attrib.get("value", ""):
                    identifier.attrib["value"] = cx

    async with source(Protocol.XDS, registry) as one:
        registry.identifier = careless  # type: ignore[method-assign]
        rename("P1^^^CLINIC&1.3.6.1.4.1.2&ISO")
        assert len(await one.find("P1", "1.3.6.1.4.1.2")) == 2
        for other in ("P2^^^&1.3.6.1.4.1.2&ISO", "P1^^^&1.3.6.1.4.1.2.1.3.6.1.4.1.2&ISO"):
            rename(other)
            with pytest.raises(PublishingError, match="another patient"):
                await one.find("P1", "1.3.6.1.4.1.2")


async def test_documents_that_were_withdrawn_are_left_out() -> None:
    recipient, registry = DocumentRecipient(), DocumentRegistry()
    async with source(Protocol.MHD, recipient) as one:
        bundle = {"entry": [{"resource": found} for found in recipient.current]}
        bundle["entry"][0]["resource"] |= {"status": "superseded"}
        recipient._of_patient = lambda query: bundle  # type: ignore[method-assign]
        (found,) = await one.find("P1", "1.3.6.1.4.1.2")
        assert found.study_instance_uid == OTHER
    async with source(Protocol.XDS, registry) as one:
        entries = registry.current
        entries[0].attrib["status"] = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(DocumentRegistry, "current", entries)
            (found,) = await one.find("P1", "1.3.6.1.4.1.2")
        assert found.study_instance_uid == OTHER


@pytest.mark.parametrize(
    "reference",
    ["http://169.254.169.254/latest", "//evil.example/x", "/other/Binary/1", "../secret",
     "Binary/../../x", "file:///etc/passwd", "http://[", "//[evil"],
)  # fmt: skip
async def test_documents_elsewhere_are_not_asked_for(reference: str) -> None:
    asked: list[Asked] = []

    async def answer(one: Asked) -> Any:
        asked.append(one)
        return 200, [("content-type", "application/dicom")], [b"x"]

    async with source(Protocol.MHD, answer, publishes=False) as one:
        with pytest.raises(PublishingError, match="another address"):
            await one.retrieve(SharedDocument(uid="1.2", reference=reference))
        assert asked == []
        assert await one.retrieve(SharedDocument(uid="1.2", reference="Binary/1")) == b"x"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b"Doe^Jane", HttpStatusError),
        (200, b"{}", BrokenAnswerError),
        (200, b'{"data": "?"}', BrokenAnswerError),
        (200, '{"data": "ÄÖÜ="}'.encode(), BrokenAnswerError),
        (200, b"[", BrokenAnswerError),
    ],
)
async def test_answers_that_hold_no_document_are_faults(
    status: int, body: bytes, error: type[Exception]
) -> None:
    async def answer(one: Asked) -> Any:
        return status, [("content-type", "application/fhir+json")], [body]

    async with source(Protocol.MHD, answer, publishes=False) as one:
        with pytest.raises(error) as told:
            await one.retrieve(SharedDocument(uid="1.2", reference="Binary/1"))
        assert "Doe" not in str(told.value)


async def test_what_a_search_answers_that_makes_no_sense_is_left_out() -> None:
    odd = [None, {}, {"resource": 1}, {"resource": {"resourceType": "Patient"}},
           {"resource": {"resourceType": "DocumentReference", "content": [1, {}, {"attachment": 1},
            {"attachment": {"url": 1}, "format": 1}], "masterIdentifier": 1}}]  # fmt: skip

    async def answer(one: Asked) -> Any:
        body = orjson.dumps({"resourceType": "Bundle", "entry": odd, "link": [1, {}]})
        return 200, [("content-type", "application/fhir+json")], [body]

    async with source(Protocol.MHD, answer, publishes=False) as one:
        assert await one.find("P1", "1.2.3") == []


async def test_more_documents_than_anybody_reads_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xds_source, "MOST_DOCUMENTS", 1)
    monkeypatch.setattr(mhd_source, "MOST_DOCUMENTS", 1)
    for protocol, world in ((Protocol.MHD, DocumentRecipient), (Protocol.XDS, DocumentRegistry)):
        async with source(protocol, world()) as one:
            with pytest.raises(PublishingError, match="more than 1 documents"):
                await one.find("P1", "1.3.6.1.4.1.2")
