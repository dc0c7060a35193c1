"""Objects on their way out: what their parts are, as they are and converted."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject, MemoryReader
from support.studies import instance

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


async def parts_of(item: DicomObject, target: str | None = None) -> list[bytes]:
    return [bytes(part) async for part, _ in item.parts(target)]


def read(data_set: bytes, syntax: pydicom.uid.UID) -> pydicom.Dataset:
    if syntax.is_deflated:
        data_set = zlib.decompress(data_set, wbits=-zlib.MAX_WBITS)
    return pydicom.filereader.read_dataset(
        io.BytesIO(data_set), syntax.is_implicit_VR, syntax.is_little_endian
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("target", SYNTAXES)
async def test_a_pydicom_data_set_goes_out_in_any_uncompressed_syntax(
    syntax: pydicom.uid.UID, target: pydicom.uid.UID
) -> None:
    item = instance(rows=64)
    item.file_meta.TransferSyntaxUID = syntax
    parts = await parts_of(DicomObject.from_dataset(item), target)
    # Each part ends a fragment; some peers abort where one is odd.
    assert all(len(part) % 2 == 0 for part in parts)
    came = read(b"".join(parts), target)
    assert not came.group_dataset(0x0002)
    for name in ("SOPInstanceUID", "PatientName", "Rows"):
        assert came[name].value == item[name].value
    if target.is_little_endian and syntax.is_little_endian:
        assert came.PixelData == item.PixelData


async def test_a_deflated_object_of_odd_length_gets_its_nul() -> None:
    """PS3.5 A.5; DCMTK aborts the association without it."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(b"\0" * 7) + compressor.flush()
    deflated += b"" if len(deflated) % 2 else b"x"

    async def open_object() -> ObjectReader:
        return MemoryReader(deflated)

    item = DicomObject(
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=DeflatedExplicitVRLittleEndian,
        open=open_object,
    )
    assert b"".join(await parts_of(item)) == deflated + b"\0"


async def test_what_the_head_of_a_file_was_forgiven_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By UID, as all that is forgiven; a UID that is none is not shown."""
    data = b"\x08\0\x16\0UI\x04\x001.2\0" + b"\x08\0\x18\0UI\x04\x001.3\0"
    for content, name in ((data, "1.3"), (data[:-4] + b"a/b\0", "(no UID)")):
        (tmp_path / "bare").write_bytes(content)
        with caplog.at_level("INFO", logger="isocenter.objects"):
            await DicomObject.from_file(tmp_path / "bare")
        assert caplog.messages[-1] == f"instance {name}: no File Meta Information"
