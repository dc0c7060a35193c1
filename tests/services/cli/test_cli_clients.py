"""The client commands against our own server, and against servers that misbehave."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pydicom
import pytest
import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dimse.message_codec import (
    CFindResponse,
    CGetRequest,
    CGetResponse,
    CStoreRequest,
    response_to,
)
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.cli import main
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.net.tls.contexts import TlsFiles, server_context
from isocenter.services.security.certificates.authority import CertificateAuthority
from services.archive_support import CT, STUDY, data_set, uid
from services.cli_support import (
    Scripted,
    archive_server,
    scripted_server,
    write_object,
)
from support.corpus import data_set_bytes, storable_files, syntax_of
from support.ports import free_port

Output = pytest.CaptureFixture[str]
FIND, GET = sop_classes.STUDY_ROOT_FIND, sop_classes.STUDY_ROOT_GET


# -- echoscu -----------------------------------------------------------------------------


def test_echo(capsys: Output) -> None:
    with archive_server() as server:
        assert main(["echoscu", server.peer]) == 0
        assert capsys.readouterr() == ("", "")
        assert main(["echoscu", "-aec", "ISOCENTER", "127.0.0.1", str(server.port), "-v"]) == 0
        assert "1 of 1 presentation contexts accepted" in capsys.readouterr().err


def test_echo_repeated(capsys: Output) -> None:
    with archive_server() as server:
        assert main(["echo-scu", server.peer, "--repeat", "3", "--repeat-delay", "1"]) == 0
        *lines, total = capsys.readouterr().err.splitlines()
        assert len(lines) == 3
        assert total.startswith("3 sent, 3 answered with success, 0 failed; min/median/max")


def test_echo_that_is_answered_with_a_failure(capsys: Output) -> None:
    async def refuse(operation: Operation) -> None:
        await operation.respond(response_to(operation.request, 0x0122))

    with scripted_server(Scripted(refuse)) as server:
        assert main(["echoscu", server.peer]) == 1
    assert "0122H SOP class not supported" in capsys.readouterr().err


def test_nobody_listens(capsys: Output) -> None:
    assert main(["echoscu", "127.0.0.1", str(free_port())]) == 2
    assert "connection refused; is the server running" in capsys.readouterr().err
    assert main(["echoscu", "127.0.0.1", str(free_port()), "-q"]) == 2
    assert capsys.readouterr() == ("", "")


def test_a_wrong_AE_title_names_the_cure(capsys: Output) -> None:
    with archive_server() as server:
        assert main(["echoscu", f"OTHER@127.0.0.1:{server.port}"]) == 2
    error = capsys.readouterr().err
    assert "called AE title not recognized" in error
    assert "-aec" in error


def test_mutual_TLS_in_both_spellings(tmp_path: Path, capsys: Output) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca")
    own = authority.issue("ISOCENTER", hosts=("127.0.0.1",), folder=tmp_path)
    authority.issue("CT1", folder=tmp_path)
    files = TlsFiles(
        certificate=tmp_path / "ISOCENTER.crt",
        key=tmp_path / "ISOCENTER.key",
        ca=tmp_path / "ca.crt",
    )
    assert own.common_name == "ISOCENTER"
    key, certificate, ca = (str(tmp_path / name) for name in ("CT1.key", "CT1.crt", "ca.crt"))
    with archive_server(tls=server_context(files)) as server:
        echo = ["echoscu", server.peer]
        assert main([*echo, "-aet", "CT1", "+tls", key, certificate, "+cf", ca]) == 0
        ours = ["--tls", "--tls-cert", certificate, "--tls-key", key, "--tls-ca", ca]
        assert main([*echo, "-aet", "CT1", *ours]) == 0
        capsys.readouterr()
        assert main([*echo, *ours]) == 2
        assert "admit ECHOSCU at the peer" in capsys.readouterr().err
        assert (
            main([*echo, "-aet", "CT1", "--tls", "--tls-cert", certificate, "--tls-key", key]) == 2
        )
        assert "TLS handshake failed" in capsys.readouterr().err
        assert main(echo) == 2
        assert "does the peer expect TLS on this port" in capsys.readouterr().err


# -- storescu ----------------------------------------------------------------------------


def test_store_tells_apart_what_is_not_DICOM(tmp_path: Path, capsys: Output) -> None:
    folder = tmp_path / "to send" / "deep" / "er"
    folder.mkdir(parents=True)
    write_object(folder, 1)
    write_object(folder, 2)
    (tmp_path / "to send" / "notes.txt").write_text("no DICOM\n")
    report = tmp_path / "report.jsonl"
    with archive_server() as server:
        assert (
            main(["storescu", server.peer, str(tmp_path / "to send"), "--report-file", str(report)])
            == 0
        )
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "skipped" in captured.err
        assert "2 sent" in captured.err
        assert "1 not DICOM" in captured.err
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        sent = {line["sop_instance_uid"] for line in lines if line["outcome"] == "sent"}
        assert sent == {uid(1), uid(2)}
        assert {line["status"] for line in lines if line["outcome"] == "sent"} == {"0000"}
        (folder / "cut.dcm").write_bytes((folder / "1.dcm").read_bytes()[:200])
        assert main(["storescu", server.peer, str(folder)]) == 1
        captured = capsys.readouterr()
        assert "cut.dcm: damaged" in captured.err
        assert "1 cannot be read" in captured.err


def test_store_nothing(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM\n")
    with archive_server() as server:
        assert main(["storescu", server.peer]) == 2
        assert main(["storescu", server.peer, str(tmp_path / "missing")]) == 2
        assert main(["storescu", server.peer, str(tmp_path)]) == 1
    assert "no file is DICOM" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "sent"), [("--continue-on-error", 2), ("--stop-on-error", 0)])
def test_store_with_an_object_that_is_refused(
    tmp_path: Path, capsys: Output, option: str, sent: int
) -> None:
    files = [write_object(tmp_path, 1, study="")]
    files += [write_object(tmp_path, number) for number in (2, 3)]
    with archive_server() as server:
        assert main(["storescu", server.peer, option, *map(str, files)]) == 1
    error = capsys.readouterr().err
    assert f"{files[0]}: the peer answered A900H" in error
    assert f"{sent} sent" in error


def test_store_over_more_contexts_than_one_association_has(tmp_path: Path) -> None:
    classes = sorted(sop_classes.STORAGE_SOP_CLASSES)[:70]  # two contexts each
    for number, sop_class in enumerate(classes):
        write_object(tmp_path, number, sop_class=sop_class)
    with archive_server() as server:
        assert main(["storescu", server.peer, str(tmp_path), "-q"]) == 0
        assert server.server.statistics.associations == 2


def test_store_goes_on_when_an_association_is_lost(tmp_path: Path, capsys: Output) -> None:
    files = [write_object(tmp_path, number) for number in (1, 2, 3)]

    async def abort_at_the_second(operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        if request.affected_sop_instance_uid == uid(2):
            await operation.association.abort()
        else:
            await operation.respond(response_to(request, 0))

    with scripted_server(Scripted(abort_at_the_second)) as server:
        assert main(["storescu", server.peer, *map(str, files)]) == 1
    error = capsys.readouterr().err
    assert f"{files[1]}: association aborted by the peer" in error
    assert "2 sent" in error
    assert "1 failed" in error


def test_store_has_as_many_on_their_way_as_the_peer_allows(tmp_path: Path, capsys: Output) -> None:
    for number in range(1, 9):
        write_object(tmp_path, number)
    under_way: list[trio.Event] = []

    async def answer_four_together(operation: Operation) -> None:
        await operation.data_set()
        all_here = trio.Event()
        under_way.append(all_here)
        if len(under_way) == 4:
            for one in reversed(under_way):
                one.set()
            under_way.clear()
        await all_here.wait()
        await operation.respond(response_to(operation.request, 0))

    with scripted_server(Scripted(answer_four_together), operations_window=4) as server:
        assert main(["storescu", server.peer, str(tmp_path)]) == 0
        assert server.server.statistics.associations == 1
    assert "8 sent" in capsys.readouterr().err


def test_store_finds_out_which_of_several_ends_the_association(
    tmp_path: Path, capsys: Output
) -> None:
    """What was on its way with it is sent again, one by one."""
    files = [write_object(tmp_path, number) for number in range(1, 7)]
    stored = set()

    async def abort_at_the_third(operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        await operation.data_set()
        if request.affected_sop_instance_uid == uid(3):
            await operation.association.abort()
            return
        stored.add(request.affected_sop_instance_uid)
        await operation.respond(response_to(request, 0))

    with scripted_server(Scripted(abort_at_the_third), operations_window=16) as server:
        assert main(["storescu", server.peer, *map(str, files)]) == 1
    error = capsys.readouterr().err
    assert f"{files[2]}: association aborted by the peer" in error
    assert "5 sent" in error
    assert "1 failed" in error
    assert stored == {uid(number) for number in (1, 2, 4, 5, 6)}


def test_store_a_file_that_is_cut_short(tmp_path: Path, capsys: Output) -> None:
    cut = write_object(tmp_path, 1, pixels=bytes(1000))
    cut.write_bytes(cut.read_bytes()[:-500])
    good = write_object(tmp_path, 2)
    with archive_server() as server:
        assert main(["storescu", server.peer, str(cut), str(good)]) == 1
    error = capsys.readouterr().err
    assert str(cut) in error
    assert "1 sent" in error
    assert "1 failed" in error


def test_what_is_proposed_can_be_chosen(tmp_path: Path, capsys: Output) -> None:
    write_object(tmp_path, 1)
    with archive_server() as server:
        assert main(["storescu", server.peer, str(tmp_path), "-xi", "-v"]) == 0
    assert "1 of 1 presentation contexts accepted" in capsys.readouterr().err


def test_ctrl_c_while_an_object_is_on_its_way(tmp_path: Path, capsys: Output) -> None:
    write_object(tmp_path, 1)

    async def interrupt(operation: Operation) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep_forever()

    with scripted_server(Scripted(interrupt)) as server:
        assert main(["storescu", server.peer, str(tmp_path)]) == 130
    assert server.server.statistics.aborted == 1
    assert "0 sent" in capsys.readouterr().err


class _Screen(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "is_shown"),
    [((), True), (("-p",), True), (("--no-progress",), False), (("-q",), False)],
)
def test_progress_is_for_terminals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], is_shown: bool
) -> None:
    write_object(tmp_path, 1)
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with archive_server() as server:
        assert main(["storescu", server.peer, str(tmp_path), *options]) == 0
    assert ("sending" in screen.getvalue()) is is_shown


# -- findscu -----------------------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with objects of two studies."""
    folder = tmp_path / "objects"
    folder.mkdir()
    write_object(folder, 1)
    write_object(folder, 2)
    write_object(folder, 3, study="1.2.4", series="1.2.4.5", study_date="20230101")
    return folder


