"""mppsscu against our server, and the archive's own list of steps."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from isocenter.services.cli import main
from services.archive_support import SERIES, uid
from services.cli_support import archive_server, write_object
from services.service_classes.mpps.samples import worklist_entry
from services.service_classes.worklist.samples import order
from support.ports import free_port

Output = pytest.CaptureFixture[str]


def test_the_day_of_a_modality(tmp_path: Path, capsys: Output) -> None:
    data_dir = str(tmp_path / "data")
    images = tmp_path / "images"
    images.mkdir()
    for number in (1, 2):
        write_object(images, number)
    (images / "notes.txt").write_text("no DICOM")
    entry = tmp_path / "entry.json"
    entry.write_bytes(orjson.dumps([worklist_entry().to_json_dict()]))
    with archive_server(data_dir=data_dir) as server:
        call = ["mppsscu", server.peer]
        create = [*call, "create", "--worklist", str(entry), "-aet", "CT1"]
        assert main([*create, "--at", "20260102101500", "-k", "StudyID=S7"]) == 0
        step = capsys.readouterr().out.strip()
        assert step.startswith("2.25.")
        assert main([*call, "get", step, "-o", "json"]) == 0
        (got,) = orjson.loads(capsys.readouterr().out)
        assert got["00400252"]["Value"] == ["IN PROGRESS"]
        assert got["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
        assert got["00400241"]["Value"] == ["CT1"]
        assert got["00400244"]["Value"] == ["20260102"]
        assert got["00200010"]["Value"] == ["S7"]
        item = got["00400270"]["Value"][0]
        assert item["00400009"]["Value"] == ["SPS1"]
        assert item["00080050"]["Value"] == ["A1"]

        text = "PerformedProcedureStepDescription=Schädel"
        assert main([*call, "update", step, "-k", text]) == 0
        assert main(["storescu", server.peer, str(images / "1.dcm"), "-q"]) == 0
        assert main([*call, "complete", step, str(images), "--protocol", "HEAD"]) == 0
        assert "notes.txt: no DICOM object" in capsys.readouterr().err
        assert main([*call, "complete", step, str(images)]) == 1
        assert "may no longer be updated" in capsys.readouterr().err

        assert main(["mpps", "list", "--data-dir", data_dir, "--format", "json"]) == 0
        (row,) = orjson.loads(capsys.readouterr().out)
        assert (row["state"], row["series"], row["instances"], row["arrived"]) == (
            "COMPLETED", 1, 2, 1,
        )  # fmt: skip
        assert row["performed_step_id"] == "PPS260102101500"
        listed = ["mpps", "list", "--data-dir", data_dir]
        assert main([*listed, "--study", row["study_instance_uids"][0]]) == 0
        assert step in capsys.readouterr().out
        assert main([*listed, "--state", "in-progress"]) == 0
        assert main([*listed, "--study", "9.9"]) == 0
        assert capsys.readouterr().out == ""
        assert main(["mpps", "show", step, "--data-dir", data_dir]) == 0
        shown = capsys.readouterr().out
        assert "PerformedProcedureStepDescription: Schädel" in shown
        assert uid(2) in shown
        assert SERIES in shown
        assert main(["mpps", "show", "1.2.3", "--data-dir", data_dir]) == 1
        assert main(["mpps", "show", "x", "--data-dir", data_dir]) == 2


def test_a_step_that_was_given_up(capsys: Output) -> None:
    with archive_server() as server:
        call = ["mppsscu", server.peer]
        assert main([*call, "create", "--modality", "MR", "--uid", "1.2.3"]) == 0
        assert capsys.readouterr().out == "1.2.3\n"
        reason = "110513^DCM^Discontinued for unspecified reason"
        assert main([*call, "discontinue", "1.2.3", "--reason", reason, "--series", "1.2.9"]) == 0
        assert main([*call, "get", "1.2.3"]) == 0
        shown = capsys.readouterr().out
        assert "PerformedProcedureStepStatus: DISCONTINUED" in shown
        assert "CodeValue: 110513" in shown
        assert "SeriesInstanceUID: 1.2.9" in shown


def test_what_the_peer_does_not_like_is_said(tmp_path: Path, capsys: Output) -> None:
    model = tmp_path / "step.json"
    model.write_text('{"00400252": {"vr": "CS", "Value": ["COMPLETED"]}}')
    with archive_server() as server:
        call = ["mppsscu", server.peer, "create", "--modality", "CT", "--json", str(model)]
        assert main(call) == 1
        said = capsys.readouterr().err
        assert "0106H invalid attribute value" in said
        assert "(0040,0252)" in said
        assert main(["mppsscu", server.peer, "get", "1.2.3"]) == 1
        assert "0112H" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give one of create"),
        (["begin"], "Give one of create"),
        (["create"], "Give --modality"),
        (["create", "1.2"], "with --uid"),
        (["complete"], "needs its UID"),
        (["complete", "x"], "needs its UID"),
        (["complete", "1.2", "missing.dcm"], "no such file"),
        (["update", "1.2"], "update what"),
        (["update", "1.2", "-k", "Nonsense=1"], "no keyword"),
        (["get", "1.2", "x.dcm"], "takes no files"),
        (["complete", "1.2", "--reason", "1^2^3"], "is for discontinue"),
        (["discontinue", "1.2", "--reason", "1^2"], "CODE^SCHEME^MEANING"),
        (["create", "--at", "yesterday"], "no time"),
        (["create", "--worklist", "missing"], "missing: No such file"),
    ],
)
def test_without_sense(arguments: list[str], said: str, capsys: Output) -> None:
    try:
        code = main(["mppsscu", "RIS@127.0.0.1:1", *arguments])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_worklist_file_that_is_none(tmp_path: Path, capsys: Output) -> None:
    for content in (b"hello", b"{", b"[]", b""):
        path = tmp_path / "entry"
        path.write_bytes(content)
        call = ["mppsscu", f"RIS@127.0.0.1:{free_port()}", "create", "--worklist", str(path)]
        assert main(call) == 2
        assert "neither DICOM nor DICOM JSON" in capsys.readouterr().err


def test_a_faulty_entry_of_a_worklist_file_is_named(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "entry.json"
    path.write_bytes(orjson.dumps([order(1), order(2, modality="")]))
    call = ["mppsscu", f"RIS@127.0.0.1:{free_port()}", "create", "--worklist", str(path)]
    assert main(call) == 2
    assert "entry 2: (0040,0100)>(0008,0060) is missing" in capsys.readouterr().err
