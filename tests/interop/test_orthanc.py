"""Orthanc as a modality and as a C-MOVE destination, and as a server for our clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from support.corpus import by_uid, data_set_bytes, storable_files, syntax_of
from support.five_commands import OurCommands
from support.peers import Orthanc, orthanc
from support.ports import free_port
from support.processes import ServedArchive, options_for_tls, served_archive
from support.studies import ROOT, write_studies

pytestmark = [
    pytest.mark.interop("Orthanc"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

#: Of pydicom's bundled files: one compressed object of each kind.
COMPRESSED = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
)


@dataclass
class Pair:
    """An archive of ours and an Orthanc that know each other."""

    archive: ServedArchive
    orthanc: Orthanc
    ours: OurCommands
    sent: list[Path]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mutual-tls"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder, tls = tmp_path_factory.mktemp("orthanc"), request.param
    dicom_port, move_port = free_port(), free_port()
    config = folder / "isocenter.toml"
    config.write_text(
        f'peers = [{{ ae_title = "ORTHANC", host = "127.0.0.1", port = {dicom_port}, '
        f"tls = {str(tls).lower()} }}]\n"
    )
    certificates = folder / "certificates"
    certificates.mkdir()
    studies = write_studies(folder / "sent")
    with served_archive(folder / "archive", "--config", config, tls=tls) as archive:
        modalities: dict[str, dict[str, object]] = {
            "isocenter": {
                "AET": "ISOCENTER",
                "Host": "127.0.0.1",
                "Port": archive.tls_port if tls else archive.port,
                "UseDicomTls": tls,
            },
            # What our commands say they are; where MOVER listens, Orthanc sends in the clear.
            "modality": {"AET": "MODALITY", "Host": "127.0.0.1", "Port": free_port()},
            "mover": {"AET": "MOVER", "Host": "127.0.0.1", "Port": move_port},
        }
        with orthanc(
            folder / "orthanc",
            modalities=modalities,
            dicom_port=dicom_port,
            tls=archive.certificate("ORTHANC", certificates) if tls else None,
        ) as peer:
            security = (
                options_for_tls(archive.certificate("MODALITY", certificates), style="ours")
                if tls
                else []
            )
            ours = OurCommands("ORTHANC", dicom_port, studies, move_port, security)
            compressed = {syntax_of(path): path for path in storable_files()}
            sent = [*studies, *(compressed[syntax] for syntax in COMPRESSED)]
            for path in sent:
                peer.post("/instances", path.read_bytes())
            yield Pair(archive, peer, ours, sent)


def _is_same(one: Path, other: Path) -> bool:
    """Whether both are the same object.  Orthanc writes the lengths of sequences anew; where
    there are none, every bit has to be the same."""
    first, second = pydicom.dcmread(one), pydicom.dcmread(other)
    if syntax_of(one) != syntax_of(other) or first != second:
        return False
    has_sequences = any(element.VR == "SQ" for element in first)
    return has_sequences or data_set_bytes(one) == data_set_bytes(other)


def _kept_by_orthanc(peer: Orthanc, folder: Path) -> dict[str, Path]:
    for number in peer.get("/instances"):
        (folder / f"{number}.dcm").write_bytes(peer.get_bytes(f"/instances/{number}/file"))
    return by_uid(sorted(folder.iterdir()))


# Orthanc as a modality.  The tests follow one another: what is stored is asked for.


def test_orthanc_verifies_us(pair: Pair) -> None:
    pair.orthanc.post("/modalities/isocenter/echo", {})


def test_orthanc_stores_into_us(pair: Pair) -> None:
    answer = pair.orthanc.post(
        "/modalities/isocenter/store",
        {"Resources": pair.orthanc.get("/studies"), "Synchronous": True},
    )
    assert answer["FailedInstancesCount"] == 0
    assert answer["InstancesCount"] == len(pair.sent)
    kept, sent = by_uid(pair.archive.objects()), by_uid(pair.sent)
    assert kept.keys() == sent.keys()
    for uid, path in sent.items():
        assert _is_same(kept[uid], path), uid


@pytest.mark.parametrize(
    ("level", "query", "unique"),
    [
        ("Patient", {"PatientID": "P1"}, {"P1"}),
        ("Study", {"PatientID": "NOBODY"}, set()),
        ("Study", {"PatientID": "P1", "StudyInstanceUID": ""}, {f"{ROOT}.1", f"{ROOT}.2"}),
        ("Study", {"PatientName": "müller*"}, {f"{ROOT}.1", f"{ROOT}.2"}),
        ("Series", {"StudyInstanceUID": f"{ROOT}.1"}, {f"{ROOT}.1.1", f"{ROOT}.1.2"}),
        (
            "Instance",
            {"StudyInstanceUID": f"{ROOT}.1", "SeriesInstanceUID": f"{ROOT}.1.2"},
            {f"{ROOT}.1.2.1", f"{ROOT}.1.2.2"},
        ),
    ],
)
def test_orthanc_finds(pair: Pair, level: str, query: dict[str, str], unique: set[str]) -> None:
    names = {
        "Patient": "PatientID",
        "Study": "StudyInstanceUID",
        "Series": "SeriesInstanceUID",
        "Instance": "SOPInstanceUID",
    }
    asked = pair.orthanc.post("/modalities/isocenter/query", {"Level": level, "Query": query})
    answers = pair.orthanc.get(f"/queries/{asked['ID']}/answers?expand&simplify")
    assert {answer[names[level]] for answer in answers} == unique


def test_orthanc_has_us_move_to_it(pair: Pair, tmp_path: Path) -> None:
    pair.orthanc.delete_everything()
    sent = by_uid(pair.sent)
    asked = pair.orthanc.post(
        "/modalities/isocenter/query", {"Level": "Study", "Query": {"StudyInstanceUID": ""}}
    )
    pair.orthanc.post(
        f"/queries/{asked['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True}
    )
    came = _kept_by_orthanc(pair.orthanc, tmp_path)
    assert came.keys() == sent.keys()
    for uid, path in sent.items():
        assert _is_same(came[uid], path), uid


# Orthanc as a server.


def test_our_commands_against_orthanc(pair: Pair, tmp_path: Path) -> None:
    pair.orthanc.delete_everything()
    pair.ours.check_echo()
    pair.ours.check_store()
    assert len(pair.orthanc.get("/instances")) == len(pair.ours.sent)
    pair.ours.check_find()
    pair.ours.check_get(tmp_path / "got")
    pair.ours.check_move(tmp_path / "moved")


def test_our_storescu_sends_compressed_objects(pair: Pair, tmp_path: Path) -> None:
    pair.orthanc.delete_everything()
    sent = [
        path
        for path in pair.sent
        if pydicom.dcmread(path).file_meta.TransferSyntaxUID in COMPRESSED
    ]
    done = pair.ours("storescu", *sent)
    assert done.returncode == 0, done.stdout
    came = _kept_by_orthanc(pair.orthanc, tmp_path)
    for uid, path in by_uid(sent).items():
        assert _is_same(came[uid], path), uid


def test_our_find_without_permission_fails_with_a_line_that_says_so(pair: Pair) -> None:
    """Orthanc 1.10 refuses AE titles that it does not know."""
    done = pair.ours("findscu", "-S", "-L", "STUDY", "-k", "StudyInstanceUID", "-aet", "STRANGER")
    assert done.returncode != 0
    assert len(done.stdout.splitlines()) == 1
