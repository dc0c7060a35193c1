"""Objects far larger than what the server may hold: its memory stays where it was.

`ISOCENTER_TEST_LARGE_MB=1024` makes them as large as the promise says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.uid import generate_uid

from support.corpus import by_uid
from support.processes import (
    ServedArchive,
    isocenter_command,
    options_for_tls,
    run,
    served_archive,
)
from support.studies import instance, write_studies

pytestmark = [pytest.mark.interop("storescu", "getscu"), pytest.mark.slow]

MIB = 1 << 20
SIZE = int(os.environ.get("ISOCENTER_TEST_LARGE_MB", "200")) * MIB
#: By how much the server's resident memory may grow, whatever the object's size.
GROWTH = 64 * MIB
MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"
FRAME_ROWS = 1_024
_MARK_EVERY = 8 * MIB + 4_096


def write_large(path: Path, study: int) -> None:
    """A multi-frame object of `SIZE` bytes of pixels: a sparse file with a mark here and there."""
    item = instance(study, rows=FRAME_ROWS)
    item.SOPClassUID = MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE
    item.SOPInstanceUID = generate_uid(entropy_srcs=["large", str(study)])
    item.NumberOfFrames = SIZE // len(item.PixelData)
    del item.PixelData
    item.save_as(path, enforce_file_format=True)
    with path.open("r+b") as file:
        start = file.seek(0, os.SEEK_END)
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + SIZE.to_bytes(4, "little"))
        for position in range(0, SIZE - 16, _MARK_EVERY):
            file.seek(start + 12 + position)
            file.write(b"%016d" % position)
        file.truncate(start + 12 + SIZE)


def same_data_set(one: Path, other: Path) -> bool:
    """Compares from the end, as File Meta Information may differ in length."""
    with one.open("rb") as first, other.open("rb") as second:
        # All of the pixels, and some of what stands in front of them.
        left = SIZE + 256
        first.seek(-left, os.SEEK_END)
        second.seek(-left, os.SEEK_END)
        while left:
            piece = first.read(min(left, MIB))
            if piece != second.read(len(piece)):
                return False
            left -= len(piece)
    return True


def memory(archive: ServedArchive, field: str) -> int:
    """Resident memory of the server in bytes: VmRSS now, VmHWM at its peak."""
    status = Path(f"/proc/{archive.process.pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("large")
    try:
        with served_archive(folder, tls=True) as served:
            # Idle, but with everything loaded that storing needs.
            small = write_studies(folder / "small", studies=1, series=1)
            done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{served.port}", *small)
            assert done.returncode == 0, done.stdout
            yield served
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(("study", "tool"), [(11, "dcmtk"), (12, "ours"), (13, "ours over TLS")])
def test_memory_stays_flat_while_a_large_object_comes_and_goes(
    archive: ServedArchive, tmp_path: Path, study: int, tool: str
) -> None:
    idle = memory(archive, "VmRSS")
    sent, came = tmp_path / "sent.dcm", tmp_path / "came"
    write_large(sent, study)
    came.mkdir()
    key = f"StudyInstanceUID={instance(study).StudyInstanceUID}"
    try:
        if tool == "dcmtk":
            words = ("-aec", "ISOCENTER", "127.0.0.1", archive.port)
            done = run("storescu", "-v", "-R", *words, sent)
            assert "Received Store Response (Success)" in done.stdout, done.stdout
        else:
            words = _ours(archive, tmp_path, tool)
            done = isocenter_command("storescu", *words, sent)
            assert done.returncode == 0, done.stdout
        stored_peak = memory(archive, "VmHWM")
        if tool == "dcmtk":
            run("getscu", "+B", "-S", *words, "-k", "0008,0052=STUDY", "-k", key, "-od", came)
        else:
            done = isocenter_command(
                "getscu", *words, "-S", "-L", "STUDY", "-k", key, "-od", came, "--structure", "flat"
            )
            assert done.returncode == 0, done.stdout
        peak = memory(archive, "VmHWM")
        (kept,) = (path for path in archive.objects() if path.stat().st_size > SIZE)
        (got,) = (path for path in came.rglob("*") if path.is_file())
        assert by_uid([kept]).keys() == by_uid([sent]).keys() == by_uid([got]).keys()
        assert same_data_set(kept, sent)
        assert same_data_set(got, sent)
        kept.unlink()
    finally:
        shutil.rmtree(tmp_path)
    print(
        f"{tool}: idle {idle / MIB:.0f} MiB, peak {stored_peak / MIB:.0f} MiB after C-STORE, "
        f"{peak / MIB:.0f} MiB after C-GET of {SIZE / MIB:.0f} MiB"
    )
    assert stored_peak < idle + GROWTH
    assert peak < idle + GROWTH


@pytest.mark.parametrize(("study", "form"), [(14, "object"), (15, "metadata and bulk data")])
def test_memory_stays_flat_over_http(
    archive: ServedArchive, tmp_path: Path, study: int, form: str
) -> None:
    idle = memory(archive, "VmRSS")
    sent, came = tmp_path / "sent.dcm", tmp_path / "came.dcm"
    write_large(sent, study)
    uid = pydicom.dcmread(sent, stop_before_pixels=True).SOPInstanceUID
    try:
        if form == "object":
            headers = {"content-type": "application/dicom"}
            content = pieces_of(sent, 0)
        else:
            kind = "application/dicom+json"
            headers = {"content-type": f'multipart/related; type="{kind}"; boundary=b'}
            content = described(sent, kind)
        url = f"{archive.web_url}/studies"
        answer = httpx.post(url, content=content, headers=headers, timeout=600)
        assert answer.status_code == 200, answer.text
        stored_peak = memory(archive, "VmHWM")
        (stored,) = answer.json()["00081199"]["Value"]
        where = stored["00081190"]["Value"][0]
        accept = {"accept": "application/dicom; transfer-syntax=*"}
        with (
            httpx.stream("GET", where, headers=accept, timeout=600) as got,
            came.open("xb") as file,
        ):
            for piece in got.iter_bytes(MIB):
                file.write(piece)
        peak = memory(archive, "VmHWM")
        (kept,) = (path for path in archive.objects() if path.stat().st_size > SIZE)
        assert by_uid([kept]).keys() == by_uid([came]).keys() == {uid}
        assert same_data_set(kept, sent)
        assert same_data_set(came, sent)
        kept.unlink()
    finally:
        shutil.rmtree(tmp_path)
    print(
        f"{form} over HTTP: idle {idle / MIB:.0f} MiB, peak {stored_peak / MIB:.0f} MiB after "
        f"STOW-RS, {peak / MIB:.0f} MiB after WADO-RS of {SIZE / MIB:.0f} MiB"
    )
    assert peak < idle + GROWTH


def pieces_of(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(MIB):
            yield piece


def described(path: Path, kind: str) -> Iterator[bytes]:
    """The same object as metadata and its pixels."""
    model = pydicom.dcmread(path, stop_before_pixels=True).to_json_dict()
    model["7FE00010"] = {"vr": "OW", "BulkDataURI": "pixels"}
    yield f"--b\r\nContent-Type: {kind}\r\n\r\n{json.dumps([model])}\r\n--b\r\n".encode()
    yield b"Content-Type: application/octet-stream\r\nContent-Location: pixels\r\n\r\n"
    yield from pieces_of(path, path.stat().st_size - SIZE)
    yield b"\r\n--b--\r\n"


def _ours(archive: ServedArchive, folder: Path, tool: str) -> tuple[object, ...]:
    if tool == "ours":
        return (f"ISOCENTER@127.0.0.1:{archive.port}",)
    names = archive.certificate("MODALITY", folder)
    return (
        f"ISOCENTER@127.0.0.1:{archive.tls_port}", "-aet", "MODALITY",
        *options_for_tls(names, style="ours"),
    )  # fmt: skip
