"""Somebody else's collector: rsyslog over mutual TLS, stopped and started again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isocenter.services.security.certificates.authority import CertificateAuthority
from services.security.audit.trails import numbers, parsed, records
from support.ports import free_port
from support.processes import (
    isocenter_command,
    program,
    served_archive,
    wait_for_port,
)
from support.studies import write_studies

MODULES = [Path(folder) / "lmnsd_gtls.so" for folder in ("/usr/lib/rsyslog", "/usr/lib64/rsyslog")]
MODULES += [path / "rsyslog/lmnsd_gtls.so" for path in Path("/usr/lib").glob("*-linux-gnu")]
pytestmark = pytest.mark.skipif(
    shutil.which("rsyslogd") is None or not any(path.exists() for path in MODULES),
    reason="needs rsyslogd with TLS (Debian: apt-get install rsyslog rsyslog-gnutls)",
)

CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="256k"
  DefaultNetstreamDriverCAFile="{folder}/ca.crt"
  DefaultNetstreamDriverCertFile="{folder}/rsyslog.crt"
  DefaultNetstreamDriverKeyFile="{folder}/rsyslog.key")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1"
  StreamDriver.AuthMode="x509/certvalid")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="fields" type="string" string="%PRI%|%APP-NAME%|%MSGID%|%STRUCTURED-DATA%|%msg%\\n")
action(type="omfile" file="{folder}/received" template="fields")
"""


@contextmanager
def collecting(folder: Path, port: int) -> Iterator[None]:
    path, log = folder / "rsyslog.conf", folder / "rsyslog.log"
    path.write_text(CONFIGURATION.format(folder=folder, port=port))
    options = ["-n", "-f", path, "-i", folder / "pid"]
    with program("rsyslogd", *options, log=log) as process:
        wait_for_port(process, port, log)
        yield


def received(folder: Path) -> list[str]:
    path = folder / "received"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(folder: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while not any(text in line for line in received(folder)):
        assert time.monotonic() < deadline, received(folder)


def test_rsyslog_gets_every_record_over_tls(tmp_path: Path) -> None:
    folder, port = tmp_path / "collector", free_port()
    authority = CertificateAuthority.create(tmp_path / "data" / "certs")
    authority.issue("rsyslog", hosts=["127.0.0.1"], folder=folder)
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=2)
    collector = ["--audit-collector", f"tls://127.0.0.1:{port}"]
    with served_archive(tmp_path, *collector) as server:
        with collecting(folder, port):
            wait_for(folder, "Application Start")
        peer = f"ISOCENTER@127.0.0.1:{server.port}"
        assert isocenter_command("storescu", peer, *files).returncode == 0
        with collecting(folder, port):
            wait_for(folder, "DICOM Instances Transferred")
            server.process.terminate()
            server.process.wait(120)
            wait_for(folder, "Application Stop")
    trail = server.data_dir / "audit"
    lines = list(dict.fromkeys(received(folder)))
    assert len(lines) == len(numbers(trail))
    for line, record in zip(lines, records(trail), strict=True):
        priority, application, message_id, data, xml = line.split("|", 4)
        assert (application, message_id, data) == ("isocenter", "DICOM+RFC3881", "-")
        assert priority == "85"
        assert xml.removeprefix("<?xml") != xml
        assert xml == record.entry.message
        parsed(xml)
