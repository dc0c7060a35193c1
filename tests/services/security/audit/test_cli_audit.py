"""`isocenter audit`, and what serve and import leave for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from isocenter.services.cli import main
from isocenter.services.composition.audit import open_trail, record_now, stop_when_failed
from isocenter.services.security.audit.messages import AuditSource
from isocenter.services.security.audit.participants import ActiveProcess, Patient
from isocenter.services.security.audit.recorder import AuditRecorder
from isocenter.services.security.audit.trail import HEAD_FILE
from isocenter.services.security.audit.trail_verification import verify
from isocenter.services.security.audit.trail_writer import trail_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from services.security.audit.trails import (
    KEY,
    audited_object,
    filled,
    messages,
    numbers,
    of_event,
    parsed,
    participant,
    records,
)
from support.processes import (
    ISOCENTER,
    isocenter_command,
    program,
    served_archive,
    wait_for_line,
)
from support.studies import ROOT, write_studies


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the trail of an import of two studies."""
    write_studies(tmp_path / "in", studies=2, series=1, instances=2)
    assert main(["import", "-q", "--data-dir", str(tmp_path / "data"), str(tmp_path / "in")]) == 0
    return tmp_path / "data"


def test_an_import_is_a_message_for_each_study(data: Path) -> None:
    folder = data / "audit"
    found = of_event(messages(folder), "110107")
    assert len(found) == 2
    for number, message in enumerate(sorted(found, key=study_of), 1):
        assert message.find("EventIdentification").get("EventActionCode") == "C"
        media = participant(message, "110155")
        assert media.get("UserID") == (data.parent / "in").as_uri()
        assert media.find("MediaIdentifier/MediaType").get("csd-code") == "110037"
        requestors = [each.get("UserIsRequestor") for each in message.findall("ActiveParticipant")]
        assert requestors == ["true", "false", "false"]
        assert study_of(message) == f"{ROOT}.{number}"
        assert audited_object(message, "2").get("ParticipantObjectID") == "P1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def study_of(message: object) -> str:
    return str(audited_object(message, "110180").get("ParticipantObjectID"))


def test_an_import_of_what_is_there_leaves_nothing(data: Path) -> None:
    assert main(["import", "-q", "--data-dir", str(data), str(data.parent / "in")]) == 0
    assert numbers(data / "audit") == [1, 2]


def test_verify_is_content_and_gives_a_checkpoint(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["audit", "verify", "--data-dir", str(data)]) == 0
    said = capsys.readouterr()
    assert "2 records (1 to 2) in 1 file: unbroken" in said.out
    assert "without a key" in said.err
    found = re.search(r"^checkpoint (2:[0-9a-f]{64})$", said.out, re.MULTILINE)
    assert found is not None
    assert main(["audit", "verify", "--data-dir", str(data), "--checkpoint", found[1]]) == 0
    other = found[1][:-1] + ("0" if found[1][-1] != "0" else "1")
    assert main(["audit", "verify", "--data-dir", str(data), "--checkpoint", other]) == 1
    # Reading it by program is no use of the log.
    assert numbers(data / "audit") == [1, 2]


