"""`dcmtoxml` and `xmltodcm` as they are typed."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pydicom
import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.services.cli import main

CT = "1.2.840.10008.5.1.4.1.1.2"


def make(path: Path) -> Path:
    elements = [
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00080016, "UI", CT.encode()),
        (0x00080018, "UI", b"1.2.3"),
        (0x00100010, "PN", "Müller^Ä".encode("latin-1")),
        (0x7FE00010, "OW", b"\1\0\2\0"),
    ]
    head = write_file_meta(CT, "1.2.3", "1.2.840.10008.1.2.1")
    path.write_bytes(head + write_data_set(elements, EXPLICIT_LITTLE))
    return path


@pytest.mark.parametrize("charset", ["UTF-8", "ISO-8859-1", "us-ascii", "UTF-16"])
def test_there_and_back(tmp_path: Path, charset: str) -> None:
    path, text, new = make(tmp_path / "ct"), tmp_path / "ct.xml", tmp_path / "new"
    options = ["--bulk-data", "inline", "--charset", charset]
    assert main(["dcmtoxml", str(path), str(text), *options]) == 0
    ET.fromstring(text.read_bytes())
    assert main(["xmltodcm", str(text), str(new)]) == 0
    data = path.read_bytes()
    assert new.read_bytes().endswith(data[data.index(b"\x08\0\x05\0") :])
    assert str(pydicom.dcmread(new).PatientName) == "Müller^Ä"


def test_standard_output_takes_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(make(tmp_path / "ct"))
    assert main(["dcmtoxml", path, "--no-meta", "-c"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert "00020010" not in line
    assert main(["dcmtoxml", path, path, path]) == 1
    assert main(["dcmtoxml", path, path, path, "-o", str(tmp_path / "out")]) == 2  # one name


@pytest.mark.parametrize("name", ["hex", "rot13", "idna", "utf-7", "unicode_escape", "no-such"])
def test_encodings_that_are_none(name: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["dcmtoxml", "x", "--charset", name])
    assert raised.value.code == 1


@pytest.mark.parametrize(
    "text",
    [b"", b"<a/>", b"\xff\xfe", b"<!DOCTYPE a><a/>", b"<NativeDicomModel/>", b"<NativeDicomModel>"],
)
def test_what_makes_no_file(tmp_path: Path, text: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.xml").write_bytes(text)
    assert main(["xmltodcm", str(tmp_path / "x.xml"), str(tmp_path / "x.dcm")]) == 2
    assert os.listdir(tmp_path) == ["x.xml"]
    assert len(capfd.readouterr().err.splitlines()) == 1
