"""``isocenter worklist`` from the first entry to the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.services.cli import main
from services.service_classes.worklist.samples import order

Output = pytest.CaptureFixture[str]
ENTRY = ("SPS1", "A1")


def fields(**changes: object) -> list[str]:
    return [f"{name}={value}" for name, value in order(**changes).items()]


def listed(data_dir: str, capsys: Output, *options: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["worklist", "list", "--data-dir", data_dir, "--format", "json", *options]) == 0
    found: list[dict[str, Any]] = orjson.loads(capsys.readouterr().out)
    return found


def test_an_entry_from_its_beginning_to_its_end(tmp_path: Path, capsys: Output) -> None:
    data_dir = str(tmp_path / "data")
    at = ["--data-dir", data_dir]
    assert main(["worklist", "add", *at, *fields(), "PatientWeight=70"]) == 0
    assert "1 added" in capsys.readouterr().err
    (entry,) = listed(data_dir, capsys)
    assert (entry["step_id"], entry["step_status"], entry["patient_weight"]) == (
        "SPS1", "SCHEDULED", "70",
    )  # fmt: skip
    assert entry["source"] == "command"

    changes = ["patient_name=MÜLLER^JÖRG", "station_ae=CT_02"]
    assert main(["worklist", "update", *at, *ENTRY, *changes]) == 0
    (entry,) = listed(data_dir, capsys, "-k", "ScheduledProcedureStepSequence[0].Modality=CT")
    assert (entry["patient_name"], entry["station_ae"]) == ("MÜLLER^JÖRG", "CT_02")
    assert main(["worklist", "show", *at, *ENTRY]) == 0
    shown = capsys.readouterr().out
    assert "CHEST1" in shown  # what was not changed is there still
    assert "Chest with contrast" in shown

    assert main(["worklist", "update", *at, *ENTRY, "step_status=COMPLETED"]) == 0
    assert listed(data_dir, capsys) == []
    (entry,) = listed(data_dir, capsys, "--state", "completed")
    assert entry["station_ae"] == "CT_02"
    assert main(["worklist", "list", *at, "--state", "all"]) == 0
    table = capsys.readouterr().out
    assert "SPS1" in table
    assert "JÖRG" not in table

    assert main(["worklist", "remove", *at, *ENTRY]) == 0
    assert listed(data_dir, capsys, "--state", "all") == []


def test_what_an_update_does_not_name_stays_to_the_last_item(
    tmp_path: Path, capsys: Output
) -> None:
    at = ["--data-dir", str(tmp_path / "data")]
    codes = "ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence"
    attributes = {
        f"{codes}[{n}].{keyword}": f"{value}{n}"
        for n in range(2)
        for keyword, value in (
            ("CodeValue", "V"), ("CodingSchemeDesignator", "99X"), ("CodeMeaning", "Meaning "),
            ("CodingSchemeVersion", "2026"),
        )
    }  # fmt: skip
    path = tmp_path / "order.json"
    path.write_bytes(orjson.dumps(order(1, protocol_code="", attributes=attributes)))
    assert main(["worklist", "import", *at, str(path)]) == 0
    changes = [
        "patient_name=MÜLLER^JÖRG",
        "scheduled_datetime=20270101000000",
        "ScheduledProcedureStepSequence[0].PreMedication=NONE",
        "PatientWeight=70",
    ]
    assert main(["worklist", "update", *at, *ENTRY, *changes]) == 0
    assert main(["worklist", "show", *at, *ENTRY]) == 0
    shown = capsys.readouterr().out
    for value in (*attributes.values(), "MÜLLER^JÖRG", "20270101", "NONE", "70"):
        assert f"'{value}'" in shown
    # What is named is there as it is given, and nothing of what was.
    assert main(["worklist", "update", *at, *ENTRY, "protocol_code=NEW^99X^New"]) == 0
    assert main(["worklist", "show", *at, *ENTRY]) == 0
    shown = capsys.readouterr().out
    assert "'NEW'" in shown
    assert "'V1'" not in shown


def test_an_update_does_not_judge_what_it_does_not_name(tmp_path: Path, capsys: Output) -> None:
    data_dir = str(tmp_path / "data")
    at = ["--data-dir", data_dir]
    step = "ScheduledProcedureStepSequence[0]"
    more = {
        f"{step}.ScheduledProcedureStepStartTime": "09",
        f"{step}.ScheduledProtocolCodeSequence[0].CodeValue": "A",
        f"{step}.ScheduledProtocolCodeSequence[0].CodeMeaning": "Head^Neck^Chest",
    }
    path = tmp_path / "order.json"
    path.write_bytes(orjson.dumps(order(protocol_code="", attributes=more)))
    assert main(["worklist", "import", *at, str(path)]) == 0
    assert main(["worklist", "update", *at, *ENTRY, "sex=M"]) == 0
    (entry,) = listed(data_dir, capsys)
    assert (entry["sex"], entry["scheduled_datetime"]) == ("M", "20261124090000")
    assert entry["protocol_code"].endswith("^Head^Neck^Chest")


@pytest.mark.parametrize("action", ["update", "remove", "show", "list"])
def test_where_no_archive_is_none_is_made(action: str, tmp_path: Path, capsys: Output) -> None:
    words = {"update": [*ENTRY, "sex=M"], "list": []}.get(action, [*ENTRY])
    assert main(["worklist", action, "--data-dir", str(tmp_path / "typo"), *words]) == 2
    assert "no archive is there" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: Output) -> None:
    missing = tmp_path / "missing.json"
    assert main(["worklist", "import", "--data-dir", str(tmp_path / "data"), str(missing)]) == 1
    assert f"{missing}: No such file or directory (error -700)\n" in capsys.readouterr().err


def test_a_new_key_moves_the_entry(tmp_path: Path, capsys: Output) -> None:
    data_dir = str(tmp_path / "data")
    at = ["--data-dir", data_dir]
    assert main(["worklist", "add", *at, *fields()]) == 0
    assert main(["worklist", "update", *at, *ENTRY, "accession_no=B7"]) == 0
    (entry,) = listed(data_dir, capsys)
    assert entry["accession_no"] == "B7"


def test_a_file_with_a_faulty_entry_loads_none(tmp_path: Path, capsys: Output) -> None:
    data_dir = str(tmp_path / "data")
    path = tmp_path / "orders.json"
    path.write_bytes(orjson.dumps([order(1), order(2, modality="")]))
    assert main(["worklist", "import", "--data-dir", data_dir, str(path)]) == 1
    fault = capsys.readouterr().err
    assert "orders.json" in fault
    assert "(0008,0060)" in fault
    assert "(field modality)" in fault
    assert "DOE" not in fault
    assert not (tmp_path / "data").exists()
    path.write_bytes(orjson.dumps([order(1), order(2, step_status="STARTED")]))
    assert main(["worklist", "import", "--data-dir", data_dir, str(path)]) == 0
    assert [entry["step_id"] for entry in listed(data_dir, capsys)] == ["SPS1"]
    assert len(listed(data_dir, capsys, "--state", "all")) == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["add", "patient_nmae=X"], 2, "'patient_nmae' is no field"),
        (["add", "patient_name"], 2, "is no FIELD=VALUE"),
        (["add", "patient_name=X"], 1, "is missing"),
        (["update", "SPS9", "A9", "sex=F"], 1, "no such entry"),
        (["remove", "SPS9"], 1, "no such entry"),
        (["list", "-k", "StudyInstanceUID=1.*"], 2, "wild cards"),
        (["list", "-k", "NoKeyword=1"], 2, "NoKeyword"),
    ],
)
def test_what_cannot_be_is_said(
    words: list[str], code: int, says: str, tmp_path: Path, capsys: Output
) -> None:
    data_dir = str(tmp_path / "data")
    assert main(["worklist", "add", "--data-dir", data_dir, *fields()]) == 0
    action, *rest = words
    assert main(["worklist", action, "--data-dir", data_dir, *rest]) == code
    assert says in capsys.readouterr().err
    assert len(listed(data_dir, capsys)) == 1
