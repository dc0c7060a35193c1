"""worklistscu and its library against our server, and against peers that are odd."""

from __future__ import annotations

import csv
import io
import os
import signal
from datetime import datetime
from pathlib import Path

import orjson
import pytest
import trio
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from isocenter.engine.dimse.message_codec import CFindRequest, CFindResponse
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import Peer, open_association
from isocenter.services.association.operation import Operation
from isocenter.services.cli import main
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND
from isocenter.services.service_classes.worklist.entry_files import read_entries
from isocenter.services.service_classes.worklist.order_fields import CODES, FIELDS
from isocenter.services.service_classes.worklist.scu import (
    CONTEXTS,
    RETURN_KEYS,
    find_items,
    item_of,
    worklist_keys,
)
from services.cli_support import RunningServer, Scripted, archive_server, scripted_server
from services.service_classes.worklist.samples import entry, order

Output = pytest.CaptureFixture[str]


def add(data_dir: Path, *orders: dict[str, object]) -> None:
    path = data_dir.parent / "orders.json"
    path.write_bytes(orjson.dumps(orders))
    assert main(["worklist", "import", "--data-dir", str(data_dir), str(path), "-q"]) == 0


def test_the_answer_in_all_forms(tmp_path: Path, capsys: Output) -> None:
    data_dir = tmp_path / "data"
    today = f"{datetime.now().astimezone():%Y%m%d}"
    with archive_server(data_dir=str(data_dir)) as server:
        add(
            data_dir,
            order(1, patient_name="MÜLLER^JÖRG", pregnancy_status="4"),
            order(2, modality="MR", station_ae="MR_01"),
            order(3, scheduled_datetime=f"{today}120000"),
        )
        command = ["worklistscu", server.peer, "-q"]
        assert main([*command, "--patient-name", "müller*", "-o", "json"]) == 0
        (item,) = orjson.loads(capsys.readouterr().out)
        # What was put in, and what was made of it.
        given = order(1, patient_name="MÜLLER^JÖRG", pregnancy_status="4")
        assert item.items() >= given.items()
        assert item["requested_proc_id"] == "A1"

        assert main([*command, "--modality", "MR", "-o", "csv"]) == 0
        (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert (row["step_id"], row["station_ae"]) == ("SPS2", "MR_01")

        assert main([*command, "--today"]) == 0
        table = capsys.readouterr().out
        assert f"{today[:4]}-{today[4:6]}-{today[6:]} 12:00" in table
        assert "SPS3" in table
        assert "SPS1" not in table

        path = tmp_path / "entry.json"
        assert main([*command, "--step-id", "SPS1", "-o", "dicom", "--output-file", str(path)]) == 0
        ((again, _),) = read_entries(path, "entry.json")
        assert again.text(0x00100010) == "MÜLLER^JÖRG"

        assert main([*command, "--date", "20300101-"]) == 1
        assert main(["worklistscu", server.peer, "--station", "NOBODY", "-o", "json"]) == 1
        out, error = capsys.readouterr()
        assert orjson.loads(out) == []
        assert "nothing is scheduled that matches" in error

        assert main([*command, "--max-results", "2", "-o", "json"]) == 0
        assert len(orjson.loads(capsys.readouterr().out)) == 2


def test_findscu_puts_its_options_where_they_belong(tmp_path: Path, capsys: Output) -> None:
    data_dir = tmp_path / "data"
    with archive_server(data_dir=str(data_dir)) as server:
        add(data_dir, order(1), order(2, modality="MR"))
        command = ["findscu", "-W", server.peer, "-q", "-o", "json"]
        assert main([*command, "--modality", "MR"]) == 0
        (match,) = orjson.loads(capsys.readouterr().out)
        assert match["00080050"]["Value"] == ["A2"]
        assert match["00400100"]["Value"][0]["00400009"]["Value"] == ["SPS2"]
        assert main([*command, "-k", "PatientName", "-k", "(0040,0100)[0].Modality=CT"]) == 0
        (match,) = orjson.loads(capsys.readouterr().out)
        assert "00080050" not in match
        assert main(["findscu", "-W", server.peer, "--level", "STUDY"]) == 2
        assert "no levels" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["movescu", "-W", server.peer])


