"""Modality worklist over the web: found as by C-FIND, in JSON and XML, page by page."""

from __future__ import annotations

import gzip
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
from pydicom.dataset import Dataset

from isocenter.services.association.peer import Peer
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Notice, Notices, QueryAnswered
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND
from isocenter.services.service_classes.worklist.scu import CONTEXTS, find_items
from isocenter.services.web.principal import Principal
from isocenter.services.web.records import RequestRecords
from services.service_classes.mpps.samples import UID, begun
from services.service_classes.worklist.samples import entry
from services.web.asking import Answered, WebSide, web_side

PATH = "/dicomweb/modality-scheduled-procedure-steps"
STEPS = "/dicomweb/modality-performed-procedure-steps"


async def schedule(ask: WebSide) -> None:
    """Three steps: CT at 9:30 and 11, MR between."""
    await ask.parts.stores.worklist.put(
        [
            entry(1),
            entry(2, modality="MR", station_ae="MR_01", scheduled_datetime="20261124100000"),
            entry(3, patient_name="MÜLLER^JÖRG", scheduled_datetime="20261125110000"),
        ],
        source="command",
    )


def steps(answer: Answered) -> list[str]:
    """The step IDs of an answer."""
    assert answer.status == 200, answer.body
    return [one["00400100"]["Value"][0]["00400009"]["Value"][0] for one in answer.json]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["SPS1", "SPS2", "SPS3"]),
        ("PatientID=PAT2", ["SPS2"]),
        ("00100020=PAT2", ["SPS2"]),
        ("PatientID=PAT1,PAT2", []),  # a comma stands in an LO
        ("PatientID=PAT1&PatientID=PAT2", ["SPS1", "SPS2"]),
        ("PatientName=doe*", ["SPS1", "SPS2"]),
        (f"PatientName={quote('müller*')}", ["SPS3"]),
        ("ScheduledProcedureStepSequence.Modality=MR", ["SPS2"]),
        ("00400100.00080060=CT", ["SPS1", "SPS3"]),
        ("00400100.Modality=CT,MR", ["SPS1", "SPS2", "SPS3"]),
        # What is only in the step may be named without its sequence.
        ("Modality=MR", ["SPS2"]),
        ("ScheduledStationAETitle=CT_01", ["SPS1", "SPS3"]),
        ("ScheduledProcedureStepStartDate=20261125-", ["SPS3"]),
        (
            "ScheduledProcedureStepStartDate=20261124&ScheduledProcedureStepStartTime=0945-1030",
            ["SPS2"],
        ),
        ("ScheduledProcedureStepSequence.ScheduledProtocolCodeSequence.CodeValue=CHEST1",
         ["SPS1", "SPS2", "SPS3"]),
        ("ScheduledProcedureStepStatus=SCHEDULED", ["SPS1", "SPS2", "SPS3"]),
        ("NoSuchAttribute=1&foo.bar=2", ["SPS1", "SPS2", "SPS3"]),
        ("limit=2", ["SPS1", "SPS2"]),
        ("limit=2&offset=1", ["SPS2", "SPS3"]),
        ("offset=3", []),
        ("limit=0", []),
    ],
)  # fmt: skip
async def test_what_is_found(query: str, found: list[str]) -> None:
    async with web_side() as ask:
        await schedule(ask)
        for path in (PATH, "/dicomweb/mwlitems"):
            answer = await ask("GET", f"{path}?{query}")
            if found:
                assert steps(answer) == found
            else:
                assert (answer.status, answer.body) == (204, b"")


async def test_what_an_answer_shows() -> None:
    async with web_side() as ask:
        await schedule(ask)
        (usual,) = (await ask("GET", f"{PATH}?PatientID=PAT3")).json
        assert usual["00100010"]["Value"] == [{"Alphabetic": "MÜLLER^JÖRG"}]
        assert usual["00080005"]["Value"] == ["ISO_IR 192"]
        assert usual["00080050"]["Value"] == ["A3"]
        (step,) = usual["00400100"]["Value"]
        assert step["00400020"]["Value"] == ["SCHEDULED"]
        assert list(usual) == sorted(usual)
        # An attribute that is asked for and not there has no value.
        assert usual["00380500"] == {"vr": "LO"}
        (more,) = (await ask("GET", f"{PATH}?PatientID=PAT3&includefield=00102180")).json
        assert more["00102180"] == {"vr": "SH"}
        (whole,) = (await ask("GET", f"{PATH}?PatientID=PAT3&includefield=all")).json
        assert "00380500" not in whole
        kept = await ask.parts.stores.worklist.find_by_accession_number("A3")
        assert Dataset.from_json(whole).StudyInstanceUID == kept[0].entry.text(0x0020000D)


async def test_xml() -> None:
    async with web_side() as ask:
        await schedule(ask)
        accept = 'multipart/related; type="application/dicom+xml"'
        answer = await ask("GET", PATH, accept=accept)
        assert answer.body.count(b"<NativeDicomModel") == 3
        part = answer.body.split(b"\r\n\r\n")[1].partition(b"\r\n--")[0]
        assert ET.fromstring(part).tag.endswith("NativeDicomModel")
        assert (await ask("GET", PATH, accept="text/html")).status == 406


