"""Orders into a real server: from `isocenter hl7send` to what DCMTK's findscu sees."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import hl7
import pytest
from hl7.client import MLLPClient

from isocenter.services.integration.hl7.mllp import frame
from isocenter.services.net.tls.contexts import TlsFiles, client_context
from services.integration.hl7.samples import OMI, ORM, changed
from support.processes import (
    ENVIRONMENT,
    ISOCENTER,
    ServedArchive,
    isocenter_command,
    run,
    served_archive,
    wait_for_line,
)

pytestmark = pytest.mark.slow

CONFIG = """
[hl7]
enabled = true
port = 0
stations = ["MR=MR_99"]
"""


def hl7_port(archive: ServedArchive) -> int:
    return int(wait_for_line(archive.process, r"^  HL7 orders .*:(\d+)$", archive.log)[1])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "isocenter.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("hl7")
    with served_archive(folder, "--config", config, "--workers", "2", tls=True) as served:
        yield served


def message_file(folder: Path, *messages: str) -> Path:
    path = folder / "orders.hl7"
    path.write_text("\n".join(message.replace("\r", "\n") for message in messages))
    return path


def found(archive: ServedArchive, accession: str) -> list[str]:
    done = run(
        "findscu", "-W", "-aec", "ISOCENTER", "127.0.0.1", archive.port,
        "-k", f"AccessionNumber={accession}", "-k", "PatientName",
        "-k", "(0040,0100)[0].(0040,0009)", "-k", "(0040,0100)[0].(0040,0001)",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return re.split(r"Find Response: \d+ \(Pending\)", done.stdout)[1:]


def test_orders_are_seen_by_DCMTK_until_they_are_cancelled(
    archive: ServedArchive, tmp_path: Path
) -> None:
    port = hl7_port(archive)
    path = message_file(tmp_path, ORM, changed(OMI, "IPC", 9, ""))
    sent = isocenter_command("hl7send", "127.0.0.1", port, path)
    assert sent.returncode == 0, sent.stdout
    assert re.findall(r"^MSA\|(.*)$", sent.stdout, re.MULTILINE) == ["AA|MSG0001", "AA|MSG0002"]
    (match,) = found(archive, "A1001")
    assert "[Muster^Erika^Anna^Dr^Jr PhD ]" in match
    assert "[CT_01 ]" in match
    assert ["[MR_99 ]" in match for match in found(archive, "A1002")] == [True, True]
    path = message_file(tmp_path, changed(ORM, "ORC", 1, "CA"))
    assert isocenter_command("hl7send", "127.0.0.1", port, path).returncode == 0
    assert not found(archive, "A1001")


def test_the_client_of_python_hl7_is_answered(archive: ServedArchive) -> None:
    with MLLPClient("127.0.0.1", hl7_port(archive)) as client:
        client.socket.settimeout(60)
        for message, code in ((OMI, "AA"), (changed(OMI, "PID", 5, ""), "AE"), (OMI, "AA")):
            answer = hl7.parse(client.send_message(message).strip(b"\x0b\x1c\r"))
            assert [str(field) for field in answer.segment("MSA")[1:3]] == [code, "MSG0002"]


def test_a_refused_order_is_told_kept_and_counted(archive: ServedArchive, tmp_path: Path) -> None:
    path = message_file(tmp_path, changed(ORM, "PID", 3, ""))
    sent = isocenter_command("hl7send", "127.0.0.1", hl7_port(archive), path)
    assert sent.returncode == 1
    assert "MSA|AE|MSG0001|PID-3: (0010,0020) is missing" in sent.stdout
    kept = [path.read_bytes() for path in (archive.data_dir / "hl7-rejected").glob("*.hl7")]
    assert sum(b"Muster" in message for message in kept) == 1
    assert "Muster" not in archive.log.read_text()
    url = wait_for_line(archive.process, r"(http://\S+)/metrics", archive.log)[1]
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as page:
        text = page.read().decode()
    name = 'isocenter_order_messages_total{acknowledgement="AE",message_type="ORM^O01"}'
    assert any(line.startswith(name) for line in text.splitlines()), text


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, config: Path) -> None:
    options = ("--config", config)
    with served_archive(tmp_path, *options) as archive:
        with socket.create_connection(("127.0.0.1", hl7_port(archive)), 60) as sender:
            sender.sendall(frame(ORM.encode()))
            answer = b""
            while not answer.endswith(b"\x1c\r") and (chunk := sender.recv(4_096)):
                answer += chunk
            os.kill(archive.process.pid, signal.SIGKILL)
        assert b"MSA|AA|" in answer
        archive.process.wait()
    with served_archive(tmp_path, *options) as archive:
        assert len(found(archive, "A1001")) == 1


def test_over_TLS(tmp_path: Path) -> None:
    config = tmp_path / "tls.toml"
    config.write_text("[hl7]\nenabled = true\ntls = true\nport = 0\n")
    with served_archive(tmp_path, "--config", config, tls=True) as archive:
        port = hl7_port(archive)
        certificate, key, ca = archive.certificate("RIS", tmp_path)
        path = message_file(tmp_path, ORM)
        sent = isocenter_command(
            "hl7send", "--tls-cert", certificate, "--tls-key", key, "--tls-ca", ca,
            "127.0.0.1", port, path,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stdout
        assert isocenter_command("hl7send", "127.0.0.1", port, path).returncode == 1


def test_a_revoked_certificate_ends_its_connections(tmp_path: Path) -> None:
    config = tmp_path / "tls.toml"
    config.write_text("[hl7]\nenabled = true\ntls = true\nport = 0\n")
    with served_archive(tmp_path, "--config", config, tls=True) as archive:
        port = hl7_port(archive)
        names = {name: archive.certificate(name, tmp_path / name) for name in ("RIS", "OTHER")}

        def connected(name: str) -> ssl.SSLSocket:
            certificate, key, ca = names[name]
            context = client_context(TlsFiles(certificate=certificate, key=key, ca=ca))
            plain = socket.create_connection(("127.0.0.1", port), 60)
            return context.wrap_socket(plain, server_hostname="localhost")

        def sent(sender: ssl.SSLSocket) -> bytes:
            sender.sendall(frame(ORM.encode()))
            answer = b""
            while not answer.endswith(b"\x1c\r") and (chunk := sender.recv(4_096)):
                answer += chunk
            return answer

        with connected("RIS") as revoked, connected("OTHER") as other:
            assert b"MSA|AA|" in sent(revoked)
            assert b"MSA|AA|" in sent(other)
            for words in (
                ("certs", "revoke", "ris", "--ca-dir", archive.data_dir / "certs"),
                ("reload", "--data-dir", archive.data_dir),
            ):
                done = isocenter_command(*words)
                assert done.returncode == 0, done.stdout
            assert revoked.recv(1) == b""
            assert b"MSA|AA|" in sent(other)
    shown = isocenter_command("audit", "show", "--data-dir", archive.data_dir)
    assert "the connection for HL7 is ended: its certificate (CN=RIS) was revoked" in shown.stdout


def test_nothing_listens_unless_it_is_switched_on(tmp_path: Path) -> None:
    with served_archive(tmp_path) as archive:
        assert "HL7" not in archive.log.read_text()


def test_without_the_library_the_server_tells_what_to_install(tmp_path: Path, config: Path) -> None:
    code = (
        "import sys; sys.modules['hl7'] = None\n"
        "from isocenter.services.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--check-config", "--config", str(config),
         "--data-dir", str(tmp_path)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'isocenter[hl7]'" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("127.0.0.1", "1", "/nonexistent"), "cannot read /nonexistent"),
        (("127.0.0.1", "0", __file__), "PORT"),
    ],
)
def test_wrong_arguments(words: tuple[str, ...], text: str) -> None:
    done = isocenter_command("hl7send", *words)
    assert done.returncode == 2
    assert text in done.stdout


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = isocenter_command("hl7send", "127.0.0.1", port, message_file(tmp_path, ORM))
    assert done.returncode == 1
    assert "connection refused" in done.stdout


def test_messages_from_standard_input(archive: ServedArchive) -> None:
    done = subprocess.run(
        [*ISOCENTER, "hl7send", "127.0.0.1", str(hl7_port(archive)), "-"],
        input=frame(OMI.encode()), env=ENVIRONMENT, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert b"MSA|AA|MSG0002" in done.stdout
    assert done.returncode == 0
