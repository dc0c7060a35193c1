"""Files that somebody changed, through every tool: a result or a line, and nothing else."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from xml.etree import ElementTree as ET

import pydicom
import pytest

from isocenter.services.cli import main

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = ("CT_small.dcm", "rtplan.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm")
PAIRS = (("dcmtojson", "jsontodcm"), ("dcmtoxml", "xmltodcm"))


def changed(content: bytes, source: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(source.randint(1, 6)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + source.randint(1, 40)]
            case _:
                data[at:at] = source.randbytes(source.randint(1, 20))
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("there", "back"), PAIRS)
def test_a_result_or_a_fault(
    there: str, back: str, seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = random.Random(seed)
    content = (DATA / FILES[seed % len(FILES)]).read_bytes()
    dicom, text, again = (tmp_path / name for name in ("dicom", "text.x", "again.dcm"))
    dicom.write_bytes(changed(content, source))
    code = main([there, str(dicom), str(text), "--bulk-data", "inline"])
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    assert code in (0, 2)
    assert text.exists() is (code == 0)
    if code:
        assert len(errors.splitlines()) == 1
        text.write_bytes(b"x" * 50)
    elif there == "dcmtojson":
        json.loads(text.read_bytes())
    else:
        ET.fromstring(text.read_bytes())
    text.write_bytes(changed(text.read_bytes(), source) if seed % 2 else text.read_bytes())
    code = main([back, str(text), str(again)])
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    assert code in (0, 2)
    assert again.exists() is (code == 0)
    assert len(errors.splitlines()) == (1 if code else 0)
    assert set(os.listdir(tmp_path)) <= {"dicom", "text.x", "again.dcm"}


@pytest.mark.parametrize("seed", range(24))
def test_every_tool_ends_well(
    seed: int, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = random.Random(seed)
    content = (DATA / FILES[seed % len(FILES)]).read_bytes()
    path = tmp_path / "dicom"
    path.write_bytes(changed(content, source))
    before = path.read_bytes()
    str(tmp_path / "m")
    for words, made in (
        (["dcmdump", str(path)], None),
        (["dcmdump", "+L", str(path), "-s", "e"], None),
        (["dcminfo", "-v", str(path)], None),
        (
            ["dcmmodify", str(path), "-i", "PatientComments=x", "-nb", "-o", str(tmp_path / "m")],
            "m",
        ),
        (["dcmconv", str(path), str(tmp_path / "c"), "--implicit", "--to-utf8"], "c"),
    ):
        code = main(words)
        errors = capfdbinary.readouterr().err
        assert b"Traceback" not in errors, words
        assert code in (0, 2)
        if code:
            assert len(errors.splitlines()) <= 2
        if made is not None:
            assert (tmp_path / made).exists() is (code == 0)
            if code == 0:
                # What is written can be read.
                assert main(["dcmdump", str(tmp_path / made)]) == 0
                capfdbinary.readouterr()
    assert path.read_bytes() == before
    assert set(os.listdir(tmp_path)) <= {"dicom", "m", "c"}
