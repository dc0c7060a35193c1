"""Retrieve Imaging Document Set (RAD-69): our source read by others' libraries, and our consumer.

No other imaging document source or consumer can be had in these tests: what the source sends is
read by `email`, `ElementTree` and pydicom, and the consumer reads it, too.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import HTTP
from io import BytesIO
from itertools import chain, repeat
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import httpx
import pydicom
import pytest
import trio
from pydicom.dataset import Dataset
from trio.testing import wait_all_tasks_blocked

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.integration.sharing.imaging_document_set import (
    MOST_DOCUMENTS,
    RETRIEVE_IMAGING,
    ImagingDocument,
    ImagingRequest,
    imaging_request,
    read_imaging_request,
)
from isocenter.services.integration.sharing.key_object_manifest import (
    DocumentIdentity,
    ManifestForm,
    manifest_bytes,
)
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    Retrieval,
)
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.ports import PublishingError, SharedDocument
from isocenter.services.integration.sharing.xml_text import element, read_xml_document
from isocenter.services.net.http import pace, unwanted
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.client import HttpClient, Retries
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import InstanceStored, Notices
from isocenter.services.web.imaging_documents import source
from isocenter.services.web.imaging_documents.consumer import ImagingSource
from isocenter.services.web.imaging_documents.source import (
    PATH,
    ImagingDocumentSource,
    imaging_document_routes,
)
from isocenter.services.workflow.jobs.job import ItemState, Job, JobKind, JobRequest
from isocenter.services.workflow.jobs.retrieving import retrieve
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.memory import MemoryStore
from services.integration.sharing.samples import MADE_AT
from support.images import dataset_of, describe, pixels
from support.web_archive import Answer, Scripted, http_serving
from support.web_requests import keep

STUDY = "1.2.826.0.1.3680043.8.498.1"
PLACE = "1.2.3.8"
MANIFEST = f"{STUDY}.900"
EXPLICIT, IMPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
JPEG, JPEG_LS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
SOAP = "{http://www.w3.org/2003/05/soap-envelope}"
XDS = "{urn:ihe:iti:xds-b:2007}"
RS = "{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}"
XOP = "{http://www.w3.org/2004/08/xop/include}"
WSA = "{http://www.w3.org/2005/08/addressing}"


def image(number: int, series: int = 1) -> Dataset:
    described = describe(8, 8, bits=12)
    made = dataset_of(described, [pixels(described, number)])
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, f"{STUDY}.{series}"
    made.SOPInstanceUID = f"{STUDY}.{series}.{number}"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.PatientID, made.InstanceNumber = "P1", str(number)
    return made


IMAGES = [image(1), image(2), image(3, 2)]


def document(uid: str, series: int = 1, **values: str) -> ImagingDocument:
    given = {
        "study_instance_uid": STUDY,
        "series_instance_uid": f"{STUDY}.{series}",
        "sop_instance_uid": uid,
        "place": PLACE,
    }
    return ImagingDocument(**{**given, **values})


ALL = [document(one.SOPInstanceUID, int(one.SeriesInstanceUID[-1])) for one in IMAGES]


@asynccontextmanager
async def served(
    *objects: Any, transcoder: Transcoder | None = None
) -> AsyncIterator[tuple[str, Archive]]:
    """An imaging document source with some objects; the address of its service."""
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        await keep(archive, *objects)
        routes = RouteTable(tuple(imaging_document_routes(archive, PLACE, transcoder)))
        async with http_serving(RoutedApplication(routes)) as url:
            yield f"{url}{PATH}", archive


def envelope(body: str, *headers: str) -> bytes:
    said = [
        element("a:Action", {"s:mustUnderstand": "1"}, RETRIEVE_IMAGING),
        element("a:MessageID", None, "urn:uuid:1"),
        *headers,
    ]
    spaces = {
        "xmlns:s": SOAP.strip("{}"),
        "xmlns:a": WSA.strip("{}"),
        "xmlns:o": "urn:other",
    }
    return element(
        "s:Envelope", spaces, element("s:Header", None, *said), element("s:Body", None, body)
    ).encode()


async def asked(url: str, content: bytes, kind: str = "application/soap+xml") -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(url, content=content, headers={"content-type": kind})


class Read:
    """A response as other libraries read it."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.text
        head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
        message = message_from_bytes(head + response.content, policy=HTTP)
        parts = [*message.iter_parts()] if message.is_multipart() else [message]
        self.root = ET.fromstring(parts[0].get_payload(decode=True))
        body = self.root.find(f"{SOAP}Body/{XDS}RetrieveDocumentSetResponse")
        assert body is not None
        self.status = body.find(f"{RS}RegistryResponse").attrib["status"].rpartition(":")[2]  # type: ignore[union-attr]
        self.errors = {
            one.attrib["location"]: one.attrib["errorCode"]
            for one in body.iter(f"{RS}RegistryError")
        }
        beside = {one["content-id"].strip("<>"): one.get_payload(decode=True) for one in parts[1:]}
        self.files: dict[str, bytes] = {}
        for one in body.iter(f"{XDS}DocumentResponse"):
            include = one.find(f"{XDS}Document/{XOP}Include")
            assert include is not None
            assert one.findtext(f"{XDS}mimeType") == "application/dicom"
            content_id = unquote(include.attrib["href"].removeprefix("cid:"))
            self.files[one.findtext(f"{XDS}DocumentUniqueId") or ""] = beside.pop(content_id)
        assert not beside, "each part is named by the envelope"

    def object(self, uid: str) -> Dataset:
        return pydicom.dcmread(BytesIO(self.files[uid]))


