"""Weeks of a study, from its order to its corrections, with kills behind and within the steps.

In the first week the archive is killed behind each step, and what passes is counted.  In those that
follow it is killed within each: a line between client and archive is cut at some byte, there or
back, and the archive dies.  Clients do what people and systems do then: they ask again.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pydicom
import pytest
import trio
from pynetdicom import AE

from isocenter.services.integration.hl7.sender import open_sender
from isocenter.services.web.client.client import DicomWebClient
from services.integration.ai.ai_world import CT, STUDY, ct_image
from support.cut_lines import Line, Way, open_line
from support.document_recipient import DocumentRecipient
from support.processes import ServedArchive, isocenter_command, served_archive, wait_for_line
from support.web_archive import Scripted, http_serving

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "ai"))

import workitem_worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

SLICES = 3
#: With kills within the steps, each with others; `tox -e weeks` has many.
WEEKS = int(os.environ.get("ISOCENTER_TEST_WEEKS", "1"))
PATIENCE = 120.0
ORDER = f"""\
MSH|^~\\&|RIS|HOSPITAL|ARCHIVE|RADIOLOGY|20261124080000||ORM^O01|MSG1|P|2.3.1||||||UNICODE UTF-8
PID|1||P1||Bäcker^Anna||19700101|F
ORC|NW|PLC1^RIS|FIL1^DSS||SC||^^^20261124093000^^R
OBR|1|PLC1^RIS|FIL1^DSS|CTCH^CT chest^L||||||||||||||A1|RP1|SPS1|CT_01|||CT|||^^^20261124093000
ZDS|{STUDY}^RIS^Application^DICOM
"""
#: The patient has another name, and two records become one.
UPDATE = """\
MSH|^~\\&|HIS|HOSPITAL|ARCHIVE|RADIOLOGY|20261127080000||ADT^A08|MSG2|P|2.3.1||||||UNICODE UTF-8
EVN|A08|20261127080000
PID|1||P1||Umbrellaschmidt^Anna||19700101|F
"""
MERGE = """\
MSH|^~\\&|HIS|HOSPITAL|ARCHIVE|RADIOLOGY|20261128080000||ADT^A40|MSG3|P|2.3.1||||||UNICODE UTF-8
EVN|A40|20261128080000
PID|1||P77||Umbrellaschmidt^Anna||19700101|F
MRG|P1
"""
EXPECTED = {
    "workitem": "COMPLETED",
    "outputs": 2,
    "results": ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"],
    "measured": [("Volume", 48.0), ("Attenuation Coefficient", 1000.0)],
    "verdicts": [("1.2.840.10008.5.1.4.1.1.66.4", ["accept"])],
    "patients": [("P77", "Umbrellaschmidt^Anna")],
    "objects": SLICES + 3,
    "as patient": {("P77", "Umbrellaschmidt^Anna")},
    "films": 1,
    "manifest": ("P77", SLICES + 3),
    "manifests that were": {"superseded"},
}


@dataclass
class Hospital:
    """An archive that may be killed and started again, behind ports that stay.

    Attributes:
        worker: of an AI service; it goes on when the archive is back.
    """

    folder: Path
    stack: ExitStack
    recipient: DocumentRecipient
    recipient_url: str
    dicom: Line
    web: Line
    hl7: Line
    archive: ServedArchive | None = None
    starts: int = 0
    worker: workitem_worker.Worker = field(default_factory=lambda: workitem_worker.Worker("CT"))

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.dicom, self.web, self.hl7

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        settings = self.folder / "isocenter.toml"
        settings.write_text(
            f"[hl7]\nenabled = true\npatients = true\nhost = '127.0.0.1'\nport = 0\n"
            "[ups]\nfrom_worklist = ['CT']\n"
            "[print]\nenabled = true\noutputs = ['pdf']\n"
            "[jobs]\nfirst_retry = 0.5\n"
            "[sharing]\npatient_authority = '1.3.6.1.4.1.99999.1'\n"
            "location_uid = '1.3.6.1.4.1.99999.8'\nwado_rs = 'https://archive.example/dicomweb'\n"
            "[[sharing.repositories]]\nname = 'regional'\nsource_oid = '1.3.6.1.4.1.99999.9'\n"
            f"publish = 'by hand'\narrival_seconds = 1\nmhd = '{self.recipient_url}/fhir'\n"
        )
        archive = self.stack.enter_context(served_archive(self.folder, "--config", settings))
        found = wait_for_line(archive.process, r"^  HL7 orders .*:(\d+)$", archive.log)
        self.hl7.target = int(found[1])
        self.dicom.target = archive.port
        self.web.target = int(archive.web_url.rpartition(":")[2].partition("/")[0])
        self.archive = archive
        self.starts += 1

    def kill(self) -> None:
        """And start again."""
        assert self.archive is not None
        self.archive.kill()
        self.start()

    @property
    def running(self) -> ServedArchive:
        assert self.archive is not None
        return self.archive

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.web.port}"

    @property
    def web_url(self) -> str:
        return f"{self.root}/dicomweb"

    async def tell(self, message: str) -> None:
        """An HL7 message that is accepted."""
        async with open_sender("127.0.0.1", self.hl7.port) as sender:
            answer = await sender.send(message.replace("\n", "\r").encode())
        assert b"MSA|AA|" in answer, answer

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.get(self.root + path, headers={"accept": "application/json"})
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else []


@asynccontextmanager
async def hospital(folder: Path) -> AsyncIterator[Hospital]:
    recipient = DocumentRecipient()
    async with AsyncExitStack() as lines:
        url = await lines.enter_async_context(http_serving(Scripted(recipient)))
        dicom, web, hl7 = [await lines.enter_async_context(open_line()) for _ in range(3)]
        with ExitStack() as stack:
            made = Hospital(folder, stack, recipient, url, dicom, web, hl7)
            await trio.to_thread.run_sync(made.start)
            yield made


# -- The steps; each may be done again, since a crash can come behind it -------------------


async def order(place: Hospital) -> None:
    await place.tell(ORDER)


async def scan(place: Hospital) -> None:
    def send() -> None:
        entity = AE("SCANNER")
        entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = entity.associate("127.0.0.1", place.dicom.port, ae_title="ISOCENTER")
        assert association.is_established
        socket = association.dul.socket.socket
        try:
            for number in range(1, SLICES + 1):
                image = pydicom.dcmread(io.BytesIO(ct_image(number)))
                assert association.send_c_store(image).get("Status") == 0
            association.release()
        finally:
            if not association.is_released:
                association.abort()
                association.join(PATIENCE)
                socket.close()

    await trio.to_thread.run_sync(send)


async def analyse(place: Hospital) -> None:
    async with DicomWebClient(place.web_url) as archive:
        await place.worker.work_once(archive)


async def accept(place: Hospital) -> None:
    shown = await place.get(f"/api/v1/studies/{STUDY}/ai-results")
    (result,) = [
        one for one in shown["results"] if one["sop_class_uid"] == "1.2.840.10008.5.1.4.1.1.66.4"
    ]
    if result["assessments"]:
        return  # the answer was lost, and nothing else
    uid = result["sop_instance_uid"]
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(
            f"{place.root}/api/v1/ai/results/{uid}/assessments",
            json={"verdict": "accept", "institution": "Hospital"},
        )
    assert answer.status_code == 201, answer.text


async def print_film(place: Hospital) -> None:
    if (await place.get("/api/v1/print-jobs"))["jobs"]:
        return
    file = place.folder / "film.dcm"
    file.write_bytes(ct_image(1))
    printer = f"ISOCENTER@127.0.0.1:{place.dicom.port}"

    def do() -> None:
        done = isocenter_command("printscu", printer, "print", file)
        assert done.returncode == 0, done.stdout

    await trio.to_thread.run_sync(do)


async def publish(place: Hospital) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(
            f"{place.root}/api/v1/studies/{STUDY}/publications", json={"repository": "regional"}
        )
    assert answer.status_code == 202, answer.text


async def update(place: Hospital) -> None:
    # As days pass between the steps: the manifest of before is what the next ones supersede.
    await until(lambda: len(place.recipient.current) == 1)
    await place.tell(UPDATE)


async def merge(place: Hospital) -> None:
    await place.tell(MERGE)


STEPS = (order, scan, analyse, accept, print_film, publish, update, merge)


Passed = dict[tuple[Callable[[Hospital], Awaitable[None]], int, Way], int]


async def play_with_kills_behind(place: Hospital) -> Passed:
    """The week; how many bytes went over which line in each step, and which way."""
    passed: Passed = {}
    for step in STEPS:
        for line in place.lines:
            line.watch()
        await step(place)
        for number, line in enumerate(place.lines):
            passed |= {(step, number, way): line.passed[way] for way in Way if line.passed[way]}
        await trio.to_thread.run_sync(place.kill)
    return passed


async def play_with_kills_within(place: Hospital, passed: Passed, random: Random) -> None:
    """The week; each step is cut at a byte, which the seed says, and done again."""
    for step in STEPS:
        ways = [(number, way) for each, number, way in passed if each is step]
        number, way = random.choice(ways)
        at = byte_within(passed[step, number, way], random.random())
        await cut(place, step, place.lines[number], way, at)
        await step(place)


def byte_within(count: int, share: float) -> int:
    """A byte of *count*, the same in each run: ports and times make a few bytes more or less.

    Not one of the last: with those, nothing would be within.
    """
    step = 1 << max(count.bit_length() - 5, 0)
    return int(count // step * step * 9 // 10 * share)


def test_a_seed_cuts_at_the_same_byte_in_each_run() -> None:
    for counts in ((1_683, 1_686), (14_782, 14_785), (1_739, 1_745), (2_015, 2_017), (540, 541)):
        assert len({byte_within(count, 0.7) for count in counts}) == 1
    for count in range(1, 5_000):
        assert 0 <= byte_within(count, 0.0) <= byte_within(count, 0.999) < count


async def cut(
    place: Hospital, step: Callable[[Hospital], Awaitable[None]], line: Line, way: Way, at: int
) -> None:
    """A step that is cut, with the archive."""
    failures: list[Exception] = []
    is_over = trio.Event()

    async def attempt() -> None:
        try:
            await step(place)
        except Exception as error:  # whatever a client says of it
            failures.append(error)
        is_over.set()

    line.watch(way, at)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt)
            async with trio.open_nursery() as either:
                for event in (is_over, line.is_cut):
                    either.start_soon(first_of, event, either.cancel_scope)
            if not line.is_cut.is_set():
                failure = failures[0] if failures else None
                raise AssertionError(f"{step.__name__}: over before byte {at} {way}") from failure
            assert place.archive is not None
            await trio.to_thread.run_sync(place.archive.kill)
            for each in place.lines:
                each.drop()
    for each in place.lines:
        each.watch()
    await trio.to_thread.run_sync(place.start)


async def first_of(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def end(place: Hospital) -> dict[str, Any]:
    """What is there when all has been done."""
    await until_corrected(place)
    await until(lambda: len(films(place)) == 1)
    await until(lambda: manifests(place) == [EXPECTED["manifest"]])
    return await seen(place)


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - another process does it
            await trio.sleep(0.1)


def films(place: Hospital) -> list[Path]:
    return list((place.running.data_dir / "prints").glob("*.pdf"))


def manifests(place: Hospital) -> list[tuple[str, int]]:
    """Of the documents that are current: whose, and of how many objects."""
    found = []
    for reference in place.recipient.current:
        document = pydicom.dcmread(io.BytesIO(place.recipient.document(reference)))
        (study,) = document.CurrentRequestedProcedureEvidenceSequence
        assert study.StudyInstanceUID == STUDY
        objects = sum(len(one.ReferencedSOPSequence) for one in study.ReferencedSeriesSequence)
        found.append((document.PatientID, objects))
    return found


async def until_corrected(place: Hospital) -> None:
    """A correction shows within about a second."""
    with trio.fail_after(PATIENCE):
        while True:
            found = await place.get(f"/dicomweb/studies/{STUDY}/instances?includefield=00100020")
            if {value(one, "00100020") for one in found} == {"P77"}:
                return
            await trio.sleep(0.1)


async def seen(place: Hospital) -> dict[str, Any]:
    async with DicomWebClient(place.web_url) as archive:
        (found,) = await archive.workitems.search()
        workitem = await archive.workitems.get(value(found, "00080018"))
    (performed,) = workitem["00741216"]["Value"]
    shown = await place.get(f"/api/v1/studies/{STUDY}/ai-results")
    results = sorted(shown["results"], key=lambda one: str(one["sop_class_uid"]))
    report = await place.get(f"/api/v1/ai/results/{results[1]['sop_instance_uid']}")
    (finding,) = report["findings"]
    studies = await place.get("/dicomweb/studies?includefield=00100010")
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(
            f"{place.root}/dicomweb/studies/{STUDY}/metadata",
            headers={"accept": "application/dicom+json"},
        )
    objects = answer.json()
    return {
        "workitem": value(workitem, "00741000"),
        "outputs": len(performed["00404033"]["Value"]),
        "results": [one["sop_class_uid"] for one in results],
        "measured": [(one["name"], one["value"]) for one in finding["measurements"]],
        "verdicts": [
            (one["sop_class_uid"], [each["verdict"] for each in one["assessments"]])
            for one in results
            if one["assessments"]
        ],
        "patients": [(value(one, "00100020"), value(one, "00100010")) for one in studies],
        "objects": len(objects),
        "films": len(films(place)),
        "manifest": manifests(place)[0],
        "manifests that were": {
            one["status"]
            for one in place.recipient.references.values()
            if one["status"] != "current"
        },
        "as patient": {(value(one, "00100020"), value(one, "00100010")) for one in objects},
    }


def value(model: Any, tag: str) -> str:
    values = model.get(tag, {}).get("Value", [""])
    return values[0]["Alphabetic"] if isinstance(values[0], dict) else str(values[0])


async def test_weeks_of_kills_end_as_they_should(tmp_path: Path) -> None:
    async with hospital(tmp_path / "0") as place:
        passed = await play_with_kills_behind(place)
        assert await end(place) == EXPECTED
        assert place.starts == 1 + len(STEPS)
    for week in range(1, WEEKS + 1):
        async with hospital(tmp_path / str(week)) as place:
            await play_with_kills_within(place, passed, Random(week))
            assert await end(place) == EXPECTED
            assert place.starts == 1 + len(STEPS)