def test_items_stream(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"

    async def stream(port: int) -> None:
        async with open_association(Peer("ISOCENTER", "127.0.0.1", port), CONTEXTS) as ris:
            async with find_items(ris, {"modality": "CT", "date": "20261124"}) as items:
                found = [item async for item in items]
            assert {item.fields["step_id"] for item in found} == {f"SPS{n}" for n in range(1, 8)}
            assert {type(item.dataset) for item in found} == {Dataset}
            async with find_items(ris, {"station_ae": "CT_01"}, [("PatientID", "PAT3")]) as items:
                (item,) = [item async for item in items]
            assert item.dataset.ScheduledProcedureStepSequence[0].Modality == "CT"
            # Left early, and the association serves on.
            async with find_items(ris) as items:
                async for _ in items:
                    break
            async with find_items(ris, {"patient_id": "PAT7"}) as items:
                assert len([item async for item in items]) == 1

    with archive_server(data_dir=str(data_dir)) as server:
        add(data_dir, *(order(number) for number in range(1, 8)))
        trio.run(stream, server.port)


def test_keys_nest() -> None:
    keys = dict(worklist_keys({"modality": "CT", "time": "0800-1200", "patient_id": "P"}))
    assert keys["(0040,0100)[0].(0008,0060)"] == "CT"
    assert keys["(0040,0100)[0].(0040,0003)"] == "0800-1200"
    assert keys["(0010,0020)"] == "P"
    paths = {path for path, _ in RETURN_KEYS}
    assert set(FIELDS.values()) <= paths
    assert all(f"{path}[0].(0008,0100)" in paths for path in CODES.values())
    with pytest.raises(KeySyntaxError, match="'station' is no field"):
        worklist_keys({"station": "CT_01"})


def encoded(number: int = 1) -> bytes:
    return entry(number).attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN)


def test_an_item_without_a_step_is_an_item() -> None:
    whole = AttributeList.read(encoded(), EXPLICIT_VR_LITTLE_ENDIAN)
    rest = AttributeList({tag: e for tag, e in whole.elements.items() if tag != 0x00400100})
    item = item_of(rest.encode(EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN)
    assert item.fields["patient_id"] == "PAT1"
    assert "modality" not in item.fields
    assert "ScheduledProcedureStepSequence" not in item.dataset


class _Odd:
    """Answers with what a test says, and keeps what it was asked."""

    def __init__(self, answers: list[bytes], status: int = 0) -> None:
        self._answers = answers
        self._status = status
        self.asked: list[Dataset] = []

    async def __call__(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CFindRequest)
        identifier = await operation.data_set()
        self.asked.append(read_identifier(identifier, operation.context.transfer_syntax))
        for answer in self._answers:
            await operation.respond_pending(_response(request, 0xFF00), [answer])
        await operation.respond(_response(request, self._status))


def _response(request: CFindRequest, status: int) -> CFindResponse:
    return CFindResponse(
        message_id_being_responded_to=request.message_id,
        status=status,
        affected_sop_class_uid=request.affected_sop_class_uid,
    )


def ask(odd: _Odd, capsys: Output, *options: str) -> tuple[int, list[dict[str, str]], str]:
    scripted = Scripted(odd, MODALITY_WORKLIST_FIND, syntaxes=[EXPLICIT_VR_LITTLE_ENDIAN])
    with scripted_server(scripted) as server:
        assert isinstance(server, RunningServer)
        code = main(["worklistscu", server.peer, "-o", "json", *options])
    out, error = capsys.readouterr()
    return code, orjson.loads(out), error


def test_what_is_asked(capsys: Output) -> None:
    odd = _Odd([])
    options = ("--station", "CT_01", "--accession", "A1", "-k", "PatientSex=F")
    assert ask(odd, capsys, *options, "--patient-name", "Ü*", "--charset", "ISO_IR 100")[0] == 1
    (asked,) = odd.asked
    assert "QueryRetrieveLevel" not in asked
    assert asked.AccessionNumber == "A1"
    assert asked.PatientSex == "F"
    assert asked.SpecificCharacterSet == "ISO_IR 100"
    (step,) = asked.ScheduledProcedureStepSequence
    assert step.ScheduledStationAETitle == "CT_01"
    assert "Modality" in step
    assert "Modality" not in asked
    assert "CodeValue" in step.ScheduledProtocolCodeSequence[0]


def test_an_item_that_cannot_be_read_does_not_hide_the_others(capsys: Output) -> None:
    cut = b"\x40\x00\x00\x01SQ\0\0\xff\0\0\0"
    code, items, error = ask(_Odd([encoded(1), cut, encoded(2)]), capsys)
    assert code == 1
    assert [item["step_id"] for item in items] == ["SPS1", "SPS2"]
    assert "an item cannot be read" in error


def test_a_refusal_is_told(capsys: Output) -> None:
    code, items, error = ask(_Odd([encoded(1)], 0xA700), capsys)
    assert code == 1
    assert len(items) == 1
    assert "the peer refused the query" in error
    assert "A700" in error


def test_ctrl_c_cancels_and_prints_what_has_come(capsys: Output) -> None:
    cancelled: list[bool] = []

    async def answer_and_interrupt(operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CFindRequest)
        await operation.respond_pending(_response(request, 0xFF00), [encoded(1)])
        os.kill(os.getpid(), signal.SIGINT)
        while not operation.is_cancelled:
            await trio.lowlevel.checkpoint()
        cancelled.append(True)
        await operation.respond(_response(request, 0xFE00))

    with scripted_server(Scripted(answer_and_interrupt, MODALITY_WORKLIST_FIND)) as server:
        assert main(["worklistscu", server.peer, "-o", "csv"]) == 130
    assert cancelled
    out, error = capsys.readouterr()
    assert out.startswith("scheduled_datetime,step_id")
    assert "Traceback" not in error


def test_a_peer_without_a_worklist(capsys: Output) -> None:
    with scripted_server(Scripted(_Odd([]), VERIFICATION)) as server:
        assert main(["worklistscu", server.peer]) == 1
    assert "the peer has no worklist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--date", "tomorrow"], "is no day YYYYMMDD"),
        (["--date", "20261399"], "is no day YYYYMMDD"),
        (["--date", "20261124-20261120"], "is no day YYYYMMDD"),
        (["--date", "20261124", "--today"], "not allowed with"),
        (["--station", "a\\b"], "--station"),
    ],
)
def test_wrong_options(options: list[str], said: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["worklistscu", "RIS@127.0.0.1:1", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-k", "NoSuchKeyword=1"], "no keyword"),
        (["-k", "0010,21C0=x"], "none of VR US"),
        (["something"], "Behind the peer"),
        (["--output-file", "/nowhere/a.csv"], "No such file"),
    ],
)
def test_wrong_keys_show_before_anybody_is_called(
    options: list[str], said: str, capsys: Output
) -> None:
    assert main(["worklistscu", "RIS@127.0.0.1:1", *options]) == 2
    assert said in capsys.readouterr().err