def test_find_in_every_format(filled: Path, tmp_path: Path, capsys: Output) -> None:
    with archive_server() as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        find = ["findscu", server.peer, "--study-date", "20240101-"]
        assert main(find) == 0
        text = capsys.readouterr().out
        assert "(0010,0010) PN PatientName: Bäcker^Anna" in text
        assert text.count("# ") == 1
        assert main([*find, "-o", "json"]) == 0
        (match,) = json.loads(capsys.readouterr().out)
        assert match["0020000D"] == {"vr": "UI", "Value": [STUDY]}
        assert main([*find, "-o", "xml"]) == 0
        text = capsys.readouterr().out
        (model,) = ET.fromstring(text.encode())
        assert model.tag.endswith("NativeDicomModel")
        assert "<FamilyName>Bäcker</FamilyName>" in text
        assert main([*find, "-o", "csv"]) == 0
        text = capsys.readouterr().out
        assert "\r" not in text
        (row,) = csv.DictReader(io.StringIO(text))
        assert row["PatientName"] == "Bäcker^Anna"
        assert row["NumberOfStudyRelatedInstances"] == "2"
        assert main([*find, "-o", "table"]) == 0
        assert "│ Bäcker^Anna │" in capsys.readouterr().out
        file = tmp_path / "answer.csv"
        assert main([*find, "-o", "csv", "--output-file", str(file), "-k", "StudyDate"]) == 0
        assert file.read_bytes() == b"StudyDate\n20240229\n"
        assert capsys.readouterr() == ("", "")


