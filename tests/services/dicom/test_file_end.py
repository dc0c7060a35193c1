"""Files with something behind their data set: found, imported and sent without it."""

from __future__ import annotations

import zlib
from pathlib import Path

import pydicom
import pytest

from isocenter.services.cli import main
from isocenter.services.dicom.file_end import end_of_data_set
from isocenter.services.dicom.file_recognition import HEAD_BYTES, identify
from isocenter.services.dicom.objects import DicomObject

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
GARBAGE = b"<html>not found</html>\r\n" * 3


async def sent(path: Path) -> bytes:
    item = await DicomObject.from_file(path)
    return b"".join([bytes(part) async for part, _ in item.parts()])


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "image_dfl.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm"]
)
async def test_what_is_behind_is_left_out(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (DATA / name).read_bytes()
    path = tmp_path / "a.dcm"
    path.write_bytes(content + GARBAGE)
    # Behind the deflate stream is a check sum of 8 bytes, which is not its own, either.
    behind = 8 if name == "image_dfl.dcm" else 0
    data_set = content[identify(content).data_set_offset : len(content) - behind]
    with caplog.at_level("INFO", logger="isocenter.objects"):
        assert await sent(path) == data_set + bytes(len(data_set) % 2)
    assert f"{len(GARBAGE) + behind} bytes behind the data set, left out" in caplog.messages[-1]
    with path.open("rb") as file:
        assert end_of_data_set(file, identify(path.read_bytes())) == len(content) - behind


async def test_of_files_that_are_longer_than_their_head(tmp_path: Path) -> None:
    content = (DATA / "CT_small.dcm").read_bytes()
    at = content.index(bytes.fromhex("e07f1000 4f570000")) + 8
    length = 2 * HEAD_BYTES
    whole = content[:at] + length.to_bytes(4, "little") + b"\1" * length
    path = tmp_path / "long.dcm"
    path.write_bytes(whole + GARBAGE)
    assert (await sent(path))[-length:] == b"\1" * length


async def test_a_deflated_one_that_was_cut_is_no_other(tmp_path: Path) -> None:
    content = (DATA / "image_dfl.dcm").read_bytes()
    identity = identify(content)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(content[identity.data_set_offset :])
    assert inflater.eof
    path = tmp_path / "cut.dcm"
    path.write_bytes(content[:-40])
    with path.open("rb") as file:
        assert end_of_data_set(file, identity) is None


def test_import_takes_such_files_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    plain = (DATA / "CT_small.dcm").read_bytes()
    bare = plain[identify(plain).data_set_offset :]
    (source / "behind.dcm").write_bytes(plain + GARBAGE)
    mr = (DATA / "MR_small.dcm").read_bytes()
    (source / "bare").write_bytes(mr[identify(mr).data_set_offset :] + GARBAGE)
    (source / "deflated.dcm").write_bytes((DATA / "image_dfl.dcm").read_bytes() + GARBAGE)
    data = tmp_path / "data"
    assert main(["import", "--data-dir", str(data), str(source)]) == 0
    captured = capsys.readouterr()
    assert "3 imported" in captured.out
    assert captured.err.count(" bytes behind the data set, left out") == 3
    kept = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert any(bare in content for content in kept)
    assert not any(GARBAGE in content for content in kept)
    (source / "cut.dcm").write_bytes((DATA / "JPEG2000.dcm").read_bytes()[:-40])
    assert main(["import", "--data-dir", str(data), str(source)]) == 1
    captured = capsys.readouterr()
    assert "damaged: " in captured.err
    assert "3 were there already" in captured.out