async def retrieved(
    url: str, documents: Sequence[ImagingDocument], syntaxes: Sequence[str] = (EXPLICIT,)
) -> Read:
    return Read(await asked(url, envelope(imaging_request(documents, syntaxes))))


async def test_objects_stand_beside_the_envelope_as_they_are_stored() -> None:
    async with served(*IMAGES) as (url, _):
        read = await retrieved(url, ALL)
        assert (read.status, read.errors) == ("Success", {})
        assert list(read.files) == [one.SOPInstanceUID for one in IMAGES]
        for one in IMAGES:
            assert read.object(one.SOPInstanceUID) == one
        assert read.root.findtext(f"{SOAP}Header/{WSA}RelatesTo") == "urn:uuid:1"
        action = read.root.findtext(f"{SOAP}Header/{WSA}Action")
        assert action == "urn:ihe:iti:2007:RetrieveDocumentSetResponse"


async def test_what_is_missing_is_told_beside_what_is_there() -> None:
    async with served(*IMAGES) as (url, _):
        one = IMAGES[0].SOPInstanceUID
        wanted = [
            document(one),
            document(f"{STUDY}.1.99"),
            document(IMAGES[1].SOPInstanceUID, series=2),
            document(IMAGES[2].SOPInstanceUID, series=2, place="9.9"),
        ]
        read = await retrieved(url, wanted)
        assert (read.status, list(read.files)) == ("PartialSuccess", [one])
        assert read.errors == {
            f"{STUDY}.1.99": "XDSDocumentUniqueIdError",
            IMAGES[1].SOPInstanceUID: "XDSDocumentUniqueIdError",
            IMAGES[2].SOPInstanceUID: "XDSUnknownRepositoryId",
        }
        nothing = await retrieved(url, [document("1.2.3")])
        assert (nothing.status, nothing.files) == ("Failure", {})
        content = envelope(imaging_request([document("1.2.3")], [EXPLICIT]))
        alone = await asked(url, content)
        assert alone.headers["content-type"].startswith("application/soap+xml")
        other = document(one, study_instance_uid="1.2.3")
        assert (await retrieved(url, [other])).files == {}


async def test_objects_come_in_a_transfer_syntax_that_is_taken() -> None:
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        served(*IMAGES, transcoder=Transcoder(pool)) as (url, _),
    ):
        uid = IMAGES[0].SOPInstanceUID
        for syntaxes, expected in (
            ([], EXPLICIT),
            ([JPEG_LS, EXPLICIT], EXPLICIT),
            ([IMPLICIT], IMPLICIT),
            ([JPEG_LS], JPEG_LS),
        ):
            read = await retrieved(url, [document(uid)], syntaxes)
            found = read.object(uid)
            assert found.file_meta.TransferSyntaxUID == expected
            assert (found.pixel_array == IMAGES[0].pixel_array).all()
        read = await retrieved(url, [document(uid)], ["1.2.840.10008.1.2.4.102"])
        assert read.errors == {uid: "urn:dicom:wado:0007"}


