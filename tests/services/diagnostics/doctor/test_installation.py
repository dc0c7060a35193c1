"""`isocenter doctor` on an installation that is well, and on what can be wrong with one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import stat
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.cli import main
from isocenter.services.diagnostics.doctor import host as machine
from isocenter.services.diagnostics.doctor.certificates import check_certificates
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.listening_ports import check_ports
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate
from isocenter.services.settings.loading import load_settings
from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import ROOT, write_studies

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux tells in /proc")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of an archive with two studies, whose server has ended."""
    folder = tmp_path_factory.mktemp("filled")
    files = write_studies(folder / "files", studies=2, series=1, instances=2)
    with served_archive(folder, tls=True) as started:
        done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{started.port}", *files)
        assert done.returncode == 0, done.stdout
    return folder / "data"


@pytest.fixture
def data_dir(filled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filled, tmp_path / "data")


def settings_of(data_dir: Path, **more: Any) -> Any:
    return load_settings(
        environ={}, overrides={"storage.data_dir": str(data_dir), "server.port": "0", **more}
    )


def doctor(
    data_dir: Path, *options: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    """Exit code, and what was examined, by name (of several, the last)."""
    code = main(["doctor", "--data-dir", str(data_dir), "--json", *options])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["kind"] == "summary"
    assert lines[-1]["examined"] == len(lines) - 1
    return code, {line["what"]: line for line in lines[:-1]}


@pytest.fixture(autouse=True)
def _free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports that nobody else on this machine has."""
    monkeypatch.setenv("ISOCENTER__SERVER__PORT", "0")
    monkeypatch.setenv("ISOCENTER__TLS__PORT", str(free_port()))


# -- All is well -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--thorough",)], ids=["quick", "thorough"])
def test_an_archive_that_is_well(
    data_dir: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*") if path.is_file()}
    code, found = doctor(data_dir, *options, capsys=capsys)
    assert code == 0, found
    assert found["index"]["facts"]["instances"] == 4
    assert "4 instances" in found["index"]["seen"]
    assert found["server"]["facts"] == {"pids": []}
    after = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before, "nothing was changed"


def test_before_the_first_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(tmp_path / "none", capsys=capsys)
    assert code == 0
    assert found["data directory"]["result"] == "note"
    assert not (tmp_path / "none").exists(), "nothing was made"


def test_lines_for_people(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir.chmod(0o755)
    assert main(["doctor", "--data-dir", str(data_dir)]) == 1
    out = capsys.readouterr().out
    assert "\033" not in out, "no colours where there is no terminal"
    assert "change, here: chmod 700" in out
    assert out.splitlines()[-1].startswith("1 problem in ")


# -- Modes -------------------------------------------------------------------------------


def test_what_others_can_reach(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir.chmod(0o750)
    index = data_dir / "index.db"
    index.chmod(0o644)
    code, found = doctor(data_dir, capsys=capsys)
    assert code == 1
    texts = [finding["text"] for finding in found["data directory"]["findings"]]
    assert texts[0].endswith("has mode 750")
    assert "index.db can be reached by other users" in texts[1]


def test_a_key_that_others_can_read(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data_dir / "certs" / "server.key").chmod(0o644)
    code, found = doctor(data_dir, capsys=capsys)
    assert code == 1
    (finding,) = found["certificates"]["findings"]
    assert "open to others" in finding["text"]
    assert "does not start" in finding["meaning"]
    assert finding["side"] == "here"


def test_the_umask_is_told_and_left_as_it_is() -> None:
    before = os.umask(0o022)
    try:
        assert machine.check_umask().severity is Severity.NOTE
        assert os.umask(0o077) == 0o022
        assert machine.check_umask().severity is None
    finally:
        os.umask(before)


# -- Disk, clock, descriptors ------------------------------------------------------------

_Usage = namedtuple("_Usage", "total used free")  # noqa: PYI024 - as shutil's


@pytest.mark.parametrize(
    ("used", "severity"), [(0.5, None), (0.85, Severity.WARNING), (0.97, Severity.ERROR)]
)
def test_a_disk_that_fills(
    used: float, severity: Severity | None, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 << 44
    usage = _Usage(size, int(size * used), int(size * (1 - used)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = machine.check_disk(settings_of(data_dir))
    assert found.severity is severity, found


@pytest.mark.parametrize("kind", ["nfs4", "tmpfs"])
def test_file_systems_that_do_not_keep_what_they_are_told(
    kind: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_file_system", lambda folder: kind)
    found = machine.check_disk(settings_of(data_dir))
    assert any(kind in finding.text for finding in found.findings)
    assert found.is_problem


def test_a_clock_that_was_set_back(data_dir: Path) -> None:
    tomorrow = (NOW + DAY).timestamp()
    os.utime(data_dir / "index.db", (tomorrow, tomorrow))
    found = machine.check_clock(settings_of(data_dir))
    assert found.severity is Severity.ERROR
    assert "in the future" in found.findings[-1].text


def test_more_connections_than_open_files(data_dir: Path) -> None:
    assert machine.check_descriptors(settings_of(data_dir)).severity in (None, Severity.NOTE)
    many = settings_of(data_dir, **{"server.max_connections": "1000000"})
    found = machine.check_descriptors(many)
    assert "LimitNOFILE=1000200" in found.findings[0].cure


# -- Settings ----------------------------------------------------------------------------


def test_settings_that_cannot_be(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = data_dir.parent / "wrong.toml"
    config.write_text("[server]\nportt = 1\n")
    code, found = doctor(data_dir, "--config", str(config), capsys=capsys)
    assert code == 1
    assert list(found) == ["settings"]
    assert "portt" in found["settings"]["findings"][0]["text"]


@pytest.mark.parametrize(("sign_for", "result"), [("", "warning"), ('"CT1"', "error")])
def test_keys_to_sign_with_that_cannot_be_used(
    data_dir: Path, capsys: pytest.CaptureFixture[str], sign_for: str, result: str
) -> None:
    certs = data_dir / "certs"
    config = data_dir.parent / "signing.toml"

    def signing(key: object) -> dict[str, Any]:
        config.write_text(
            f"[signatures]\nsign_key = '{key}'\nsign_certificate = '{certs / 'server.crt'}'\n"
            f"sign_for = [{sign_for}]\n"
        )
        _, found = doctor(data_dir, "--config", str(config), capsys=capsys)
        told: dict[str, Any] = found["signing"]
        return told

    assert signing(certs / "server.key")["result"] == "ok"
    for key, fault in ((certs / "ca.key", "of another key"), ("none.key", "No such file")):
        told = signing(key)
        assert told["result"] == result
        assert fault in told["findings"][0]["text"]


def test_arguments_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "ISOCENTER@127.0.0.1"]) == 2
    assert main(["doctor", "A@127.0.0.1:104", "--move-to", "B"]) == 2
    assert main(["doctor", "A@127.0.0.1:104", "--move-port", "11113"]) == 2
    assert "--move-to needs --move-port" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--no-such-option"])


# -- Certificates ------------------------------------------------------------------------


def certificates_of(data_dir: Path) -> list[CheckResult]:
    return check_certificates(settings_of(data_dir))


def worst(found: list[CheckResult]) -> str:
    return "\n".join(finding.text for one in found for finding in one.findings if one.is_problem)


def test_a_private_ca_that_is_well(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "certs")
    ensure_server_certificate(tmp_path / "certs", "ISOCENTER")
    found = certificates_of(tmp_path)
    assert [one.severity for one in found] == [None, None]


def test_a_certificate_that_ends_soon(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "certs", now=NOW - 900 * DAY)
    authority = CertificateAuthority(tmp_path / "certs")
    ensure_server_certificate(authority.directory, "ISOCENTER", now=NOW - 800 * DAY)
    authority.issue("ct1", now=NOW - 800 * DAY)
    authority.issue("ct2", now=NOW - 830 * DAY)
    text = worst(certificates_of(tmp_path))
    assert "our certificate ends in 2" in text
    assert "the certificate ct1 of AE title ct1 ends in 2" in text
    assert "the certificate ct2 of AE title ct2 has expired" in text


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path / "certs", now=NOW - 900 * DAY)
    ensure_server_certificate(authority.directory, "ISOCENTER", now=NOW - 830 * DAY)
    assert "expired" in worst(certificates_of(tmp_path))


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path / "certs")
    ensure_server_certificate(tmp_path / "certs", "ISOCENTER")
    other = authority.issue("ct1")
    shutil.copy(other.folder / "ct1.key", tmp_path / "certs" / "server.key")
    assert "not the key of" in worst(certificates_of(tmp_path))


def test_files_of_ones_own_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """Another AE title, no name of a host, a chain in the wrong order, the list of another CA."""
    authority = CertificateAuthority.create(tmp_path / "ca")
    foreign = CertificateAuthority.create(tmp_path / "foreign")
    authority.issue("CT1", folder=tmp_path)
    chain = tmp_path / "chain.crt"
    chain.write_bytes((tmp_path / "CT1.crt").read_bytes() + foreign.certificate_path.read_bytes())
    given = {
        "tls.certificate": str(chain),
        "tls.key": str(tmp_path / "CT1.key"),
        "tls.ca": str(authority.certificate_path),
        "tls.crl": str(foreign.crl_path),
    }
    text = worst(check_certificates(settings_of(tmp_path, **given)))
    assert "not for our AE title ISOCENTER" in text
    assert "no subject alternative name" in text
    assert "did not issue it" in text
    assert "which is not in tls.ca" in text


def test_a_list_of_revoked_certificates_that_has_expired(tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca", now=NOW - 21 * 365 * DAY)
    fresh = CertificateAuthority.create(tmp_path / "fresh")
    fresh.issue("ISOCENTER", hosts=["localhost"], folder=tmp_path)
    given = {
        "tls.certificate": str(tmp_path / "ISOCENTER.crt"),
        "tls.key": str(tmp_path / "ISOCENTER.key"),
        "tls.ca": str(fresh.certificate_path),
        "tls.crl": str(authority.crl_path),
    }
    assert "revoked certificates expired on" in worst(
        check_certificates(settings_of(tmp_path, **given))
    )


# -- Ports, and who has them -------------------------------------------------------------


def test_a_port_that_another_program_has(data_dir: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        plain, _ = check_ports(settings_of(data_dir, **{"server.port": str(port)}))
    (finding,) = plain.findings
    assert f"127.0.0.1:{port} is in use" in finding.text
    if Path("/proc/net/tcp").exists():
        assert f"process {os.getpid()} (" in finding.text


@NEEDS_PROC
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "workers"])
def test_a_server_that_runs_is_no_stranger(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served_archive(tmp_path, *options) as started:
        code, found = doctor(
            started.data_dir, "--config", str(config_of(started, tmp_path)), capsys=capsys
        )
        pids = found["server"]["facts"]["pids"]
    assert code == 0, found
    assert "served by process" in found["port"]["seen"]
    assert len(pids) == 1 + len(options) // 2
    if not options:
        assert pids == [started.process.pid]


def config_of(started: ServedArchive, folder: Path) -> Path:
    config = folder / "doctor.toml"
    text = f"[server]\nport = {started.port}\n[tls]\nenabled = false\n[monitoring]\nport = 0\n"
    config.write_text(text)
    os.environ.pop("ISOCENTER__SERVER__PORT", None)
    return config


# -- Index and objects -------------------------------------------------------------------


def some_object(data_dir: Path) -> Path:
    return min((data_dir / "objects").rglob(f"{ROOT}*.dcm"))


@pytest.mark.parametrize("options", [(), ("--thorough",)], ids=["quick", "thorough"])
@pytest.mark.parametrize("fault", ["missing", "size", "changed"])
def test_objects_that_are_not_what_was_stored(
    data_dir: Path, fault: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    path = some_object(data_dir)
    content = path.read_bytes()
    path.chmod(0o600)
    match fault:
        case "missing":
            path.unlink()
        case "size":
            path.write_bytes(content[:-2])
        case _:
            path.write_bytes(content[:-2] + b"\xff\x00")
    code, found = doctor(data_dir, *options, capsys=capsys)
    assert code == 1
    words = {"missing": "no file", "size": "another size", "changed": "not what was stored"}
    (finding,) = found["objects"]["findings"]
    assert words[fault] in finding["text"]
    assert path.stem in finding["text"]


def test_an_index_that_is_damaged(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = data_dir / "index.db"
    with index.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 6))
    code, found = doctor(data_dir, capsys=capsys)
    assert code == 1
    assert "damaged" in found["index"]["findings"][0]["text"]
    assert "isocenter db reindex" in found["index"]["findings"][0]["cure"]


def test_an_index_that_is_missing(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in data_dir.glob("index.db*"):
        path.unlink()
    code, found = doctor(data_dir, capsys=capsys)
    assert code == 1
    assert "is missing, but there are objects" in found["index"]["findings"][0]["text"]


def test_an_index_of_another_program(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in data_dir.glob("index.db*"):
        path.unlink()
    connection = sqlite3.connect(data_dir / "index.db")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    (data_dir / "index.db").chmod(0o600)
    code, found = doctor(data_dir, capsys=capsys)
    assert code == 1
    assert "another program" in found["index"]["findings"][0]["text"]


def test_an_index_of_an_earlier_version_is_not_migrated(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = sqlite3.connect(data_dir / "index.db")
    connection.execute("DELETE FROM schema_version WHERE version > 1")
    connection.commit()
    connection.close()
    code, found = doctor(data_dir, "--thorough", capsys=capsys)
    assert code == 0
    assert "an earlier version wrote it (schema 1" in found["index"]["findings"][0]["text"]
    connection = sqlite3.connect(data_dir / "index.db")
    assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (1,)
    connection.close()


def test_what_a_crash_left(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = data_dir / "staging" / "left"
    left.write_bytes(b"half an object")
    left.chmod(stat.S_IRUSR | stat.S_IWUSR)
    code, found = doctor(data_dir, capsys=capsys)
    assert code == 0
    assert found["leftovers"]["result"] == "note"
    (finding,) = found["leftovers"]["findings"]
    assert "1 staged file, 0 journals" in finding["text"]
    assert "the next isocenter serve" in finding["cure"]
    left.unlink()
    (data_dir / "journal" / f"{'0' * 16}.journal").write_bytes(b"")
    code, found = doctor(data_dir, capsys=capsys)
    (finding,) = found["leftovers"]["findings"]
    assert "0 staged files, 1 journal" in finding["text"]
