"""Other people's archives, started: DCMTK's dcmqrscp, pynetdicom's qrscp, Orthanc."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.security.certificates.authority import CertificateAuthority
from support.ports import free_port
from support.processes import program, wait_for_port

#: Certificate, key and CA.
Names = tuple[Path, Path, Path]


class Site:
    """A CA, and certificates of it for whoever asks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = CertificateAuthority.create(folder / "ca")

    def names(self, ae_title: str) -> Names:
        """What this AE title shows to others, for any address of this machine."""
        made = self._folder / f"{ae_title}.crt"
        if not made.exists():
            self._ca.issue(ae_title, hosts=["127.0.0.1", "localhost"], folder=self._folder)
        return made, made.with_suffix(".key"), self._ca.certificate_path


@dataclass(frozen=True)
class PeerArchive:
    """An archive that is not ours, and where its objects lie."""

    ae_title: str
    port: int
    folder: Path
    log: Path


@contextmanager
def tls_in_front_of(port: int, names: Names, folder: Path) -> Iterator[int]:
    """A port where socat speaks mutual TLS for a program that cannot."""
    certificate, key, ca = names
    tls_port, log = free_port(), folder / f"socat-{port}.log"
    with program(
        "socat",
        f"OPENSSL-LISTEN:{tls_port},bind=127.0.0.1,reuseaddr,fork,cert={certificate},key={key},"
        f"cafile={ca},verify=1",
        f"TCP:127.0.0.1:{port}",
        log=log,
    ) as process:
        wait_for_port(process, tls_port, log)
        yield tls_port


@contextmanager
def dcmqrscp(
    folder: Path, *, destinations: Mapping[str, int] | None = None
) -> Iterator[PeerArchive]:
    """DCMTK's archive, AE title QRSCP; *destinations* of C-MOVE are ports of this machine."""
    objects = folder / "objects"
    objects.mkdir(parents=True)
    hosts = "".join(
        f"{name.lower()} = ({name}, localhost, {port})\n"
        for name, port in (destinations or {}).items()
    )
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        "MaxPDUSize = 65536\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{hosts}HostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {objects} RW (100, 1024mb) ANY\nAETable END\n"
    )
    port, log = free_port(), folder / "dcmqrscp.log"
    with program("dcmqrscp", "-v", "-c", config, port, log=log) as process:
        wait_for_port(process, port, log)
        yield PeerArchive("QRSCP", port, objects, log)


@contextmanager
def qrscp(folder: Path, *, destinations: Mapping[str, int] | None = None) -> Iterator[PeerArchive]:
    """pynetdicom's archive, AE title QRSCP."""
    pytest.importorskip("sqlalchemy", reason="pynetdicom's qrscp needs it")
    objects = folder / "objects"
    objects.mkdir(parents=True)
    port, log = free_port(), folder / "qrscp.log"
    config = folder / "qrscp.ini"
    config.write_text(
        f"[DEFAULT]\nae_title: QRSCP\nport: {port}\nmax_pdu: 16382\n"
        "acse_timeout: 30\ndimse_timeout: 30\nnetwork_timeout: 30\nbind_address: 127.0.0.1\n"
        f"instance_location: {objects}\ndatabase_location: {folder / 'instances.sqlite'}\n"
        "log_identifier: False\n"
        + "".join(
            f"[{name}]\naddress: 127.0.0.1\nport: {number}\n"
            for name, number in (destinations or {}).items()
        )
    )
    command = (sys.executable, "-m", "pynetdicom", "qrscp", "-c", config)
    with program(*command, log=log, cwd=folder) as process:
        wait_for_port(process, port, log)
        yield PeerArchive("QRSCP", port, objects, log)


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, by its REST API on loopback."""

    dicom_port: int
    http_port: int
    log: Path
    ae_title: str = "ORTHANC"

    def get(self, path: str) -> Any:
        """What the API says, from JSON."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        with self._open(urllib.request.Request(self._url(path))) as answer:
            found: bytes = answer.read()
            return found

    def post(self, path: str, value: object) -> Any:
        """POST *value*, bytes as they are and everything else as JSON."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        request = urllib.request.Request(self._url(path), data=data, method="POST")
        with self._open(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def delete_everything(self) -> None:
        """Forget all patients."""
        for patient in self.get("/patients"):
            request = urllib.request.Request(self._url(f"/patients/{patient}"), method="DELETE")
            self._open(request).close()

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    @staticmethod
    def _open(request: urllib.request.Request) -> Any:
        # Loopback, whatever proxies the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=60)


@contextmanager
def orthanc(
    folder: Path,
    *,
    modalities: Mapping[str, Mapping[str, object]],
    dicom_port: int,
    tls: Names | None = None,
    more: Mapping[str, object] | None = None,
) -> Iterator[Orthanc]:
    """Orthanc, AE title ORTHANC, knowing *modalities* as its configuration names them.

    Args:
        more: other settings of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    http_port, log = free_port(), folder / "orthanc.log"
    settings: dict[str, object] = {
        "Name": "interop",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "RemoteAccessAllowed": False,
        "HttpPort": http_port,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": modalities,
    }
    if tls is not None:
        certificate, key, ca = map(str, tls)
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": certificate,
            "DicomTlsPrivateKey": key,
            "DicomTlsTrustedCertificates": ca,
        }
    settings |= more or {}
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    # It takes its time to stop.
    with program("Orthanc", "--verbose", config, log=log, cwd=folder, by_force=True) as process:
        wait_for_port(process, dicom_port, log)
        wait_for_port(process, http_port, log)
        yield Orthanc(dicom_port, http_port, log)