async def test_nothing_is_lost_where_another_transfer_syntax_is_taken() -> None:
    described = describe(8, 8, bits=8)
    made = image(9)
    eight = dataset_of(described, [pixels(described, 9)])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        setattr(eight, keyword, made[keyword].value)
    eight.file_meta.MediaStorageSOPInstanceUID = eight.SOPInstanceUID
    async with CodecPool(PoolLimits(workers=1)) as pool:
        lossy = Transcoder(pool, options=TranscodingOptions(lossy=True))
        assert JPEG in lossy.targets(EXPLICIT)
        async with served(eight, transcoder=lossy) as (url, _):
            read = await retrieved(url, [document(eight.SOPInstanceUID)], [JPEG, JPEG_LS])
            found = read.object(eight.SOPInstanceUID)
            assert found.file_meta.TransferSyntaxUID == JPEG_LS
            assert (found.pixel_array == eight.pixel_array).all()


async def test_a_request_with_parts_is_understood() -> None:
    async with served(*IMAGES) as (url, _):
        kind = 'multipart/related; boundary=x; type="application/xop+xml"; start="<r>"'
        head = b'--x\r\nContent-Type: application/xop+xml; type="application/soap+xml"\r\n'
        message = envelope(imaging_request(ALL, [EXPLICIT]))
        content = head + b"Content-ID: <r>\r\n\r\n" + message + b"\r\n--x--\r\n"
        assert len(Read(await asked(url, content, kind)).files) == 3


GOOD = imaging_request(ALL, [EXPLICIT])
WRONG: Sequence[tuple[bytes, str, str]] = (
    (b"", "Sender", "no SOAP 1.2 envelope"),
    (b"<a/>", "Sender", "no SOAP 1.2 envelope"),
    (b'<!DOCTYPE a [<!ENTITY b "c">]>' + envelope(GOOD), "Sender", "no SOAP 1.2 envelope"),
    (b"<a>" * 100 + b"</a>" * 100, "Sender", "no SOAP 1.2 envelope"),
    (envelope("<x/>"), "Sender", "is no RetrieveImagingDocumentSetRequest"),
    (envelope(imaging_request([], [EXPLICIT])), "Sender", "names no document"),
    (envelope(imaging_request([document("x")], [EXPLICIT])), "Sender", "UID of study, series"),
    (envelope(imaging_request(ALL, ["x"])), "Sender", "Transfer Syntax UID"),
    (envelope(GOOD).replace(b"RetrieveImagingDocumentSet<", b"Other<"), "Sender", "the action"),
    (envelope(GOOD, '<o:Security s:mustUnderstand="true"/>'), "MustUnderstand", "Security"),
)


@pytest.mark.parametrize(("content", "code", "reason"), WRONG)
async def test_what_is_not_understood_is_a_fault(content: bytes, code: str, reason: str) -> None:
    async with served() as (url, _):
        response = await asked(url, content)
        assert response.status_code == 400
        root = ET.fromstring(response.text)
        assert root.findtext(f".//{SOAP}Value") == f"s:{code}"
        assert reason in (root.findtext(f".//{SOAP}Text") or "")


async def test_a_header_that_need_not_be_understood_is_none() -> None:
    async with served(*IMAGES) as (url, _):
        message = envelope(GOOD, '<o:Security s:mustUnderstand="0"/>', "<o:Other/>")
        assert len(Read(await asked(url, message)).files) == 3


async def test_a_message_has_a_bound() -> None:
    async with served() as (url, _):
        response = await asked(url, b" " * ((16 << 20) + 1))
        assert response.status_code == 413


async def test_few_messages_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    understood = source._understood

    def waiting(kind: str, raw: bytes) -> tuple[str, ImagingRequest]:
        go_on.wait(60)
        return understood(kind, raw)

    monkeypatch.setattr(source, "_understood", waiting)
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        answers = ImagingDocumentSource(archive, PLACE)

        async def ask() -> None:
            async def receive() -> Message:
                return {"type": "http.request", "body": envelope(GOOD)}

            scope = {"method": "POST", "raw_path": PATH.encode(), "headers": [], "scheme": "http"}
            response = await answers(Request(scope, receive))
            assert response.close is not None
            response.close()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            seen = answers._reading.statistics()
            go_on.set()
        assert (seen.borrowed_tokens, seen.tasks_waiting) == (2, 3)


