"""upsscu against our server: the life of a workitem as it is typed."""

from __future__ import annotations

import orjson
import pytest

from isocenter.services.cli import main
from services.cli_support import archive_server

Output = pytest.CaptureFixture[str]
DONE = (
    "UnifiedProcedureStepPerformedProcedureSequence[0].PerformedProcedureStepStartDateTime=20260504",
    "UnifiedProcedureStepPerformedProcedureSequence[0].PerformedProcedureStepEndDateTime=20260504",
    "UnifiedProcedureStepPerformedProcedureSequence[0].PerformedStationNameCodeSequence[0].CodeValue=1",
    "UnifiedProcedureStepPerformedProcedureSequence[0].PerformedWorkitemCodeSequence[0].CodeValue=1",
    "UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence=",
)


def test_a_whole_life(capsys: Output) -> None:
    with archive_server() as server:
        call = ["upsscu", server.peer]
        new = ["create", "--label", "Leber messen", "--worklist-label", "Größe"]
        assert main([*call, *new, "-k", "PatientID=P1", "--priority", "HIGH"]) == 0
        workitem = capsys.readouterr().out.strip()
        assert workitem.startswith("2.25.")
        assert main([*call, "find", "-k", "ProcedureStepState=SCHEDULED", "-o", "json"]) == 0
        (found,) = orjson.loads(capsys.readouterr().out)
        assert found["00080018"]["Value"] == [workitem]
        assert found["00741202"]["Value"] == ["Größe"]
        assert main([*call, "find", "-k", "ProcedureStepState=COMPLETED"]) == 1
        assert main([*call, "set", workitem, "-k", "PatientID=P2"]) == 1
        assert "0105H no such attribute" in capsys.readouterr().err
        assert main([*call, "claim", workitem]) == 0
        lock = capsys.readouterr().out.strip()
        assert main([*call, "claim", workitem]) == 1
        assert "C301H the correct transaction UID was not provided" in capsys.readouterr().err
        mine = ["--transaction", lock]
        assert main([*call, "set", workitem, *mine, "--progress", "50"]) == 0
        assert main([*call, "request-cancel", workitem, "-k", "ReasonForCancellation=x"]) == 1
        assert "C312H" in capsys.readouterr().err
        assert main([*call, "complete", workitem, *mine]) == 1
        assert "C304H" in capsys.readouterr().err
        keys = [word for key in DONE for word in ("-k", key)]
        assert main([*call, "set", workitem, *mine, *keys]) == 0
        assert main([*call, "complete", workitem, *mine]) == 0
        assert main([*call, "complete", workitem, *mine]) == 0
        assert "B306H" in capsys.readouterr().err
        assert main([*call, "get", workitem, "-o", "json"]) == 0
        text = capsys.readouterr().out
        assert lock not in text
        (got,) = orjson.loads(text)
        assert got["00741002"]["Value"][0]["00741004"]["Value"] == [50]
        assert got["00741000"]["Value"] == ["COMPLETED"]


def test_giving_up_and_subscribing(capsys: Output) -> None:
    with archive_server() as server:
        call = ["upsscu", server.peer]
        assert main([*call, "create", "--label", "x", "--uid", "1.2.3"]) == 0
        assert main([*call, "claim", "1.2.3", "--transaction", "1.2.4"]) == 0
        assert main([*call, "cancel", "1.2.3", "--transaction", "1.2.4"]) == 0
        capsys.readouterr()
        assert main([*call, "get", "1.2.3"]) == 0
        assert "ProcedureStepState: CANCELED" in capsys.readouterr().out
        assert main([*call, "subscribe", "--receiver", "NOBODY"]) == 1
        assert "C308H receiving AE title is unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "what? Give one of create"),
        (["create"], "Give --label"),
        (["claim"], "needs its UID"),
        (["claim", "x"], "is no UID"),
        (["complete", "1.2.3"], "needs --transaction"),
        (["set", "1.2.3"], "set what?"),
        (["set", "1.2.3", "--progress", "101"], "no number from 0 to 100"),
        (["find", "1.2.3"], "takes no '1.2.3'"),
    ],
)
def test_what_cannot_be(words: list[str], says: str, capsys: Output) -> None:
    try:
        code: object = main(["upsscu", "X@127.0.0.1:1", *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert says in capsys.readouterr().err
