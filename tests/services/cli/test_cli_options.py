"""How the client commands are called: DCMTK's spelling, ours, and what is refused."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import pytest

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.peer import Peer
from isocenter.services.cli import main
from isocenter.services.cli.commands import COMMANDS
from isocenter.services.cli.scu.getscu import advice_of
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.network_options import deadlines_of, peer_of
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import Request, read_query_file, requests_of
from isocenter.services.cli.support.tls_options import tls_of
from isocenter.services.cli.support.transfer_syntaxes import transfer_syntaxes_of
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.service_classes.storage.retrieve_contexts import retrieve_contexts
from services.archive_support import CT
from services.cli_support import write_object

MR = "1.2.840.10008.5.1.4.1.1.4"
CLIENTS = ("echoscu", "storescu", "findscu", "movescu", "getscu")


def parsed(command: str, *arguments: str) -> argparse.Namespace:
    module = import_module(f"isocenter.services.cli.scu.{command}")
    parser = CommandParser(prog=command, prefix_chars="-+", allow_abbrev=False)
    module.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"isocenter {name}" in capsys.readouterr().out.partition("examples:")[2]


@pytest.mark.parametrize(
    ("arguments", "peer"),
    [
        (("archive", "104"), Peer("ANY-SCP", "archive", 104)),
        (("ARCHIVE@archive:104",), Peer("ARCHIVE", "archive", 104)),
        (("ARCHIVE:archive:104",), Peer("ARCHIVE", "archive", 104)),
        (("A@[::1]:104",), Peer("A", "::1", 104)),
        (("::1", "104"), Peer("ANY-SCP", "::1", 104)),
        (("-aec", "B", "archive", "104"), Peer("B", "archive", 104)),
        (("archive", "104", "-aec", "B"), Peer("B", "archive", 104)),
        (("archive", "-aec", "B", "104"), Peer("B", "archive", 104)),
        (("A@archive:104", "--call", "B"), Peer("B", "archive", 104)),
    ],
)
def test_a_peer_in_every_spelling(arguments: tuple[str, ...], peer: Peer) -> None:
    assert peer_of(parsed("echoscu", *arguments)) == (peer, [])


@pytest.mark.parametrize(
    "command",
    [
        "echoscu", "storescu", "findscu", "movescu", "getscu", "commit_scu", "mpps_scu",
        "print_scu", "query_scu", "retrieve_scu", "ups_scu", "worklist_scu",
    ],
)  # fmt: skip
def test_every_client_has_the_options_of_the_network(command: str) -> None:
    module = import_module(f"isocenter.services.cli.scu.{command}")
    made = CommandParser(prog=command, prefix_chars="-+", allow_abbrev=False)
    module.add_arguments(made)
    known = {flag for action in made._actions for flag in action.option_strings}
    assert known >= {
        "-aet", "--aetitle", "-aec", "--call", "-to", "--timeout", "-ta", "--acse-timeout", "-td",
        "--dimse-timeout", "-v", "-d", "--debug", "-q",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [("archive",), ("archive", "0"), ("archive", "65536"), ("archive", "x"), ("A@archive:",)],
)
def test_no_peer(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["echoscu", *arguments]) == 2
    assert "HOST PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("-aet", "12345678901234567", "h", "1"),
        ("-aec", "A\\B", "h", "1"),
        ("-to", "-1", "h", "1"),
        ("-ta", "x", "h", "1"),
        ("-pdu", "100", "h", "1"),
        ("--repeat", "0", "h", "1"),
        ("--no-such-option", "h", "1"),
        (),
    ],
)
def test_arguments_that_cannot_be(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["echoscu", *arguments])
    assert ended.value.code == 2
    assert "usage: isocenter echoscu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "echoscu -v -aet ME -aec YOU -to 5 -ta 5 -td 5 -ts 5 -pdu 16384 --repeat 2 host 104",
        "echoscu -d +tls key.pem cert.pem +cf ca.pem +px -ic host 2762",
        "echo host 104".replace("echo ", "echoscu -q "),
        "storescu -v +sd +r --scan-pattern *.dcm -R -xs -nh host 104 folder file",
        "storescu host 104 -aec YOU file -xi file",
        "findscu -S -k 0008,0052=STUDY -k (0010,0010)=DOE* -k PatientID -X -od . host 104 q.dcm",
        "findscu -P --cancel 3 -L PATIENT host 104",
        "movescu -S -aem ME +P 11113 -od . -k StudyInstanceUID=1.2 host 104",
        "getscu -P -od . +xs -xi +B -k 0020,000d=1.2 host 104",
    ],
)
def test_command_lines_of_DCMTK(line: str) -> None:
    command, *arguments = line.split(" ")
    peer, _ = peer_of(parsed(command, *arguments))
    assert (peer.host, peer.port in (104, 2762)) == ("host", True)


def test_what_follows_the_peer_may_stand_among_options() -> None:
    assert peer_of(parsed("storescu", "h", "1", "a", "-v", "b"))[1] == ["a", "b"]


def test_zero_seconds_are_no_limit() -> None:
    deadlines = deadlines_of(parsed("echoscu", "h", "1", "-to", "0", "-ta", "7", "-ts", "8"))
    assert deadlines.connect == float("inf")
    assert deadlines.response == float("inf")
    assert (deadlines.association_response, deadlines.release) == (7, 7)
    assert (deadlines.idle, deadlines.write_blocked) == (8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tls-ca", "ca.crt"), "add --tls"),
        (("--tls", "-tls"), "contradicts"),
        (("+tla", "--tls-cert", "c", "--tls-key", "k"), r"\+tla"),
    ],
)
def test_tls_options_that_contradict(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tls_of(parsed("echoscu", "h", "1", *options))


def test_a_key_file_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "CT1.key")
    assert main(["echoscu", "+tls", missing, missing, "h", "1"]) == 2
    assert f"{missing}: no such file" in capsys.readouterr().err


# -- Queries -----------------------------------------------------------------------------


def request(*arguments: str, retrieve: bool = False) -> Request:
    (one,) = requests_of(parsed("findscu", "h", "1", *arguments), [], retrieve=retrieve)
    return one


@pytest.mark.parametrize(
    ("arguments", "level", "model"),
    [
        ((), Level.STUDY, "study"),
        (("-k", "0008,0052=SERIES"), Level.SERIES, "study"),
        (("-k", "QueryRetrieveLevel=IMAGE", "-L", "series"), Level.SERIES, "study"),
        (("-L", "PATIENT"), Level.PATIENT, "patient"),
        (("--patient-id", "P1"), Level.STUDY, "patient"),
        (("--patient-id", "P*"), Level.STUDY, "study"),
        (("--patient-id", "P1", "-S"), Level.STUDY, "study"),
        (("-P",), Level.STUDY, "patient"),
        (("-O",), Level.STUDY, "psonly"),
        (("--series-uid", "1.2"), Level.SERIES, "study"),
    ],
)
def test_level_and_model(arguments: tuple[str, ...], level: Level, model: str) -> None:
    one = request(*arguments)
    assert (one.level, one.model) == (level, model)


def test_what_a_retrieval_retrieves_follows_from_its_keys() -> None:
    assert request("--patient-id", "P1", retrieve=True).level is Level.PATIENT
    assert request("--study-uid", "1.2", retrieve=True).level is Level.STUDY
    with pytest.raises(UsageError, match="what shall be retrieved"):
        request("--modality", "CT", retrieve=True)


def test_keys_in_every_spelling() -> None:
    one = request(
        "-k",
        "(0010,0010)=DOE*",
        "-k",
        "0008,0050",
        "-k",
        "RequestAttributesSequence[0].0040,1001=RP1",
        "--modality",
        "CT",
    )
    identifier = read_identifier(one.encode(EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN)
    assert identifier.QueryRetrieveLevel == "STUDY"
    assert identifier.PatientName == "DOE*"
    assert identifier.AccessionNumber == ""
    assert identifier.Modality == "CT"
    assert identifier.RequestAttributesSequence[0].RequestedProcedureID == "RP1"


@pytest.mark.parametrize(
    "key", ["NoSuchKeyword=1", "0010=1", "PatientName[0]=x", "0008,0052=ROOM", "Rows=many"]
)
def test_keys_that_are_none(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["findscu", "h", "1", "-k", key]) == 2
    error = capsys.readouterr().err
    assert error.startswith("isocenter findscu: ")
    assert error.count("\n") == 1
    assert "many" not in error


def test_keys_from_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "query.txt"
    path.write_text("# who\nPatientName=DOE*\n\n0008,0052=SERIES\nStudyInstanceUID=1.2\n")
    one = request("-f", str(path), "-k", "PatientName=ROE*")
    assert one.level is Level.SERIES
    assert one.top_level[0x00100010] == "ROE*"
    path.write_text("PatientName=DOE*\nPatientMood=good\n")
    with pytest.raises(UsageError, match=r"line 2: 'PatientMood' is no keyword"):
        read_query_file(path)


def test_keys_from_a_DICOM_file(tmp_path: Path) -> None:
    keys = dict(read_query_file(write_object(tmp_path, pixels=b"")))
    assert keys["(0010,0010)"] == "Bäcker^Anna"
    assert keys["(0020,000d)"] == "1.2.3"
    one = request("-f", str(tmp_path / "1.dcm"), "-L", "STUDY")
    identifier = read_identifier(one.encode(IMPLICIT_VR_LITTLE_ENDIAN), IMPLICIT_VR_LITTLE_ENDIAN)
    assert identifier.PatientName == "Bäcker^Anna"


def test_a_query_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "query"
    path.write_bytes(b"\xff\xfe\x00\x80" * 99)
    with pytest.raises(UsageError, match="neither DICOM nor text"):
        read_query_file(path)
    with pytest.raises(UsageError, match="No such file"):
        read_query_file(tmp_path / "missing")


# -- Presentation contexts ---------------------------------------------------------------


def test_transfer_syntaxes_in_letters() -> None:
    groups = transfer_syntaxes_of(parsed("getscu", "h", "1", "-xs", "-xi"))
    assert groups[0] == ("1.2.840.10008.1.2.4.70",)
    assert groups[-1] == (IMPLICIT_VR_LITTLE_ENDIAN,)
    by_keyword = parsed("getscu", "h", "1", "--transfer-syntax", "JPEG2000Lossless")
    assert transfer_syntaxes_of(by_keyword)[0] == ("1.2.840.10008.1.2.4.90",)
    assert transfer_syntaxes_of(parsed("getscu", "h", "1")) == ()


@pytest.mark.parametrize("classes", [(), (CT,), (CT, MR), tuple(f"1.2.{n}" for n in range(200))])
@pytest.mark.parametrize("options", [(), ("+xa",), ("-xs",)])
def test_contexts_of_getscu_fit_beside_its_own(
    classes: tuple[str, ...], options: tuple[str, ...]
) -> None:
    groups = transfer_syntaxes_of(parsed("getscu", "h", "1", *options))
    contexts = retrieve_contexts(classes, groups)
    assert 0 < len(contexts) <= 127
    assert len(set(contexts)) == len(contexts)


def test_few_classes_get_every_syntax_apart() -> None:
    contexts = retrieve_contexts([CT], ())
    assert all(len(syntaxes) == 1 for _, syntaxes in contexts)
    assert (CT, (IMPLICIT_VR_LITTLE_ENDIAN,)) in contexts
    assert (CT, ("1.2.840.10008.1.2.4.80",)) in contexts


def test_what_getscu_advises_fits_what_it_has_proposed() -> None:
    assert "gone or damaged" in advice_of([CT], retrieve_contexts([CT], ()))
    few = retrieve_contexts([CT], ((IMPLICIT_VR_LITTLE_ENDIAN,),))
    many = tuple(f"1.2.{n}" for n in range(200))
    for classes, contexts in (
        ((), retrieve_contexts((), ())),
        ([CT], few),
        (many, retrieve_contexts(many, ())),
    ):
        assert "--sop-class" in advice_of(classes, contexts)


@pytest.mark.parametrize(
    "pattern",
    ["../{instance}", "/{instance}", "{instance}/x", "{name}/{instance}", "a\n{instance}"],
)
def test_name_patterns_that_are_refused(pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["getscu", "h", "1", "--output-format", pattern])
    assert ended.value.code == 2


def test_ctrl_c_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isocenter.services.cli.import_module", interrupted)
    assert main(["echoscu"]) == 130