def test_trails_of_several_nodes_are_verified_together(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second, third = tmp_path / "second", tmp_path / "third"
    filled(second, 3)
    filled(third, 4)
    command = ["audit", "verify", "--data-dir", str(data), "--others", str(second), str(third)]
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.count("unbroken") == said.count("checkpoint") == 3
    (path,) = second.glob("audit-*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    assert main(command) == 1
    said = capsys.readouterr().out
    assert (said.count("unbroken"), said.count("BROKEN")) == (2, 1)
    assert main([*command, "--json"]) == 1
    verdicts = [json.loads(line)["good"] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == [True, False, True]
    assert main([*command, str(tmp_path / "nothing")]) == 2


def test_verify_names_the_first_record_that_was_changed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (data / "audit").glob("audit-*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"P1", b"P2"))
    capsys.readouterr()
    assert main(["audit", "verify", "--data-dir", str(data)]) == 1
    said = capsys.readouterr()
    assert f"BROKEN, first at record 1 ({path.name}:1)" in said.out
    assert f"{path.name}:2: record 2: the digest is not that of its content" in said.err
    assert main(["audit", "verify", "--data-dir", str(data), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["good"] is False
    assert [fault["record"] for fault in result["faults"]] == [1, 2]


def test_verify_wants_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, key = tmp_path / "copy", tmp_path / "key"
    filled(folder, 3, key=KEY)
    key.write_bytes(KEY)
    key.chmod(0o600)
    options = ["audit", "verify", "--data-dir", str(tmp_path), "--trail", str(folder)]
    assert main(options) == 1
    assert "kept with a key; give it with --key-file" in capsys.readouterr().err
    assert main([*options, "--key-file", str(key)]) == 0


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_show_prints_a_line_each_without_patients(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = lines(capsys, "audit", "show", "--data-dir", data)
    assert len(shown) == 3
    assert " ok      Import | " in shown[0]
    assert f"{ROOT}.1 (2 instances)" in "".join(shown)
    assert "Audit Log Used" in shown[2]
    assert not any("P1" in line or "Jörg" in line for line in shown)
    with_phi = lines(capsys, "audit", "show", "--data-dir", data, "--show-phi", "--json")
    assert "P1" in json.loads(with_phi[0])["message"]
    without = lines(capsys, "audit", "show", "--data-dir", data, "--json")
    assert "P1" not in "".join(without)
    assert json.loads(without[0])["objects"] == [
        f"{study_of(messages(data / 'audit')[0])} (2 instances)"
    ]


def test_reading_is_recorded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(capsys, "audit", "show", "--data-dir", data)
    lines(capsys, "audit", "tail", "--data-dir", data)
    lines(capsys, "audit", "export", "--data-dir", data)
    used = of_event(messages(data / "audit"), "110101")
    assert len(used) == 3
    for message in used:
        assert message.find("EventIdentification").get("EventActionCode") == "R"
        log = audited_object(message, "12")
        assert log.get("ParticipantObjectID") == (data / "audit").as_uri()
        assert log.get("ParticipantObjectTypeCodeRole") == "13"
        assert log.findtext("ParticipantObjectName") == "Security Audit Log"
        assert str(os.getpid()) in [
            each.get("UserID") for each in message.findall("ActiveParticipant")
        ]
    assert verify(data / "audit").is_good


def test_a_copy_is_read_and_left_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = data.parent / "copy"
    copy.mkdir()
    for path in (data / "audit").glob("[!.]*"):
        shutil.copy(path, copy)
    before = sorted(os.listdir(copy))
    assert len(lines(capsys, "audit", "show", "--trail", copy)) == 2
    lines(capsys, "audit", "verify", "--trail", copy)
    assert sorted(os.listdir(copy)) == before
    assert numbers(data / "audit") == [1, 2]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--event", "import"], 2),
        (["--event", "110107"], 2),
        (["--event", "query"], 0),
        (["--ae", "ISOCENTER"], 2),
        (["--ae", "OTHER"], 0),
        (["--since", "2020-01-01"], 2),
        (["--until", "2020-01-01T00:00Z"], 0),
    ],
)
def test_filters(
    data: Path, capsys: pytest.CaptureFixture[str], options: list[str], count: int
) -> None:
    assert len(lines(capsys, "audit", "show", "--trail", data / "audit", *options)) == count


def test_tail_shows_the_last(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys, "audit", "tail", "-n", "1", "--data-dir", data)
    assert [line.split()[0] for line in shown] == ["3"]


def test_tail_follows(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "tail.log"
    with program(*ISOCENTER, "audit", "tail", "-f", "--data-dir", data, log=log) as process:
        wait_for_line(process, "Audit Log Used", log)
        assert isocenter_command("audit", "show", "--data-dir", data).returncode == 0
        wait_for_line(process, "^       4 .*Audit Log Used", log)
        process.send_signal(2)
        assert process.wait(120) == 130


def test_export_gives_whole_messages(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = data.parent / "out.xml"
    options = ["audit", "export", "--event", "import", "--data-dir", data]
    assert lines(capsys, *options, "--format", "xml", "-o", made) == []
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    exported = made.read_text("ascii").splitlines()
    assert [study_of(parsed(line)) for line in exported] == [
        study_of(message) for message in of_event(messages(data / "audit"), "110107")
    ]
    first = json.loads(lines(capsys, *options)[0])
    assert (first["sequence"], first["message"]) == (1, exported[0])
    assert main([str(word) for word in [*options, "-o", made]]) == 2
    assert "is there already" in capsys.readouterr().err


def test_arguments_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "--data-dir", str(tmp_path)]) == 2
    assert "no audit trail is in" in capsys.readouterr().err
    for words in (["show", "--since", "noon"], ["verify", "--checkpoint", "7"]):
        with pytest.raises(SystemExit) as error:
            main(["audit", *words])
        assert error.value.code == 2


# -- A server ----------------------------------------------------------------------------


def test_workers_share_one_trail(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=6, series=1, instances=1)
    with served_archive(tmp_path / "server", "--workers", "2") as server:
        peer = f"ISOCENTER@127.0.0.1:{server.port}"
        for path in files:
            assert isocenter_command("storescu", peer, path).returncode == 0
        assert (
            isocenter_command(
                "findscu", peer, "-S", "-L", "STUDY", "-k", "StudyInstanceUID"
            ).returncode
            == 0
        )
    folder = server.data_dir / "audit"
    verdict = verify(folder)
    assert verdict.is_good, verdict.faults
    found = messages(folder)
    assert len(of_event(found, "110100", "110120")) == 2
    assert len(of_event(found, "110100", "110121")) == 2
    assert len(of_event(found, "110104")) == 6
    assert len(of_event(found, "110112")) == 1
    assert len({record.entry.process for record in records(folder)}) == 2


def test_a_server_that_was_killed_goes_on_with_the_same_chain(tmp_path: Path) -> None:
    with served_archive(tmp_path) as server:
        deadline = time.monotonic() + 120
        while not numbers(server.data_dir / "audit"):
            assert time.monotonic() < deadline
        server.process.kill()
        server.process.wait()
    with served_archive(tmp_path) as server:
        pass
    folder = server.data_dir / "audit"
    assert verify(folder).is_good
    kinds = [record.entry.type for record in records(folder)]
    assert kinds == ["Application Start", "Application Start", "Application Stop"]


def test_without_audit_there_is_no_trail(tmp_path: Path) -> None:
    with served_archive(tmp_path, "--no-audit") as server:
        pass
    assert not (server.data_dir / "audit").exists()


def test_a_trail_that_cannot_be_written_is_a_reason_not_to_start_if_one_wants(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "audit").write_text("in the way")
    config = tmp_path / "c.toml"
    config.write_text("[audit]\non_failure = 'stop'\n")
    options = ["serve", "--data-dir", tmp_path / "data", "--port", "0", "--no-tls"]
    done = isocenter_command(*options, "--config", config)
    assert done.returncode == 2
    assert "cannot be written" in done.stdout
    log = tmp_path / "log"
    with program(*ISOCENTER, *options, log=log) as process:
        wait_for_line(process, "^ready", log)
        wait_for_line(process, "error .* the audit trail in .* cannot be written", log)


async def test_a_server_stops_when_its_trail_fails_if_one_wants(tmp_path: Path) -> None:
    async def nobody(studies: Sequence[str]) -> dict[str, Patient]:
        return {}

    (tmp_path / "audit").write_text("in the way")
    here, source = ActiveProcess(ae_titles=("US",)), AuditSource(source_id="US")
    trail = trail_of(tmp_path / "audit", here, source, rotate_bytes=1 << 20, key=None)
    stopped = trio.Event()
    for on_failure in ("stop", "continue"):
        auditor = AuditRecorder(trail, here, source, patients=nobody)
        settings = load_settings(environ={}, overrides={"audit.on_failure": on_failure})
        auditor.writer.failed.set()
        with trio.fail_after(60):
            await stop_when_failed(auditor, settings, stopped.set)
        assert stopped.is_set() == (on_failure == "stop")
        stopped = trio.Event()


def test_a_wrong_key_is_a_reason_not_to_start(tmp_path: Path) -> None:
    filled(tmp_path / "data" / "audit", 2, key=KEY)
    before = (tmp_path / "data" / "audit" / HEAD_FILE).read_bytes()
    done = isocenter_command("serve", "--data-dir", tmp_path / "data", "--port", "0", "--no-tls")
    assert done.returncode == 2
    assert "set audit.hmac_key_file" in done.stdout
    assert (tmp_path / "data" / "audit" / HEAD_FILE).read_bytes() == before


def test_a_key_protects_the_trail_of_a_server(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    config = tmp_path / "c.toml"
    config.write_text("[audit]\nhmac_key_file = 'key'\nsource_id = 'PACS1'\nsite_id = 'Ward'\n")
    with served_archive(tmp_path, "--config", config) as server:
        pass
    folder = server.data_dir / "audit"
    verdict = verify(folder, key=KEY)
    assert verdict.is_good
    assert verdict.unkeyed == 0
    source = messages(folder)[0].find("AuditSourceIdentification")
    assert (source.get("AuditSourceID"), source.get("AuditEnterpriseSiteID")) == ("PACS1", "Ward")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"audit.collectors": ["http://x"]}, "audit.collectors"),
        ({"audit.collectors": ["tls://x"], "audit.enabled": "off"}, "audit.collectors"),
        (
            {"audit.collectors": ["tls://x"], "storage.data_dir": ":memory:"},
            "audit.collectors",
        ),
        ({"audit.certificate": "c.pem"}, "audit.certificate"),
        ({"audit.rotate": "1"}, "audit.rotate"),
    ],
)
def test_settings_that_cannot_be(overrides: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(environ={}, overrides=overrides)
    assert error.value.key == key


def test_in_memory_nothing_is_recorded() -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    here = ActiveProcess(ae_titles=("US",))
    record_now(settings, here, [])
    assert open_trail(settings, here)[0].folder == Path(":memory:/audit")
    assert not Path(":memory:").exists()