def test_find_nothing(capsys: Output) -> None:
    with archive_server() as server:
        assert main(["findscu", server.peer, "-o", "json"]) == 1
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("[]\n", "no match\n")


def test_find_that_the_peer_refuses(capsys: Output) -> None:
    with archive_server() as server:
        assert main(["findscu", server.peer, "-L", "SERIES"]) == 1
        assert "A900H" in capsys.readouterr().err
        assert main(["findscu", server.peer, "-P", "-L", "STUDY"]) == 1
        assert "Study Root (-S) does not" in capsys.readouterr().err


def test_find_extracts_files(filled: Path, tmp_path: Path, capsys: Output) -> None:
    with archive_server() as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        find = ["findscu", server.peer, "-X", "-od", str(tmp_path)]
        assert main(find) == 0
        match = pydicom.dcmread(tmp_path / "rsp00002.dcm")
        assert match.QueryRetrieveLevel == "STUDY"
        capsys.readouterr()
        assert main(find) == 2
        assert "is there already" in capsys.readouterr().err


def test_keys_of_several_query_files(filled: Path, tmp_path: Path, capsys: Output) -> None:
    for number, study in enumerate((STUDY, "1.2.4", "1.2.5")):
        (tmp_path / f"{number}.txt").write_text(f"StudyInstanceUID={study}\nPatientID\n")
    files = [str(tmp_path / f"{number}.txt") for number in range(3)]
    with archive_server() as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        assert main(["findscu", server.peer, *files, "-o", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["StudyInstanceUID"] for row in rows] == [STUDY, "1.2.4"]


class Answers:
    """Answers a C-FIND with these identifiers, and then waits for a cancel."""

    def __init__(self, *identifiers: bytes, waits: bool = False, interrupts: bool = False) -> None:
        self.identifiers = identifiers
        self.was_cancelled = False
        self._waits = waits
        self._interrupts = interrupts

    async def __call__(self, operation: Operation) -> None:
        for identifier in self.identifiers:
            await operation.respond(self._response(operation, 0xFF00), identifier)
        if self._interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        while self._waits and not operation.is_cancelled:
            await trio.lowlevel.checkpoint()
        self.was_cancelled = operation.is_cancelled
        await operation.respond(self._response(operation, 0xFE00 if self._waits else 0))

    @staticmethod
    def _response(operation: Operation, status: int) -> CFindResponse:
        return CFindResponse(
            message_id_being_responded_to=operation.request.message_id,
            status=status,
            affected_sop_class_uid=FIND,
        )


def encoded(**values: bytes) -> bytes:
    elements = [
        (0x00080052, "CS", b"STUDY"),
        (0x00100010, "PN", values.get("name", b"")),
        (0x0020000D, "UI", values.get("study", b"1.2")),
        (0x00200013, "IS", values.get("number", b"")),
    ]
    return write_data_set(elements, EXPLICIT_LITTLE)


def test_max_results_cancels_at_the_peer(capsys: Output) -> None:
    answers = Answers(*[encoded()] * 3, waits=True)
    with scripted_server(Scripted(answers, FIND)) as server:
        assert main(["findscu", server.peer, "--max-results", "2"]) == 0
    assert answers.was_cancelled
    assert capsys.readouterr().out.count("# ") == 2


def test_ctrl_c_cancels_a_query(capsys: Output) -> None:
    answers = Answers(encoded(), waits=True, interrupts=True)
    with scripted_server(Scripted(answers, FIND)) as server:
        assert main(["findscu", server.peer]) == 130
    assert answers.was_cancelled
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("output", ["text", "csv", "table", "json", "xml"])
def test_what_a_hostile_peer_answers_is_printed_harmlessly(output: str, capsys: Output) -> None:
    answers = Answers(
        encoded(name=b"\x1b]0;owned\x07\x1b[2J\r\n# 99", number=b"many", study=b"../../etc"),
        encoded(name=b"[red]x[/red]" + b"y" * 60_000, number=b"1e999"),
        b"\x08\x00\x05",
    )
    with scripted_server(Scripted(answers, FIND)) as server:
        assert main(["findscu", server.peer, "-o", output]) == 0
    captured = capsys.readouterr()
    assert not set(captured.out) & {"\x1b", "\x07", "\x00"}
    assert "match 3 cannot be read" in captured.err
    if output in ("text", "table"):
        assert "y" * 1000 not in captured.out
        assert "[red]x[/red]" in captured.out.replace("│\n│", "")


def test_whoever_reads_our_output_may_leave() -> None:
    with scripted_server(Scripted(Answers(*[encoded()] * 3), FIND)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "isocenter.services.cli", "findscu", server.peer],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        process.stdout.close()
        with process:
            assert process.stderr is not None
            assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


# -- getscu ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # some of the files are odd
def test_get_brings_back_identical_data_sets(tmp_path: Path, capsys: Output) -> None:
    files = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in storable_files()}
    with archive_server() as server:
        report = tmp_path / "report"
        main(["storescu", server.peer, *map(str, files.values()), "--report-file", str(report)])
        sent = {
            line["sop_instance_uid"]
            for line in map(json.loads, report.read_text().splitlines())
            if line["outcome"] == "sent"
        }
        assert len(sent) > 40
        capsys.readouterr()
        assert main(["findscu", server.peer, "-k", "StudyInstanceUID", "-o", "json"]) == 0
        studies = [match["0020000D"]["Value"][0] for match in json.loads(capsys.readouterr().out)]
        for study in studies:
            get = ["getscu", server.peer, "--study-uid", study, "-od", str(tmp_path), "-q"]
            assert main(get) == 0
    came = {path.stem: path for path in tmp_path.rglob("*.dcm")}
    assert set(came) == sent
    syntaxes = set()
    for instance, path in came.items():
        original = data_set_bytes(files[instance])
        # A deflated data set of odd length gets a NUL on its way (PS3.5 A.5).
        assert data_set_bytes(path) == original + b"\0" * (len(original) % 2)
        syntaxes.add(syntax_of(path))
    assert len(syntaxes) > 8
    assert not list(tmp_path.rglob("*.part"))