#: Every attribute that PS3.4 Table K.6-1 names, by keyword, outside of items whose sequence is
#: asked for as a whole.
TABLE_K_6_1 = {
    "(0040,0100)[0].": """
        ScheduledStationAETitle ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime
        Modality ScheduledPerformingPhysicianName ScheduledProcedureStepDescription
        ScheduledStationName ScheduledProcedureStepLocation ReferencedDefinedProtocolSequence
        ReferencedPerformedProtocolSequence PreMedication ScheduledProcedureStepID
        RequestedContrastAgent ScheduledProcedureStepStatus""",
    "(0040,0100)[0].(0040,0008)[0].": """
        CodeValue CodingSchemeDesignator CodeMeaning ProtocolContextSequence""",
    "": """
        ScheduledSpecimenSequence BarcodeValue RequestedProcedureID RequestedProcedureDescription
        StudyInstanceUID StudyDate StudyTime ReferencedStudySequence RequestedProcedurePriority
        PatientTransportArrangements AccessionNumber IssuerOfAccessionNumberSequence
        RequestingPhysician ReferringPhysicianName AdmissionID IssuerOfAdmissionIDSequence
        CurrentPatientLocation ReferencedPatientSequence PatientName PatientID IssuerOfPatientID
        IssuerOfPatientIDQualifiersSequence OtherPatientIDsSequence PatientBirthDate PatientSex
        PatientPrimaryLanguageCodeSequence PatientWeight PatientSize
        ConfidentialityConstraintOnPatientDataDescription PatientState PregnancyStatus
        MedicalAlerts Allergies SpecialNeeds PertinentDocumentsSequence""",
    "(0032,1064)[0].": "CodeValue CodingSchemeDesignator CodeMeaning",
}


def test_everything_that_the_table_names_is_asked_for() -> None:
    named = {
        prefix + f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        for prefix, keywords in TABLE_K_6_1.items()
        for keyword in keywords.split()
        for tag in (tag_for_keyword(keyword),)
        if tag is not None
    }
    assert len(named) == sum(len(keywords.split()) for keywords in TABLE_K_6_1.values())
    assert named <= {path for path, _ in RETURN_KEYS}