async def test_many_answers_are_compressed() -> None:
    async with web_side() as ask:
        entries = [entry(number) for number in range(1, 41)]
        await ask.parts.stores.worklist.put(entries, source="command")
        plain = await ask("GET", PATH)
        packed = await ask("GET", PATH, accept_encoding="gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert len(plain.json) == 40
        few = await ask("GET", f"{PATH}?limit=2", accept_encoding="gzip")
        assert "content-encoding" not in few.headers


async def test_what_is_told_with_an_answer() -> None:
    async with web_side({"web.default_results": 2, "web.max_results": 3}) as ask:
        await schedule(ask)
        cut = await ask("GET", PATH)
        assert steps(cut) == ["SPS1", "SPS2"]
        assert "additional results" in cut.headers["warning"]
        for limit in (3, 4):
            whole = await ask("GET", f"{PATH}?limit={limit}")
            assert len(steps(whole)) == 3
            assert "warning" not in whole.headers


async def test_names_that_sound_alike() -> None:
    async with web_side() as ask:
        await schedule(ask)
        literal = await ask("GET", f"{PATH}?PatientName=Mueller")
        assert literal.status == 204
        fuzzy = await ask("GET", f"{PATH}?PatientName=Joerg+Mueller&fuzzymatching=true")
        assert steps(fuzzy) == ["SPS3"]
        assert "warning" not in fuzzy.headers


@pytest.mark.parametrize(
    ("setting", "of_worklist", "of_studies"),
    [("standard", 204, 200), ("200", 200, 200), ("204", 204, 204)],
)
async def test_nothing_found(setting: str, of_worklist: int, of_studies: int) -> None:
    async with web_side({"web.empty_search": setting}) as ask:
        for path, status in ((PATH, of_worklist), ("/dicomweb/studies", of_studies)):
            answer = await ask("GET", path)
            assert (answer.status, answer.body) == (status, b"[]" if status == 200 else b"")


async def test_the_bound_of_the_worklist_is_one_of_the_web_too() -> None:
    async with web_side({"worklist.max_results": 2}) as ask:
        await schedule(ask)
        assert steps(await ask("GET", PATH)) == ["SPS1", "SPS2"]
        cut = await ask("GET", f"{PATH}?limit=3")
        assert steps(cut) == ["SPS1", "SPS2"]
        assert "additional results" in cut.headers["warning"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "offset=x",
        "ScheduledProcedureStepStartDate=yesterday-",
        "StudyInstanceUID=1.2.*.3",
        "ScheduledProcedureStepSequence=1",
        "PatientID.Modality=CT",
        "Modality=C*,MR",
    ],
)
async def test_what_is_no_search(query: str) -> None:
    async with web_side() as ask:
        answer = await ask("GET", f"{PATH}?{query}")
        assert answer.status == 400, answer.body
        assert answer.json["error"]["code"] == "BAD_QUERY"


async def test_a_search_is_told_as_one_of_the_worklist() -> None:
    told: list[Notice] = []

    async def as_carol(request: Request, route: Route[Handler]) -> None:
        request.caller = Principal(permissions=ALL_PERMISSIONS, user="carol")

    records = RequestRecords(Notices(told.append))
    async with web_side(authorize=as_carol, on_answered=records) as ask:
        await schedule(ask)
        await ask("GET", f"{PATH}?PatientID=PAT1")
        assert not ask.notices
    (query,) = [one for one in told if isinstance(one, QueryAnswered)]
    assert (query.sop_class_uid, query.matches) == (MODALITY_WORKLIST_FIND, 1)
    assert query.identifier.endswith(b"?PatientID=PAT1")
    assert query.caller.user == "carol"


async def test_a_worklist_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise StorageError("the disk is gone")

    async with web_side() as ask:
        monkeypatch.setattr(ask.parts.stores.worklist, "find", broken)
        assert (await ask("GET", PATH)).status == 503


async def test_what_the_web_begins_leaves_the_list_of_dimse() -> None:
    async with web_side(listens=True) as ask:
        await schedule(ask)
        peer = Peer("ISOCENTER", "127.0.0.1", ask.port)

        async def listed() -> list[str]:
            async with (
                open_association(peer, CONTEXTS, calling_ae_title="CT_01") as modality,
                find_items(modality) as items,
            ):
                return [item.fields["step_id"] async for item in items]

        assert await listed() == ["SPS1", "SPS2", "SPS3"]
        step = begun()
        (item,) = step.ScheduledStepAttributesSequence
        (kept,) = await ask.parts.stores.worklist.find_by_accession_number("A1")
        item.StudyInstanceUID = kept.entry.text(0x0020000D)
        item.AccessionNumber, item.ScheduledProcedureStepID = "A1", "SPS1"
        created = await ask("POST", f"{STEPS}/{UID}", step.to_json_dict())
        assert created.status == 201
        assert await listed() == ["SPS2", "SPS3"]
        assert steps(await ask("GET", PATH)) == ["SPS2", "SPS3"]
        started = await ask("GET", f"{PATH}?ScheduledProcedureStepStatus=STARTED")
        assert steps(started) == ["SPS1"]