def test_get_keeps_files_that_are_there(filled: Path, tmp_path: Path, capsys: Output) -> None:
    target = tmp_path / "out" / f"{uid(1)}.dcm"
    with archive_server() as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        get = ["getscu", server.peer, "--study-uid", STUDY, "-od", str(tmp_path / "out")]
        get += ["--structure", "flat"]
        assert main(get) == 0
        target.write_bytes(b"mine")
        capsys.readouterr()
        assert main(get) == 0
        assert "0 files written, 2 were there already" in capsys.readouterr().err
        assert target.read_bytes() == b"mine"
        assert main([*get, "--overwrite"]) == 0
        assert target.read_bytes() != b"mine"


def test_get_names_files_by_a_pattern(filled: Path, tmp_path: Path) -> None:
    with archive_server() as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        get = ["getscu", server.peer, "--patient-id", "P1", "-od", str(tmp_path / "out"), "-q"]
        assert main([*get, "--output-format", "{study}/CT.{instance}"]) == 0
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*")}
    assert names == {f"{STUDY}/CT.{uid(1)}", f"{STUDY}/CT.{uid(2)}", f"1.2.4/CT.{uid(3)}"}


def test_get_what_is_not_there(capsys: Output, tmp_path: Path) -> None:
    with archive_server() as server:
        get = ["getscu", server.peer, "-od", str(tmp_path)]
        assert main([*get, "--study-uid", "1.2.99"]) == 1
        assert "nothing matched" in capsys.readouterr().err
        assert main(get) == 2
        assert "what shall be retrieved" in capsys.readouterr().err
        (tmp_path / "file").write_text("")
        assert main([*get, "-od", str(tmp_path / "file"), "--study-uid", "1.2"]) == 2


