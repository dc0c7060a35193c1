"""The servers: how each is started, what it can, and what its success means.

Each gets what favours it: PDUs of 128 KiB, no log, TCP_NODELAY.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peers.asking import DESTINATION
from peers.wire import CALLED, MAX_PDU_LENGTH, Certificates

ISOCENTER: Final = (sys.executable, "-m", "isocenter.services.cli")
#: It drops the oldest beyond 500, whatever its configuration says; the rest is for what is
#: retrieved.
_DCMQRSCP_STUDIES: Final = 450
_PYNETDICOM: Final = (sys.executable, "-m", "pynetdicom")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server shall live.  ``destination``: port of the C-MOVE destination."""

    folder: Path
    port: int
    destination: int
    tls: Certificates | None = None
    is_archive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A server as the suite knows it.

    ``durability``: what is on the disk when it answers a C-STORE with success.
    """

    name: str
    title: str
    durability: str
    command: Callable[[Place], Sequence[object]]
    #: More would be quicker; dcmqrscp's processes lose rows of the index that they share.
    filling_associations: int = 4
    #: What it can keep.
    most_studies: int | None = None
    can_query: bool = True
    can_tls: bool = True
    is_default: bool = True


def _isocenter(durability: str, workers: int = 1) -> Callable[[Place], Sequence[object]]:
    def command(place: Place) -> Sequence[object]:
        words: list[object] = [
            *ISOCENTER, "serve", "--data-dir", place.folder / "data", "--ae-title", CALLED,
            "--durability", durability, "--workers", workers, "--log-level", "warning",
            "--peer", f"{DESTINATION}@127.0.0.1:{place.destination}",
        ]  # fmt: skip
        if place.tls is None:
            return [*words, "--port", place.port, "--no-tls"]
        return [
            *words, "--no-plain", "--tls-host", "127.0.0.1", "--tls-port", place.port,
            "--tls-cert", place.tls.server, "--tls-key", place.tls.server_key,
            "--tls-ca", place.tls.ca,
        ]  # fmt: skip

    return command


def _storescp(*options: str) -> Callable[[Place], Sequence[object]]:
    def command(place: Place) -> Sequence[object]:
        objects = place.folder / "objects"
        objects.mkdir()
        words: list[object] = [
            "storescp", "-q", "-aet", CALLED, "-pdu", MAX_PDU_LENGTH, "-od", objects, *options,
        ]  # fmt: skip
        if place.tls is not None:
            words += ["+tls", place.tls.server_key, place.tls.server, "+cf", place.tls.ca]
        return [*words, place.port]

    return command


def _dcmqrscp(place: Place) -> Sequence[object]:
    objects = place.folder / "objects"
    objects.mkdir()
    config = place.folder / "dcmqrscp.cfg"
    config.write_text(
        f"MaxPDUSize = {MAX_PDU_LENGTH}\nMaxAssociations = 16\n"
        f"HostTable BEGIN\ndest = ({DESTINATION}, 127.0.0.1, {place.destination})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{CALLED} {objects} RW (10000, 64gb) ANY\nAETable END\n"
    )
    return ["dcmqrscp", "-q", "-c", config, place.port]


def _orthanc(place: Place) -> Sequence[object]:
    settings: dict[str, object] = {
        "StorageDirectory": str(place.folder / "objects"),
        "IndexDirectory": str(place.folder / "objects"),
        "Plugins": [],
        "HttpServerEnabled": False,
        "DicomAet": CALLED,
        "DicomPort": place.port,
        "MaximumPduLength": MAX_PDU_LENGTH,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"dest": [DESTINATION, "127.0.0.1", place.destination]},
    }
    if place.tls is not None:
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(place.tls.server),
            "DicomTlsPrivateKey": str(place.tls.server_key),
            "DicomTlsTrustedCertificates": str(place.tls.ca),
        }
    config = place.folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    return ["Orthanc", config]


def _pynetdicom(place: Place) -> Sequence[object]:
    objects = place.folder / "objects"
    objects.mkdir()
    if not place.is_archive:
        return [
            *_PYNETDICOM, "storescp", place.port, "-q", "-aet", CALLED, "-ba", "127.0.0.1",
            "--max-pdu", MAX_PDU_LENGTH, "-od", objects,
        ]  # fmt: skip
    config = place.folder / "qrscp.ini"
    config.write_text(
        f"[DEFAULT]\nae_title: {CALLED}\nport: {place.port}\nmax_pdu: {MAX_PDU_LENGTH}\n"
        "acse_timeout: 60\ndimse_timeout: 60\nnetwork_timeout: 300\nbind_address: 127.0.0.1\n"
        f"instance_location: {objects}\ndatabase_location: {place.folder / 'index.sqlite'}\n"
        f"log_identifier: False\n[{DESTINATION}]\naddress: 127.0.0.1\nport: {place.destination}\n"
    )
    return [*_PYNETDICOM, "qrscp", "-q", "-c", config]


#: Ours first: what the others are compared with.
KINDS: Final = (
    Kind(
        name="isocenter",
        title="Isocenter, full",
        durability="the object, in the journal or in its file, and the index row, all synced",
        command=_isocenter("full"),
    ),
    Kind(
        name="isocenter-relaxed",
        title="Isocenter, relaxed",
        durability="written, not synced; file and index row survive the process, not the machine",
        command=_isocenter("relaxed"),
    ),
    Kind(
        name="isocenter-workers",
        title="Isocenter, full, 2 workers",
        durability="as Isocenter, full",
        command=_isocenter("full", workers=2),
        is_default=False,
    ),
    Kind(
        name="storescp",
        title="DCMTK storescp",
        durability="nothing is synced; decoded and written anew under its final name, no index",
        command=_storescp(),
        can_query=False,
    ),
    Kind(
        name="storescp-fork",
        title="DCMTK storescp +B --fork",
        durability="nothing is synced; bytes as they came under their final name, no index",
        command=_storescp("--bit-preserving", "--fork"),
        can_query=False,
    ),
    Kind(
        name="dcmqrscp",
        title="DCMTK dcmqrscp",
        durability="nothing is synced; file and index file",
        command=_dcmqrscp,
        filling_associations=1,
        most_studies=_DCMQRSCP_STUDIES,
        can_tls=False,
    ),
    Kind(
        name="orthanc",
        title="Orthanc",
        durability="object file synced, not its directory; index in a journal that is not synced",
        command=_orthanc,
    ),
    Kind(
        name="pynetdicom",
        title="pynetdicom storescp, qrscp",
        durability="nothing of the object is synced; qrscp commits its index row to SQLite",
        command=_pynetdicom,
        can_tls=False,
    ),
)
