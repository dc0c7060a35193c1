"""Long values: in files by path or descriptor, and encapsulated."""

from __future__ import annotations

import io
import os
from pathlib import Path
from tempfile import TemporaryFile

import pydicom
import pytest
from pydicom.encaps import generate_frames

from isocenter.services.dicom.long_values import (
    FileRange,
    Fragments,
    fragments_of_frames,
    fragments_of_stream,
)
from isocenter.services.dicom.model_file import write_model_file
from isocenter.services.dicom.model_reader import ModelElement, read_model


def test_a_range_by_path_and_by_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        for value in (FileRange(path, 10, 50), FileRange(file.fileno(), 10, 50)):
            assert b"".join(value.pieces(7)) == bytes(range(10, 60))
            assert value.read(45, 99) == bytes(range(55, 60))
            assert value.read(60, 1) == b""
            assert list(value.part(5, 2).pieces()) == [bytes([15, 16])]
            with value.opened() as opened:
                assert opened.seek(-3, os.SEEK_END) == 47
                assert opened.read() == bytes(range(57, 60))
                opened.seek(1)
                assert (opened.read(2), opened.tell()) == (bytes([11, 12]), 3)


def test_a_file_that_becomes_shorter_is_no_shorter_value() -> None:
    with TemporaryFile() as file:
        file.write(bytes(10))
        file.flush()
        value = FileRange(file.fileno(), 0, 20)
        with pytest.raises(OSError, match="shorter"):
            list(value.pieces())


def test_frames_are_fragments_with_a_table() -> None:
    frames = [b"odd", b"even", b""]
    value = fragments_of_frames(frames)
    content = b"".join(value.pieces())
    assert len(content) == value.length
    found = list(generate_frames(content + b"\xfe\xff\xdd\xe0\0\0\0\0"))
    assert [frame.rstrip(b"\0") for frame in found] == frames
    assert fragments_of_frames([b"one"]).table == b""


def test_a_stream_is_one_fragment(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"stream")
    assert fragments_of_stream(FileRange(path, 0, 6)) == Fragments(b"", [FileRange(path, 0, 6)])


@pytest.mark.parametrize("syntax", ["", "1.2.840.10008.1.2"])
def test_values_at_any_depth_are_written_as_they_lie(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"wave" * 500 + b"!")
    read = read_model(
        {
            "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.9.1.1"]},
            "00080018": {"vr": "UI", "Value": ["1.2.3"]},
            "00281199": {"vr": "UI", "Value": ["1.2"]},
            "54000100": {
                "vr": "SQ",
                "Value": [{"54001010": {"vr": "OW", "BulkDataURI": "x"}}, {}],
            },
        },
        fetch=lambda _: FileRange(path, 0, 2000),
    )
    read.elements[0x00189004] = ModelElement(0x00189004, "CS", FileRange(path, 0, 3))
    target = io.BytesIO()
    write_model_file(read, target, transfer_syntax_uid=syntax)
    found = pydicom.dcmread(io.BytesIO(target.getvalue()))
    first, second = found.WaveformSequence
    assert (first.WaveformData, len(second)) == (b"wave" * 500, 0)
    assert found.ContentQualification == "wav"
    assert found["ContentQualification"].value == "wav"


def test_files_are_read_where_there_is_no_pread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    path = tmp_path / "value"
    path.write_bytes(bytes(range(100)))
    monkeypatch.delattr(os, "pread")
    with path.open("rb", buffering=0) as file:
        for value in (FileRange(path, 10, 50), FileRange(file.fileno(), 10, 50)):
            assert value.read(5, 100) == bytes(range(15, 60))
            assert b"".join(value.pieces(7)) == bytes(range(10, 60))
            assert b"".join(value.part(20, 5).pieces()) == bytes(range(30, 35))