def test_get_over_contexts_that_do_not_fit(filled: Path, tmp_path: Path, capsys: Output) -> None:
    with archive_server() as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        get = ["getscu", server.peer, "--study-uid", STUDY, "-od", str(tmp_path / "out")]
        assert main([*get, "--sop-class", "MRImageStorage"]) == 1
        error = capsys.readouterr().err
        assert "2 failed" in error
        assert "--sop-class" in error
        assert f"failed: {uid(1)}" in error
        # Without asking the peer, the usual classes do.
        assert main([*get, "--no-query"]) == 0


class Sends:
    """Answers a C-GET by sending one object under a name of the test's choice."""

    def __init__(self, instance: str, data: bytes, *, interrupts: bool = False) -> None:
        self.status: int | None = None
        self.was_cancelled = False
        self._instance = instance
        self._data = data
        self._interrupts = interrupts

    async def __call__(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CGetRequest)
        task = operation.association
        context = next(
            context
            for context in task.negotiated.contexts.values()
            if context.abstract_syntax == CT
            and context.transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN
        )
        store = CStoreRequest(
            message_id=task.next_message_id(),
            affected_sop_class_uid=CT,
            affected_sop_instance_uid=self._instance,
            priority=0,
        )
        received = await task.invoke(context.context_id, store, self._data)
        self.status = received.message.status
        if self._interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            while not operation.is_cancelled:
                await trio.lowlevel.checkpoint()
            self.was_cancelled = True
        failed = 0 if self.status == 0 else 1
        status = 0xFE00 if self._interrupts else 0xA702 if failed else 0
        await operation.respond(
            CGetResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=GET,
                number_of_completed_suboperations=1 - failed,
                number_of_failed_suboperations=failed,
                number_of_warning_suboperations=0,
            )
        )


