"""DCMTK's clients as shipped against `isocenter serve`, in the clear and over mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pydicom
import pytest

from support.corpus import (
    DCMTK_OPTIONS,
    by_uid,
    data_set_bytes,
    storable_files,
    syntax_of,
)
from support.ports import free_port
from support.processes import (
    ServedArchive,
    options_for_tls,
    program,
    run,
    served_archive,
    wait_for_port,
)

#: They speak no TLS themselves (DCMTK 3.6.7): a tunnel does it for them.
WITHOUT_TLS = ("getscu", "movescu")

pytestmark = [
    pytest.mark.interop("echoscu", "storescu", "findscu", "movescu", "getscu", "storescp", "socat"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


TUNNELLED = "MODALITY"


class Setup:
    """A served archive, a DCMTK receiver it may move to, and how to call both."""

    def __init__(
        self, archive: ServedArchive, folder: Path, tls: bool, received: Path, tunnel_port: int
    ) -> None:
        self.archive = archive
        self.folder = folder
        self.tls = tls
        self.received = received
        self.tunnel_port = tunnel_port

    def call(self, tool: str, *words: object, aet: str = "MODALITY", cwd: Path | None = None):
        security: list[object] = []
        port = self.archive.port
        if self.tls and tool in WITHOUT_TLS:
            assert aet == TUNNELLED
            port = self.tunnel_port
        elif self.tls:
            security = options_for_tls(self.archive.certificate(aet, self.folder))
            assert self.archive.tls_port is not None
            port = self.archive.tls_port
        return run(
            tool,
            *security,
            "-v",
            "-aet",
            aet,
            "-aec",
            "ISOCENTER",
            "127.0.0.1",
            port,
            *words,
            cwd=cwd,
        )


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mutual-tls"])
def setup(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("dcmtk")
    received = folder / "received"
    received.mkdir()
    port = free_port()
    # The receiver keeps the bytes as they come.
    with (
        served_archive(
            folder / "archive", "--peer", f"DEST@127.0.0.1:{port}", tls=request.param
        ) as archive,
        program(
            "storescp", "+B", "-aet", "DEST", port, cwd=received, log=folder / "storescp.log"
        ) as receiver,
    ):
        wait_for_port(receiver, port, folder / "storescp.log")
        certificates = folder / "certificates"
        certificates.mkdir()
        tunnel_port = free_port()
        context = Setup(archive, certificates, request.param, received, tunnel_port)
        _store_everything(context)
        if not request.param:
            yield context
            return
        certificate, key, ca = archive.certificate(TUNNELLED, certificates)
        with program(
            "socat",
            f"TCP-LISTEN:{tunnel_port},bind=127.0.0.1,reuseaddr,fork",
            f"OPENSSL:127.0.0.1:{archive.tls_port},cert={certificate},key={key},cafile={ca},"
            "commonname=localhost",
            log=folder / "socat.log",
        ) as tunnel:
            wait_for_port(tunnel, tunnel_port, folder / "socat.log")
            yield context


def _store_everything(setup: Setup) -> None:
    """One storescu for each transfer syntax, with all files that have it."""
    by_option: dict[str, list[Path]] = {}
    for path in storable_files():
        by_option.setdefault(DCMTK_OPTIONS[syntax_of(path)], []).append(path)
    sent = 0
    for option, paths in by_option.items():
        done = setup.call("storescu", *paths, option, "-R", "--no-halt")
        sent += done.stdout.count("Received Store Response (Success)")
    assert sent > 0.8 * len(storable_files())


def _originals() -> dict[str, pydicom.Dataset]:
    """What was sent, by the UID in the data set; some files say another one in front of it."""
    read = [pydicom.dcmread(path) for path in storable_files()]
    return {str(item.SOPInstanceUID): item for item in read}


def test_echo(setup: Setup) -> None:
    done = setup.call("echoscu")
    assert done.returncode == 0, done.stdout


def test_what_was_acknowledged_is_kept_with_its_values_and_syntax(setup: Setup) -> None:
    kept = by_uid(setup.archive.objects())
    assert len(kept) > 0.8 * len(storable_files())
    originals = _originals()
    for uid, path in kept.items():
        stored, original = pydicom.dcmread(path), originals[uid]
        assert stored.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        for keyword in ("PatientID", "StudyInstanceUID", "Rows", "PixelData"):
            if keyword in original:
                assert stored.get(keyword) == original.get(keyword), (uid, keyword)


@pytest.mark.parametrize(
    ("level", "unique"),
    [
        ("PATIENT", "PatientID"),
        ("STUDY", "StudyInstanceUID"),
        ("SERIES", "SeriesInstanceUID"),
        ("IMAGE", "SOPInstanceUID"),
    ],
)
def test_every_object_is_found_at_every_level(setup: Setup, level: str, unique: str) -> None:
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    above = names[: names.index(unique)]
    seen = set()
    for path in setup.archive.objects():
        item = pydicom.dcmread(path, stop_before_pixels=True)
        value = str(item.get(unique, ""))
        keys = tuple(f"{name}={item.get(name, '')}" for name in above)
        if (keys, value) in seen or not item.get("PatientID"):
            continue
        seen.add((keys, value))
        words: list[object] = ["-P", "-k", f"0008,0052={level}", "-k", f"{unique}={value}"]
        for key in keys:
            words += ["-k", key]
        done = setup.call("findscu", *words)
        assert done.returncode == 0
        assert done.stdout.count("(Pending)") == 1, done.stdout
        assert value in done.stdout
    assert len(seen) > 1


def test_getscu_brings_back_the_bytes_that_are_kept(setup: Setup, tmp_path: Path) -> None:
    kept = {
        uid: path
        for uid, path in by_uid(setup.archive.objects()).items()
        if syntax_of(path) == "1.2.840.10008.1.2.1"
    }
    studies = {
        str(pydicom.dcmread(p, stop_before_pixels=True).StudyInstanceUID) for p in kept.values()
    }
    # In PDUs of each length that it may ask for: the shortest, its default, the longest.
    for study, max_pdu_length in zip(sorted(studies), cycle((4096, 16384, 131072)), strict=False):
        setup.call(
            "getscu",
            "+B",
            "-pdu",
            max_pdu_length,
            "-S",
            "-k",
            "0008,0052=STUDY",
            "-k",
            f"StudyInstanceUID={study}",
            "-od",
            tmp_path,
        )
    came = by_uid(list(tmp_path.iterdir()))
    assert kept.keys() <= came.keys()
    for uid, path in kept.items():
        assert data_set_bytes(came[uid]) == data_set_bytes(path), uid


def test_movescu_sends_to_another_peer(setup: Setup) -> None:
    kept = {
        uid: path
        for uid, path in by_uid(setup.archive.objects()).items()
        if syntax_of(path) in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
    }
    for study in sorted(
        {str(pydicom.dcmread(p, stop_before_pixels=True).StudyInstanceUID) for p in kept.values()}
    ):
        done = setup.call(
            "movescu",
            "-S",
            "-aem",
            "DEST",
            "-k",
            "0008,0052=STUDY",
            "-k",
            f"StudyInstanceUID={study}",
        )
        assert "Received Final Move Response" in done.stdout, done.stdout
    came = by_uid([path for path in setup.received.iterdir() if path.stat().st_size])
    assert kept.keys() <= came.keys()
    same_syntax = [uid for uid, path in kept.items() if syntax_of(came[uid]) == syntax_of(path)]
    assert same_syntax
    for uid in same_syntax:
        assert data_set_bytes(came[uid]) == data_set_bytes(kept[uid]), uid
    for uid, path in kept.items():
        assert pydicom.dcmread(came[uid]).get(
            "PixelData"
        ) is not None or "PixelData" not in pydicom.dcmread(path)


def test_movescu_to_an_unknown_destination_gets_a801(setup: Setup) -> None:
    done = setup.call(
        "movescu", "-S", "-aem", "NOWHERE", "-k", "0008,0052=STUDY", "-k", "StudyInstanceUID=1.2"
    )
    assert "MoveDestinationUnknown" in done.stdout


def test_cancel_ends_a_query(setup: Setup) -> None:
    done = setup.call(
        "findscu", "-S", "-k", "0008,0052=STUDY", "-k", "StudyInstanceUID", "--cancel", "1"
    )
    assert done.returncode == 0, done.stdout
    assert "Cancel" in done.stdout


def test_a_called_ae_title_that_is_not_ours_is_rejected(setup: Setup) -> None:
    done = setup.call("echoscu", "-aec", "SOMEBODY")
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout


def test_a_certificate_opens_its_own_ae_title_only(setup: Setup) -> None:
    if not setup.tls:
        return  # in the clear there are no certificates
    names = setup.archive.certificate("MODALITY", setup.folder)
    done = run(
        "echoscu", *options_for_tls(names), "-aet", "IMPOSTOR", "-aec", "ISOCENTER",
        "127.0.0.1", setup.archive.tls_port,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stdout


def test_no_certificate_no_association(setup: Setup) -> None:
    if not setup.tls:
        return  # in the clear there are no certificates
    done = run("echoscu", "+tla", "-ic", "-aec", "ISOCENTER", "127.0.0.1", setup.archive.tls_port)
    assert done.returncode != 0