def test_a_request_names_no_more_documents_than_it_may() -> None:
    many = [document(f"1.2.{number}") for number in range(1, MOST_DOCUMENTS + 2)]
    for count in (MOST_DOCUMENTS, MOST_DOCUMENTS + 1):
        markup = imaging_request(many[:count], [EXPLICIT])
        body = read_xml_document(f"<Body>{markup}</Body>".encode())
        if count == MOST_DOCUMENTS:
            assert len(read_imaging_request(body).documents) == count
        else:
            with pytest.raises(ValueError, match="more than"):
                read_imaging_request(body)


# The consumer.


class Documents:
    """A repository that has one manifest."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def find(self, patient_id: str, authority: str) -> Sequence[SharedDocument]:
        return ()

    async def retrieve(self, document: SharedDocument) -> bytes:
        return self.content


async def manifest_of(archive: Archive) -> bytes:
    reader = ManifestReader(
        archive.index, Retrieval(location_uid=PLACE), AssigningAuthorities(patient_ids="1.2.3")
    )
    made = await reader.read(STUDY)
    assert made is not None
    who = DocumentIdentity(document_uid=MANIFEST, made_at=MADE_AT, form=ManifestForm.XDS_I)
    return manifest_bytes(made, who)


class Fetching:
    """An archive into which the study of a manifest is fetched."""

    def __init__(self, archive: Archive, queue: DatabaseJobs) -> None:
        self.archive = archive
        self.queue = queue
        self.notices = Notices()
        self.told: list[InstanceStored] = []
        self.notices.subscribe(self.told.append, (InstanceStored,))  # type: ignore[arg-type]

    async def fetch(self, url: str, manifest: bytes, study: str = STUDY) -> Job:
        await self.queue.submit(
            JobRequest(
                kind=JobKind.FETCH,
                node="repository:regional",
                keys=(("StudyInstanceUID", study),),
                detail=MANIFEST,
            )
        )
        job = await self.queue.claim("worker", 60.0, not_for=())
        assert job is not None
        document = SharedDocument(uid=MANIFEST, reference="", study_instance_uid=study)
        async with HttpClient(url, retries=Retries(attempts=1)) as client:
            source = ImagingSource(
                Documents(manifest), document, client, self.archive, self.notices
            )
            await retrieve(job, self.queue, self.archive, source)
        now = await self.queue.get(job.job_id)
        assert now is not None
        return now

    async def faults(self, job: Job) -> set[str]:
        return {one.fault for one in await self.queue.items(job.job_id, (ItemState.FAILED,), 9)}


@asynccontextmanager
async def fetching(
    duplicates: DuplicatePolicy = DuplicatePolicy.IGNORE,
) -> AsyncIterator[Fetching]:
    async with (
        Archive(MemoryStore(), MemoryIndex(), duplicates=duplicates) as archive,
        open_sqlite_database(":memory:") as database,
    ):
        yield Fetching(archive, DatabaseJobs(database))


async def test_the_study_of_a_manifest_is_fetched() -> None:
    async with served(*IMAGES) as (url, there), fetching() as here:
        job = await here.fetch(url, await manifest_of(there))
        assert (job.progress.total, job.progress.done, job.progress.failed) == (3, 3, 0)
        kept = await here.archive.index.get([one.SOPInstanceUID for one in IMAGES])
        origin = await there.index.get(list(kept))
        assert {uid: one.digest for uid, one in kept.items()} == {
            uid: one.digest for uid, one in origin.items()
        }
        assert len(here.told) == 3


async def test_what_is_here_is_not_asked_for_again() -> None:
    async with served(*IMAGES) as (url, there), fetching() as here:
        await keep(here.archive, IMAGES[0])
        job = await here.fetch(url, await manifest_of(there))
        assert (job.progress.done, job.progress.skipped) == (2, 1)


async def test_what_the_source_has_no_more_is_told_by_its_code() -> None:
    async with served(*IMAGES) as (url, there), fetching() as here:
        manifest = await manifest_of(there)
        await there.index.remove([IMAGES[1].SOPInstanceUID])
        job = await here.fetch(url, manifest)
        assert (job.progress.done, job.progress.failed) == (2, 1)
        assert await here.faults(job) == {"the source refuses: XDSDocumentUniqueIdError"}


async def test_another_manifest_is_not_followed() -> None:
    async with served(*IMAGES) as (url, there), fetching() as here:
        with pytest.raises(ManifestError, match="another manifest"):
            await here.fetch(url, await manifest_of(there), study="1.2.3")


ANSWER = (
    '<s:Envelope xmlns:s="{soap}"><s:Body><x:RetrieveDocumentSetResponse xmlns:x="{xds}">'
    '<r:RegistryResponse xmlns:r="{rs}" status="a:Success">{errors}</r:RegistryResponse>{documents}'
    "</x:RetrieveDocumentSetResponse></s:Body></s:Envelope>"
)
RESPONSE = "<x:DocumentResponse><x:Document>{}</x:Document></x:DocumentResponse>"
INCLUDE = RESPONSE.format('<i:Include xmlns:i="{}" href="cid:{{}}"/>'.format(XOP.strip("{}")))


def answer_of(documents: str = "", errors: str = "") -> bytes:
    return ANSWER.format(
        soap=SOAP.strip("{}"), xds=XDS.strip("{}"), rs=RS.strip("{}"), errors=errors,
        documents=documents,
    ).encode()  # fmt: skip


def file_of(of: Dataset) -> bytes:
    buffer = BytesIO()
    of.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def parts_of(root: bytes, *parts: tuple[str, bytes]) -> bytes:
    pieces = [b"--x\r\nContent-ID: <r>\r\n\r\n" + root]
    pieces += [f"--x\r\nContent-ID: <{name}>\r\n\r\n".encode() + one for name, one in parts]
    return b"\r\n".join(pieces) + b"\r\n--x--\r\n"


@asynccontextmanager
async def scripted(kind: str, *pieces: bytes | None, status: int = 200) -> AsyncIterator[str]:
    async def answer(_: Any) -> Answer:
        return status, [("content-type", kind)], list(pieces)

    async with http_serving(Scripted(answer)) as url:
        yield url


RELATED = "multipart/related; boundary=x"


async def test_a_document_within_the_envelope_is_taken() -> None:
    within = answer_of("".join(RESPONSE.format(b64encode(file_of(one)).decode()) for one in IMAGES))
    async with served(*IMAGES) as (_, there), fetching() as here:
        async with scripted("application/soap+xml", within) as url:
            job = await here.fetch(url, await manifest_of(there))
        assert job.progress.done == 3


async def test_an_object_that_nobody_asked_for_is_not_kept() -> None:
    stranger = image(7)
    stranger.StudyInstanceUID, stranger.PatientID = "1.2.99", "P2"
    root = answer_of(INCLUDE.format("a") + INCLUDE.format("b"))
    parts = parts_of(root, ("a", file_of(stranger)), ("b", file_of(IMAGES[0])))
    async with served(*IMAGES) as (_, there), fetching() as here:
        async with scripted(RELATED, parts) as url:
            job = await here.fetch(url, await manifest_of(there))
        assert (job.progress.done, job.progress.failed) == (1, 2)
        assert await here.archive.index.get([stranger.SOPInstanceUID]) == {}


async def test_an_object_of_that_study_that_was_not_asked_for_replaces_none() -> None:
    known, other = image(1), image(1)
    other.PatientID = "P2"
    root = answer_of(INCLUDE.format("a") + INCLUDE.format("b"))
    parts = parts_of(root, ("a", file_of(other)), ("b", file_of(IMAGES[1])))
    async with (
        served(*IMAGES) as (_, there),
        fetching(DuplicatePolicy.REPLACE) as here,
    ):
        await keep(here.archive, known)
        before = await here.archive.index.get([known.SOPInstanceUID])
        async with scripted(RELATED, parts) as url:
            job = await here.fetch(url, await manifest_of(there))
        assert (job.progress.done, job.progress.failed) == (1, 1)
        assert await here.archive.index.get([known.SOPInstanceUID]) == before


BROKEN: Sequence[tuple[str, tuple[bytes | None, ...]]] = (
    ("text/html", (b"<html>",)),
    (RELATED, (b"",)),
    (RELATED, (b"--x\r\n\r\n<a/>\r\n--x--\r\n",)),
    ("multipart/related", (b"--x--",)),
    (RELATED, (parts_of(answer_of(INCLUDE.format("a")), ("a", b"DICM"))[:-4],)),
    (RELATED, (parts_of(answer_of(INCLUDE.format("a")), ("a", file_of(IMAGES[0])))[:-900], None)),
    (RELATED, (parts_of(answer_of(INCLUDE.format("a")), *[("a", b"")] * 9),)),
    (RELATED, (parts_of(answer_of("".join(INCLUDE.format(f"a{n}") for n in range(9)))),)),
    ("application/soap+xml", (answer_of(RESPONSE.format("%%")),)),
    ("application/soap+xml", (answer_of().replace(b"RegistryResponse", b"Other"),)),
)


@pytest.mark.parametrize(("kind", "pieces"), BROKEN)
async def test_a_broken_answer_is_a_fault_of_the_source(
    kind: str, pieces: tuple[bytes | None, ...]
) -> None:
    async with served(*IMAGES) as (_, there), fetching() as here:
        async with scripted(kind, *pieces) as url:
            with pytest.raises(Exception) as caught:
                await here.fetch(url, await manifest_of(there))
        assert isinstance(caught.value, BrokenAnswerError), repr(caught.value)
        assert "P1" not in str(caught.value)


def endless(*first: bytes) -> Iterator[bytes]:
    return chain(first, repeat(b"\0" * 65_536))


HEAD = b"\r\n--x\r\nContent-ID: <%s>\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        parts_of(answer_of(INCLUDE.format("a"))).removesuffix(b"\r\n--x--\r\n") + HEAD % b"z",
        parts_of(answer_of(INCLUDE.format("a"))).removesuffix(b"\r\n--x--\r\n") + HEAD % b"a",
        parts_of(answer_of(INCLUDE.format("a")), ("a", file_of(IMAGES[0]))),
    ],
    ids=["nobody names it", "no object", "behind the parts"],
)
async def test_what_nobody_wants_of_an_answer_has_an_end(
    parts: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwanted, "MOST_UNWANTED_BYTES", 1 << 20)

    async def answer(_: Any) -> Any:
        return 200, [("content-type", RELATED)], endless(parts)

    async with served(*IMAGES) as (_, there), fetching() as here:
        manifest = await manifest_of(there)
        with trio.fail_after(60):
            async with http_serving(Scripted(answer)) as url:
                with pytest.raises(BrokenAnswerError, match="nobody asked for"):
                    await here.fetch(url, manifest)


async def test_an_object_that_trickles_in_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STEP_SECONDS", 1.0)
    begun = parts_of(answer_of(INCLUDE.format("a"))).removesuffix(b"\r\n--x--\r\n") + HEAD % b"a"

    async def answer(_: Any) -> Any:
        return 200, [("content-type", RELATED)], chain((begun,), repeat(b"\0"))

    async with served(*IMAGES) as (_, there), fetching() as here:
        manifest = await manifest_of(there)
        with trio.fail_after(60):
            async with http_serving(Scripted(answer)) as url:
                with pytest.raises(BrokenAnswerError, match="comes too slowly"):
                    await here.fetch(url, manifest)


async def test_of_many_errors_the_first_are_told() -> None:
    errors = "".join(f'<r:RegistryError errorCode="E{n}"/>' for n in range(1_000))
    async with served(*IMAGES) as (_, there), fetching() as here:
        async with scripted("application/soap+xml", answer_of(errors=errors)) as url:
            job = await here.fetch(url, await manifest_of(there))
        (fault,) = await here.faults(job)
        assert fault.startswith("the source refuses: E0, E1, ")
        assert fault.endswith("E19, …")


def fault_of(code: str) -> bytes:
    said = f"<s:Fault><s:Code><s:Value>s:{code}</s:Value></s:Code></s:Fault>"
    return f'<s:Envelope xmlns:s="{SOAP.strip("{}")}"><s:Body>{said}</s:Body></s:Envelope>'.encode()


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (fault_of("Sender"), 400, PublishingError),
        (fault_of("Receiver"), 500, HttpStatusError),
        (b"Doe^Jane", 503, HttpStatusError),
        (
            answer_of(errors='<r:RegistryError errorCode="XDSRepositoryBusy"/>'),
            200,
            HttpStatusError,
        ),
    ],
)
async def test_a_source_that_refuses_or_is_busy_is_told_apart(
    content: bytes, status: int, kind: Callable[..., Exception]
) -> None:
    async with served(*IMAGES) as (_, there), fetching() as here:
        async with scripted("application/soap+xml", content, status=status) as url:
            with pytest.raises(kind) as caught:  # type: ignore[call-overload]
                await here.fetch(url, await manifest_of(there))
        assert "Doe" not in str(caught.value)