async def _nothing(operation: Operation) -> None:
    raise AssertionError("nobody asks for this")


@pytest.mark.parametrize(
    ("instance", "status"),
    [("../../evil", 0x0117), ("/etc/evil", 0x0117), ("1.2.3.4.99", 0xA900), (uid(1), 0)],
)
def test_names_of_files_are_validated_UIDs(
    tmp_path: Path, capsys: Output, instance: str, status: int
) -> None:
    sends = Sends(instance, data_set(1, study="../../evil"))
    folder = tmp_path / "a" / "b"
    with scripted_server(Scripted(sends, GET), Scripted(_nothing, CT)) as server:
        get = ["getscu", server.peer, "--study-uid", STUDY, "--no-query", "-od", str(folder)]
        assert main(get) == (0 if status == 0 else 1)
    assert sends.status == status
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    # A Study Instance UID that is none gives no folder of that name.
    expected = [folder / "unknown" / "1.2.3.4" / f"{uid(1)}.dcm"] if status == 0 else []
    assert files == expected


def test_ctrl_c_cancels_a_retrieval(tmp_path: Path, capsys: Output) -> None:
    sends = Sends(uid(1), data_set(1), interrupts=True)
    with scripted_server(Scripted(sends, GET), Scripted(_nothing, CT)) as server:
        get = ["getscu", server.peer, "--study-uid", STUDY, "--no-query", "-od", str(tmp_path)]
        assert main(get) == 130
    assert sends.was_cancelled
    assert "cancelled; 1 files written" in capsys.readouterr().err


def test_a_full_disk_is_answered_and_told(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isocenter.services.service_classes.storage import staged_file

    def full(file: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staged_file, "write_all", full)
    sends = Sends(uid(1), data_set(1))
    with scripted_server(Scripted(sends, GET), Scripted(_nothing, CT)) as server:
        get = ["getscu", server.peer, "--study-uid", STUDY, "--no-query", "-od", str(tmp_path)]
        assert main(get) == 1
    assert sends.status == 0xA700
    assert f"{uid(1)}: No space left on device" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# -- movescu -----------------------------------------------------------------------------


def test_move_to_a_destination_that_is_unknown(capsys: Output) -> None:
    with archive_server() as server:
        move = ["movescu", server.peer, "--study-uid", STUDY]
        assert main(move) == 2
        assert "-aem" in capsys.readouterr().err
        assert main([*move, "-aem", "NOBODY"]) == 1
        error = capsys.readouterr().err
        assert "A801H" in error
        assert "serve --peer" in error


def test_move_to_ourselves(filled: Path, tmp_path: Path, capsys: Output) -> None:
    port = free_port()
    with archive_server(f"ME@127.0.0.1:{port}") as server:
        assert main(["storescu", server.peer, str(filled), "-q"]) == 0
        move = ["movescu", server.peer, "-aet", "ME", "+P", str(port), "--study-uid", STUDY]
        move += ["-od", str(tmp_path / "out"), "--receive-host", "127.0.0.1"]
        assert main(move) == 0
        assert "2 completed; 2 files written" in capsys.readouterr().err
        for number in (1, 2):
            path = tmp_path / "out" / STUDY / "1.2.3.4" / f"{uid(number)}.dcm"
            assert path.read_bytes().endswith(data_set(number))
        # Nobody listens there now.
        assert main(["movescu", server.peer, "-aem", "ME", "--study-uid", STUDY]) == 1
        assert "2 failed" in capsys.readouterr().err


def test_move_to_a_port_that_is_in_use(capsys: Output) -> None:
    with archive_server() as server:
        move = ["movescu", server.peer, "--port", str(server.port), "--study-uid", STUDY]
        assert main([*move, "--receive-host", "127.0.0.1"]) == 2
    assert "the port is in use" in capsys.readouterr().err
