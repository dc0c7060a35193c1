"""Manifests published by MHD: first, again, replaced, deprecated, and after what went wrong.

The recipient is of our own (`support.document_recipient`).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import orjson
import pydicom
import pytest

from isocenter.services.archive.export.values import ExportedStudy
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    Retrieval,
)
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.mhd_publisher import MhdPublisher
from isocenter.services.integration.sharing.ports import Publication, Publisher, PublishingError
from isocenter.services.integration.sharing.publishing import Publishing, PublishingDesk
from isocenter.services.integration.sharing.repository import (
    Protocol,
    PublishWhen,
    Repository,
)
from isocenter.services.net.http.client import HttpClient, Retries
from isocenter.services.net.http.client_errors import (
    BrokenAnswerError,
    HttpClientError,
    HttpStatusError,
    ServerUnreachableError,
)
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.targets import DeliveryError
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.publications import DatabasePublications
from isocenter.storage.database.sqlite.database import open_sqlite_database
from storage.index_contract import make_record
from support.document_recipient import DocumentRecipient
from support.web_archive import Scripted, http_serving

STUDY = "1.1"
PATIENT = {"PatientID": "P1", "PatientName": "Doe^Jane"}
AUTHORITIES = AssigningAuthorities(patient_ids="1.2.3.1", accession_numbers="1.2.3.3")


class World:
    """An archive, a repository, and what stands between them."""

    def __init__(self, index: MemoryIndex, book: DatabasePublications, queue: DatabaseJobs,
                 recipient: DocumentRecipient, url: str) -> None:  # fmt: skip
        self.index = index
        self.book = book
        self.queue = queue
        self.recipient = recipient
        self.repository = Repository(
            name="regional", protocol=Protocol.MHD, url=f"{url}/fhir", source_oid="1.2.3.9",
            when=PublishWhen.COMPLETE, modalities=("CT",),
        )  # fmt: skip
        self.recorded: list[ExportedStudy] = []
        self.now = 1_000_000.0
        self.authorities = AUTHORITIES
        self.desk = PublishingDesk(
            book, self.reader, {"regional": self.repository}, JobDesk(queue, lambda: None),
            now=lambda: self.now,
        )  # fmt: skip

    @property
    def reader(self) -> ManifestReader:
        retrieval = Retrieval(wado_rs="https://archive.example/dicomweb", location_uid="1.2.3.8")
        return ManifestReader(self.index, retrieval, self.authorities)

    async def _record(self, studies: Sequence[ExportedStudy]) -> None:
        self.recorded += studies

    @asynccontextmanager
    async def open_publisher(self, repository: Repository) -> AsyncIterator[Publisher]:
        async with HttpClient(repository.url, retries=Retries(attempts=1)) as client:
            yield MhdPublisher(client, repository)

    def publishing(self) -> Publishing:
        return Publishing(
            self.book, self.reader, {"regional": self.repository}, self.open_publisher,
            self._record, now=lambda: self.now,
        )  # fmt: skip

    async def job(self) -> Job:
        job = await self.queue.claim("worker", 60.0, not_for=())
        assert job is not None
        assert job.request.kind is JobKind.PUBLISH
        return job

    async def work(self) -> Job:
        """Do the job that is due."""
        job = await self.job()
        try:
            await self.publishing().work(job, self.queue)
        except HttpClientError:
            await self.queue.again(job, "", 0.0)
            raise
        except Exception:
            await self.queue.end(job, JobState.FAILED)
            raise
        await self.queue.end(job, JobState.COMPLETED)
        return job

    async def ask(self, *, is_wanted: bool = True) -> None:
        await self.desk.ask("regional", STUDY, is_wanted=is_wanted, requested_by="alice")
        await self.work()

    async def state(self) -> Publication:
        found = await self.book.get("regional", STUDY)
        assert found is not None
        return found


@asynccontextmanager
async def opened() -> AsyncIterator[World]:
    recipient = DocumentRecipient()
    index = MemoryIndex()
    await index.add(
        [
            make_record(
                f"1.1.1.{number}", "1.1.1", STUDY, Modality="CT", StudyDate="20260102",
                StudyDescription="Thorax", AccessionNumber="A1", InstanceNumber=str(number),
                **PATIENT,
            )
            for number in (1, 2)
        ]
    )  # fmt: skip
    async with (
        open_sqlite_database(":memory:") as database,
        http_serving(Scripted(recipient)) as url,
    ):
        yield World(index, DatabasePublications(database), DatabaseJobs(database), recipient, url)


async def add_instance(world: World, number: int) -> None:
    await world.index.add(
        [make_record(f"1.1.2.{number}", "1.1.2", STUDY, Modality="CT", **PATIENT)]
    )


def event(kind: str, study: str = STUDY, **fields: Any) -> StoredEvent:
    body = orjson.dumps({"study_instance_uid": study, **fields}).decode()
    return StoredEvent(number=1, kind=kind, at=0.0, study_instance_uid=study, body=body)


async def test_a_study_is_published_with_its_manifest() -> None:
    async with opened() as world:
        await world.ask()
        (reference,) = world.recipient.current
        content = world.recipient.document(reference)
        document = pydicom.dcmread(BytesIO(content))
        state = await world.state()
        assert state.document_uid == document.SOPInstanceUID
        assert state.reference == f"DocumentReference/{reference['id']}"
        assert (state.instances, state.sent_uid) == (2, "")
        assert document.StudyInstanceUID == STUDY
        assert reference["masterIdentifier"]["value"] == f"urn:oid:{document.SOPInstanceUID}"
        attachment = reference["content"][0]["attachment"]
        assert attachment["size"] == len(content)
        assert attachment["hash"] == b64encode(hashlib.sha1(content).digest()).decode()
        (patient,) = world.recipient.patients.values()
        assert patient["wanted"] == "identifier=urn:oid:1.2.3.1%7CP1"
        (submission,) = world.recipient.submissions
        source = submission["extension"][1]["valueIdentifier"]
        assert source["value"] == "urn:oid:1.2.3.9"
        (recorded,) = world.recorded
        assert (recorded.actor, recorded.study_instance_uid) == ("alice", STUDY)
        assert recorded.place == world.repository.url.removesuffix("/fhir")


async def test_what_is_published_and_the_same_is_not_sent_again() -> None:
    async with opened() as world:
        await world.ask()
        await world.ask()
        assert world.recipient.asked == [("POST", "")]


async def test_a_changed_study_replaces_its_manifest() -> None:
    async with opened() as world:
        await world.ask()
        first = await world.state()
        await add_instance(world, 1)
        await world.desk.on_event("regional", event("study.complete", modalities=["CT"]))
        await world.work()
        (reference,) = world.recipient.current
        assert len(world.recipient.references) == 2
        (relation,) = reference["relatesTo"]
        assert relation == {"code": "replaces", "target": {"reference": first.reference}}
        state = await world.state()
        assert state.instances == 3
        assert state.document_uid != first.document_uid
        assert len(world.recipient.patients) == 1


async def test_a_study_that_is_gone_is_deprecated_and_comes_back() -> None:
    async with opened() as world:
        await world.ask()
        records = await world.index.records(["1.1.1.1", "1.1.1.2"])
        await world.index.remove(list(records))
        await world.desk.on_event("regional", event("instances.deleted"))
        await world.work()
        assert world.recipient.current == []
        state = await world.state()
        assert (state.document_uid, state.is_wanted) == ("", True)
        await world.index.add(list(records.values()))
        await world.desk.on_event("regional", event("instances.restored"))
        await world.work()
        assert len(world.recipient.current) == 1


async def test_a_patient_id_with_a_comma_is_not_taken_for_two_patients() -> None:
    async with opened() as world:
        await world.index.remove(["1.1.1.1", "1.1.1.2"])
        await world.index.add([make_record("1.1.1.1", "1.1.1", STUDY, PatientID="P1,P2")])
        await world.ask()
        (patient,) = world.recipient.patients.values()
        assert patient["wanted"] == "identifier=urn:oid:1.2.3.1%7CP1%5C%2CP2"


async def test_a_study_is_withdrawn_by_hand_and_stays_so() -> None:
    async with opened() as world:
        await world.ask()
        await world.ask(is_wanted=False)
        assert world.recipient.current == []
        assert world.recipient.asked[-1][0] == "PATCH"
        await world.desk.on_event("regional", event("study.complete", modalities=["CT"]))
        await world.work()
        assert world.recipient.current == []


async def test_only_modalities_that_are_wanted_are_published_by_themselves() -> None:
    async with opened() as world:
        await world.desk.on_event("regional", event("study.complete", modalities=["MR"]))
        assert await world.queue.claim("worker", 60.0, not_for=()) is None
        await world.desk.on_event("regional", event("study.complete", modalities=["MR", "CT"]))
        await world.work()
        assert len(world.recipient.current) == 1


async def test_a_correction_follows_the_study_to_its_new_uid() -> None:
    async with opened() as world:
        await world.ask()
        await world.index.remove(["1.1.1.1", "1.1.1.2"])
        moved = event("study.corrected", "1.7", previous_study_instance_uid=STUDY)
        await world.desk.on_event("regional", moved)
        await world.work()
        assert world.recipient.current == []


async def test_a_study_of_another_patient_takes_no_place_of_the_first_ones() -> None:
    async with opened() as world:
        await world.ask()
        await world.index.remove(["1.1.1.1", "1.1.1.2"])
        other = {"PatientID": "P2", "PatientName": "Roe^Jim"}
        await world.index.add([make_record("1.1.1.1", "1.1.1", STUDY, Modality="CT", **other)])
        await world.desk.on_event("regional", event("study.corrected"))
        await world.work()
        (reference,) = world.recipient.current
        assert "relatesTo" not in reference
        assert reference["contained"][0]["identifier"][0]["value"] == "P2"
        assert [method for method, _ in world.recipient.asked] == ["POST", "PATCH", "POST"]
        assert len(world.recipient.patients) == 2


async def test_an_event_waits_while_a_job_is_at_the_study() -> None:
    """It may have read what was here before the event."""
    async with opened() as world:
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        await world.desk.on_event("regional", event("instances.deleted"))
        job = await world.job()
        with pytest.raises(DeliveryError, match="now"):
            await world.desk.on_event("regional", event("instances.deleted"))
        await world.queue.end(job, JobState.COMPLETED)
        await world.desk.on_event("regional", event("instances.deleted"))


async def test_an_answer_that_was_lost_makes_no_second_document() -> None:
    async with opened() as world:
        world.recipient.fails = [-1]
        with pytest.raises(BrokenAnswerError):
            await world.ask()
        sent = await world.state()
        assert (sent.document_uid, bool(sent.sent_uid)) == ("", True)
        await world.work()
        assert len(world.recipient.references) == 1
        assert (await world.state()).document_uid == sent.sent_uid
        assert world.recipient.asked == [("POST", ""), ("GET", "DocumentReference")]


async def test_a_document_that_was_lost_is_sent_again_as_it_was() -> None:
    async with opened() as world:
        world.recipient.searches = False
        world.recipient.fails = [503]
        with pytest.raises(HttpStatusError):
            await world.ask()
        sent = (await world.state()).sent_uid
        world.now += 500
        await world.work()
        assert (await world.state()).document_uid == sent


async def test_a_study_that_changed_after_a_lost_answer_replaces_what_arrived() -> None:
    async with opened() as world:
        world.recipient.fails = [-1]
        with pytest.raises(BrokenAnswerError):
            await world.ask()
        await add_instance(world, 1)
        await world.work()
        assert len(world.recipient.references) == 2
        (reference,) = world.recipient.current
        assert reference["relatesTo"][0]["code"] == "replaces"


async def test_a_withdrawal_that_is_asked_for_while_a_job_publishes_is_done_by_it() -> None:
    async with opened() as world:
        await world.desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        job = await world.job()
        is_asked = False

        async def record(studies: Sequence[ExportedStudy]) -> None:
            nonlocal is_asked
            if not is_asked:
                is_asked = True
                asked = await world.desk.ask("regional", STUDY, is_wanted=False, requested_by="bob")
                assert asked == (job.job_id, False)

        publishing = Publishing(
            world.book, world.reader, {"regional": world.repository}, world.open_publisher,
            record, now=lambda: world.now,
        )  # fmt: skip
        await publishing.work(job, world.queue)
        assert is_asked
        assert world.recipient.current == []
        assert (await world.state()).state == "not published"


class EndedMeanwhile(JobDesk):
    """A job desk on which a job ends right after it was found to be open."""

    job: Job | None = None

    async def submit(self, request: JobRequest) -> tuple[str, bool]:
        submitted = await super().submit(request)
        if self.job is not None:
            job, self.job = self.job, None
            await self._queue.end(job, JobState.COMPLETED)
        return submitted


async def test_what_comes_as_a_job_ends_is_not_lost() -> None:
    async with opened() as world:
        jobs = EndedMeanwhile(world.queue, lambda: None)
        desk = PublishingDesk(
            world.book, world.reader, {"regional": world.repository}, jobs, now=lambda: world.now
        )
        first = await desk.ask("regional", STUDY, is_wanted=True, requested_by="alice")
        jobs.job = await world.job()
        with pytest.raises(DeliveryError):
            await desk.on_event("regional", event("instances.deleted"))
        await desk.on_event("regional", event("instances.deleted"))
        jobs.job = await world.job()
        second = await desk.ask("regional", STUDY, is_wanted=False, requested_by="alice")
        assert second[1]
        assert second != first


async def test_what_may_have_arrived_and_cannot_be_named_is_not_forgotten() -> None:
    async with opened() as world:
        world.recipient.searches = False
        world.recipient.fails = [-1]
        with pytest.raises(BrokenAnswerError):
            await world.ask()
        sent = (await world.state()).sent_uid
        assert len(world.recipient.current) == 1
        world.now += 400.0
        await world.book.want("regional", STUDY, is_wanted=False)
        with pytest.raises(PublishingError, match=f"{sent}.* does not tell"):
            await world.work()
        assert (await world.state()).state == "sent"
        # Nor where the study is another patient's by now.
        await world.index.remove(["1.1.1.1", "1.1.1.2"])
        other = {"PatientID": "P2", "PatientName": "Roe^Jim"}
        await world.index.add([make_record("1.1.1.1", "1.1.1", STUDY, Modality="CT", **other)])
        with pytest.raises(PublishingError, match="does not tell"):
            await world.ask()
        world.recipient.searches = True
        await world.ask(is_wanted=False)
        assert world.recipient.current == []
        assert (await world.state()).state == "not published"


async def test_a_reference_of_another_document_is_not_taken_for_ours() -> None:
    """Servers leave parameters out that they do not know, and answer with whatever they have."""

    async def answer(asked: Any) -> Any:
        other = {
            "resourceType": "DocumentReference",
            "id": "others",
            "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4"},
        }
        bundle = {"resourceType": "Bundle", "entry": [{"resource": other}]}
        return 200, [("content-type", "application/fhir+json")], [orjson.dumps(bundle)]

    async with http_serving(Scripted(answer)) as url, HttpClient(url) as client:
        repository = Repository(
            name="regional", protocol=Protocol.MHD, url=url, source_oid="1.2.3.9"
        )
        publisher = MhdPublisher(client, repository)
        assert await publisher.find("1.2.3.5") is None
        assert await publisher.find("1.2.3.4") == "DocumentReference/others"


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 422])
async def test_a_refusal_is_told_without_what_the_repository_says(status: int) -> None:
    async with opened() as world:
        world.recipient.fails = [status]
        with pytest.raises(PublishingError, match=f"regional.*{status}") as caught:
            await world.ask()
        assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_what_a_repository_cannot_do_now_is_left_for_later(status: int) -> None:
    async with opened() as world:
        world.recipient.fails = [status]
        with pytest.raises(HttpStatusError) as caught:
            await world.ask()
        assert "Doe" not in str(caught.value)
        world.now += 400.0
        await world.work()
        assert len(world.recipient.current) == 1


async def test_nobody_who_listens_is_left_for_later() -> None:
    async with opened() as world:
        world.repository = Repository(
            name="regional", protocol=Protocol.MHD, url="http://127.0.0.1:1/fhir",
            source_oid="1.2.3.9",
        )  # fmt: skip
        with pytest.raises(ServerUnreachableError):
            await world.ask()


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"PatientID": ""}, "no Patient ID"),
        ({"PatientID": "P", "IssuerOfPatientID": "X"}, "who gave"),
    ],
)
async def test_patients_whom_nobody_outside_knows_are_not_published(
    attributes: dict[str, str], match: str
) -> None:
    async with opened() as world:
        await world.index.remove(["1.1.1.1", "1.1.1.2"])
        await world.index.add([make_record("1.1.1.1", "1.1.1", STUDY, **attributes)])
        with pytest.raises(ManifestError, match=match):
            await world.ask()
        assert world.recipient.asked == []


async def test_a_study_that_is_not_here_is_not_asked_for() -> None:
    async with opened() as world:
        with pytest.raises(ManifestError, match="no such study"):
            await world.desk.ask("regional", "9.9", is_wanted=True, requested_by="")
        with pytest.raises(KeyError):
            await world.desk.ask("nowhere", STUDY, is_wanted=True, requested_by="")


BROKEN: Sequence[bytes] = (
    b"", b"[]", b"<html>", b"{}", b'{"type": "transaction-response", "entry": []}',
    orjson.dumps({"type": "transaction-response", "entry": [None] * 4}),
    orjson.dumps({"type": "transaction-response",
                  "entry": [{"response": {"status": "201", "location": "../secret"}}] * 4}),
    orjson.dumps({"type": "transaction-response",
                  "entry": [{"response": {"status": "201"}}] * 4}),
    orjson.dumps({"type": "transaction-response",
                  "entry": [{"response": {"status": "400 Bad"}}] * 4}),
)  # fmt: skip


async def test_answers_that_say_nothing_of_use_are_faults() -> None:
    async with opened() as world:
        for body in BROKEN:

            async def answer(asked: Any, body: bytes = body) -> Any:
                return 200, [("content-type", "application/fhir+json")], [body]

            async with http_serving(Scripted(answer)) as url:
                world.repository = Repository(
                    name="regional", protocol=Protocol.MHD, url=url, source_oid="1.2.3.9"
                )
                known = await world.book.get("regional", STUDY)
                if known is not None:
                    nothing = Publication(repository="regional", study_instance_uid=STUDY)
                    await world.book.settled(nothing, known)
                with pytest.raises((BrokenAnswerError, PublishingError)):
                    await world.ask()
