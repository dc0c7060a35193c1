"""Web servers: how each is started, and where its DICOMweb is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peers.programs import SERVER_ENVIRONMENT
from peers.servers import ISOCENTER
from peers.wire import Failed

_PLUGIN: Final = "libOrthancDicomWeb.so"
_PLUGIN_FOLDERS: Final = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")


@dataclass(frozen=True, slots=True)
class WebPlace:
    """Where a server shall live: its folder, and its ports."""

    folder: Path
    http_port: int
    dicom_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebKind:
    """A server as the suite knows it.

    ``settle``: have done what it does in the background after it was filled.
    """

    name: str
    title: str
    root: str
    durability: str
    command: Callable[[WebPlace], Sequence[object]]
    settle: Callable[[WebPlace], None] = lambda place: None
    is_default: bool = True


def _isocenter(place: WebPlace) -> Sequence[object]:
    return [
        *ISOCENTER, "serve", "--data-dir", place.folder / "data", "--durability", "full",
        "--log-level", "warning", "--port", place.dicom_port, "--no-tls",
        "--http-port", place.http_port,
    ]  # fmt: skip


def _make_metadata(place: WebPlace) -> None:
    """What the server does soon by itself."""
    command = [
        *ISOCENTER, "db", "reindex", "--metadata", "--data-dir", place.folder / "data",
    ]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in command],
        env={**SERVER_ENVIRONMENT, "ISOCENTER__WEB__PORT": str(place.http_port)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"metadata: {(done.stderr or done.stdout).strip()}")


def _orthanc(place: WebPlace) -> Sequence[object]:
    objects = place.folder / "objects"
    settings: dict[str, object] = {
        "StorageDirectory": str(objects),
        "IndexDirectory": str(objects),
        "Plugins": [
            str(path)
            for folder in _PLUGIN_FOLDERS
            for path in [Path(folder) / _PLUGIN]
            if path.exists()
        ][:1],
        "HttpServerEnabled": True,
        "HttpPort": place.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": place.dicom_port,
        "HttpCompressionEnabled": True,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
    config = place.folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    return ["Orthanc", config]


#: Ours first: what the others are compared with.
WEB_KINDS: Final = (
    WebKind(
        name="isocenter",
        title="Isocenter",
        root="/dicomweb",
        durability="the object, in the journal or in its file, and the index row, all synced",
        command=_isocenter,
        settle=_make_metadata,
    ),
    WebKind(
        name="orthanc",
        title="Orthanc, DICOMweb plugin",
        root="/dicom-web",
        durability="object file synced, not its directory; index in a journal that is not synced",
        command=_orthanc,
    ),
)
