"""DCMTK's programs that take one transfer syntax only get every image, whatever it is stored in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,  # type: ignore[attr-defined]
)

from isocenter.services.dicom.pixels.encoding import encode_frame
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from support.images import dataset_of, describe, file_of, pixels
from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_port,
    wait_until,
)

pytestmark = [
    pytest.mark.interop("getscu", "movescu", "storescp"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

STUDY = "1.2.826.0.1.3680043.10.1451.1"
#: Of each kind an image of two frames.
STORED = ("rle", "jpeg-lossless", "jpeg-ls", "jpeg2000", "htj2k", "jpegxl", "encapsulated")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"
IMPLICIT = "1.2.840.10008.1.2"
JPEG_LS = BY_KEYWORD["jpeg-ls"].uid


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder of files, and by SOP Instance UID what is in them."""
    folder = tmp_path_factory.mktemp("images")
    image = describe(40, 50, bits=12)
    wanted: dict[str, Any] = {}
    for number, keyword in enumerate(STORED):
        arrays = [pixels(image, seed) for seed in (number, number + 1)]
        frames = [encode_frame(a.tobytes(), image, BY_KEYWORD[keyword].uid)[0] for a in arrays]
        dataset = dataset_of(image, arrays)
        dataset.StudyInstanceUID = STUDY
        dataset.file_meta.TransferSyntaxUID = BY_KEYWORD["jpeg-ls"].uid
        dataset.PixelData = encapsulate(frames)
        dataset["PixelData"].VR = "OB"
        # pydicom knows no JPEG XL yet.
        content = file_of(dataset)
        uid = BY_KEYWORD[keyword].uid.encode()
        old = JPEG_LS.encode()
        old, uid = (each + b"\0" * (len(each) & 1) for each in (old, uid))
        at = content.index(old)
        length = content[at - 2 : at]
        assert length == len(old).to_bytes(2, "little")
        grown = len(uid) - len(old)
        group = int.from_bytes(content[140:144], "little") + grown
        content = (
            content[:140]
            + group.to_bytes(4, "little")
            + content[144 : at - 2]
            + len(uid).to_bytes(2, "little")
            + uid
            + content[at + len(old) :]
        )
        (folder / f"{keyword}.dcm").write_bytes(content)
        wanted[str(dataset.SOPInstanceUID)] = np.stack(arrays)
    return folder, wanted


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(
    port: int, images: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("archive")
    with served_archive(folder, "--peer", f"DEST@127.0.0.1:{port}") as archive:
        called = f"ISOCENTER@127.0.0.1:{archive.port}"
        stored = isocenter_command("storescu", called, images[0])
        assert stored.returncode == 0, stored.stdout
        yield archive


def check(folder: Path, wanted: dict[str, Any], syntax: str) -> None:
    got = {}
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == syntax
        got[str(dataset.SOPInstanceUID)] = dataset.pixel_array
    assert got.keys() == wanted.keys()
    for uid, array in wanted.items():
        assert (got[uid] == array).all()


def test_getscu_that_takes_no_compressed_syntax(
    archive: ServedArchive, images: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    got = run(
        "getscu", "+B", "-S", "-aec", "ISOCENTER", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={STUDY}", "-od", tmp_path, "127.0.0.1", archive.port,
    )  # fmt: skip
    assert got.returncode == 0, got.stdout
    check(tmp_path, images[1], BY_KEYWORD["explicit"].uid)


@pytest.mark.parametrize("keyword", ["implicit", "jpeg-ls", "jpeg2000"])
def test_pynetdicom_gets_the_one_syntax_that_it_takes(
    keyword: str, archive: ServedArchive, images: tuple[Path, dict[str, Any]]
) -> None:
    syntax = BY_KEYWORD[keyword].uid
    got: list[Dataset] = []

    def keep(event: Any) -> int:
        got.append(event.dataset)
        got[-1].file_meta = event.file_meta
        return 0

    ae = AE("GETSCU")
    model = StudyRootQueryRetrieveInformationModelGet
    ae.add_requested_context(model)
    ae.add_requested_context(SECONDARY_CAPTURE, syntax)
    role = build_role(SECONDARY_CAPTURE, scp_role=True)
    association = ae.associate(
        "127.0.0.1",
        archive.port,
        ae_title="ISOCENTER",
        ext_neg=[role],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = STUDY
    *_, (status, _) = association.send_c_get(identifier, model)
    association.release()
    assert status.Status == 0
    assert {each.file_meta.TransferSyntaxUID for each in got} == {syntax}
    if keyword == "implicit":
        for each in got:
            assert (each.pixel_array == images[1][str(each.SOPInstanceUID)]).all()
    assert len(got) == len(STORED)


def test_movescu_that_takes_implicit_vr_only(
    archive: ServedArchive, images: tuple[Path, dict[str, Any]], port: int, tmp_path: Path
) -> None:
    got = run(
        "movescu", "+xi", "-S", "-aec", "ISOCENTER", "-aem", "DEST", "+P", port,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}", "-od", tmp_path,
        "127.0.0.1", archive.port,
    )  # fmt: skip
    assert got.returncode == 0, got.stdout
    check(tmp_path, images[1], IMPLICIT)


def test_results_are_kept_for_the_next(archive: ServedArchive, tmp_path: Path) -> None:
    """The third retrieval decodes nothing any more."""
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        started = time.monotonic()
        got = run(
            "getscu", "-xi", "+B", "-S", "-aec", "ISOCENTER", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={STUDY}", "-od", folder, "127.0.0.1", archive.port,
        )  # fmt: skip
        assert got.returncode == 0, got.stdout
        assert time.monotonic() - started < 60
        assert len(list(folder.iterdir())) == len(STORED)


def test_storescu_to_a_peer_that_takes_implicit_vr_only(
    images: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    port, kept, log = free_port(), tmp_path / "kept", tmp_path / "log"
    kept.mkdir()
    with program("storescp", "+xi", "-od", kept, port, log=log) as receiver:
        wait_for_port(receiver, port, log)
        sent = isocenter_command("storescu", f"ANY@127.0.0.1:{port}", images[0])
        assert sent.returncode == 0, sent.stdout
        as_is = isocenter_command(
            "storescu", "--no-transcode", f"ANY@127.0.0.1:{port}", images[0] / "rle.dcm"
        )
        assert as_is.returncode == 1
        assert "accepted no presentation context" in as_is.stdout
    check(kept, images[1], IMPLICIT)


def sent(archive: ServedArchive) -> int:
    """How many objects the queue is done with."""
    done = isocenter_command(
        "queue", "list", "--json", "--state", "done", "--data-dir", archive.data_dir
    )
    assert done.returncode == 0, done.stdout
    return len(json.loads(done.stdout))


def test_rules_send_to_a_peer_that_takes_implicit_vr_only(
    images: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    port, kept, log = free_port(), tmp_path / "kept", tmp_path / "log"
    kept.mkdir()
    settings = tmp_path / "isocenter.toml"
    settings.write_text(
        f'peers = ["DEST@127.0.0.1:{port}"]\n[[rules]]\nname = "all"\nforward = ["DEST"]\n'
    )
    with program("storescp", "+xi", "-od", kept, port, log=log) as receiver:
        wait_for_port(receiver, port, log)
        with served_archive(tmp_path / "archive", "--config", settings) as archive:
            called = f"ISOCENTER@127.0.0.1:{archive.port}"
            stored = isocenter_command("storescu", called, images[0])
            assert stored.returncode == 0, stored.stdout
            wait_until(lambda: sent(archive) == len(STORED), archive.process, 60)
    check(kept, images[1], IMPLICIT)


def test_it_can_be_switched_off(images: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    settings = tmp_path / "isocenter.toml"
    settings.write_text("[transcoding]\nenabled = false\n")
    kept = tmp_path / "kept"
    kept.mkdir()
    with served_archive(tmp_path / "archive", "--config", settings) as archive:
        called = f"ISOCENTER@127.0.0.1:{archive.port}"
        assert isocenter_command("storescu", called, images[0]).returncode == 0
        run(
            "getscu", "-xi", "+B", "-S", "-aec", "ISOCENTER", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={STUDY}", "-od", kept, "127.0.0.1", archive.port,
        )  # fmt: skip
    assert not list(kept.iterdir())


#: A storescp that takes nothing but JPEG Baseline.
JPEG_ONLY = f"""
[[TransferSyntaxes]]
[OnlyJpeg]
TransferSyntax1 = JPEGBaseline
[[PresentationContexts]]
[All]
PresentationContext1 = {SECONDARY_CAPTURE}\\OnlyJpeg
[[Profiles]]
[OnlyJpeg]
PresentationContexts = All
"""


@pytest.mark.parametrize("is_lossy", [False, True])
def test_a_peer_that_takes_jpeg_baseline_only_gets_what_has_8_bits(
    is_lossy: bool, tmp_path: Path
) -> None:
    """With losses allowed; a native, a colour and a compressed one; 16 bits have no place there."""
    port, kept, log = free_port(), tmp_path / "kept", tmp_path / "log"
    kept.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "jpeg.cfg").write_text(JPEG_ONLY)
    settings = tmp_path / "isocenter.toml"
    lossy = str(is_lossy).lower()
    settings.write_text(f'peers = ["DEST@127.0.0.1:{port}"]\n[transcoding]\nlossy = {lossy}\n')
    wanted = {}
    for number, image in enumerate(
        (describe(32, 48), describe(32, 48, samples=3), describe(32, 48), describe(32, 48, bits=12))
    ):
        array = pixels(image, number)
        dataset = dataset_of(image, [array])
        dataset.StudyInstanceUID = STUDY
        if number == 2:
            dataset.file_meta.TransferSyntaxUID = JPEG_LS
            dataset.PixelData = encapsulate([encode_frame(array.tobytes(), image, JPEG_LS)[0]])
            dataset["PixelData"].VR = "OB"
        if number < 3:
            wanted[str(dataset.SOPInstanceUID)] = array
        (tmp_path / "in" / f"{number}.dcm").write_bytes(file_of(dataset))
    with (
        program(
            "storescp", "-xf", tmp_path / "jpeg.cfg", "OnlyJpeg", "-od", kept, port, log=log
        ) as receiver,
        served_archive(tmp_path / "archive", "--config", settings) as archive,
    ):
        wait_for_port(receiver, port, log)
        called = f"ISOCENTER@127.0.0.1:{archive.port}"
        assert isocenter_command("storescu", called, tmp_path / "in").returncode == 0
        moved = run(
            "movescu", "-v", "-S", "-aec", "ISOCENTER", "-aem", "DEST",
            "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}",
            "127.0.0.1", archive.port,
        )  # fmt: skip
        said = archive.log.read_text()
    if not is_lossy:
        assert list(kept.iterdir()) == []
        assert said.count("accepted no presentation context") == 4
        return
    assert "Failed" in moved.stdout or "Warning" in moved.stdout
    assert "JPEG Baseline has 8 bits without a sign" in said
    got = [pydicom.dcmread(path) for path in kept.iterdir()]
    sources = {str(each.SourceImageSequence[0].ReferencedSOPInstanceUID): each for each in got}
    assert sources.keys() == wanted.keys()
    for uid, array in wanted.items():
        found = sources[uid]
        assert found.file_meta.TransferSyntaxUID == BY_KEYWORD["jpeg-baseline"].uid
        assert (found.LossyImageCompression, found.ImageType[0]) == ("01", "DERIVED")
        assert str(found.SOPInstanceUID) != uid
        if found.SamplesPerPixel == 1:
            assert np.abs(found.pixel_array.astype(int) - array).max() < 24
