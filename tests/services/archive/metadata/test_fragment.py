"""Fragments of metadata: as JSON, with the URL of the instance where it belongs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from isocenter.engine.dataset import encoding_of, read_file_meta
from isocenter.services.archive.metadata.fragment import (
    dictionary_of,
    fragment_of,
    layout_of,
    pack_fragment,
    unpack_fragment,
    with_url,
)
from isocenter.services.archive.metadata.header import read_header
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.objects import MemoryReader
from isocenter.services.dicom.pixels.layout import ImageLayout
from support.images import dataset_of, describe, file_of, pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
URL = "http://archive.example/dicomweb/studies/1.2/series/3/instances/4"


async def made_of(content: bytes) -> tuple[bytes, bytes, StoredInstance]:
    meta = read_file_meta(content)
    stored = StoredInstance(
        sop_instance_uid="4",
        sop_class_uid="1.2",
        study_instance_uid="1.2",
        series_instance_uid="3",
        transfer_syntax_uid=meta.transfer_syntax_uid,
        object_key="a/b",
        size=len(content),
        data_set_offset=meta.data_set_offset,
        digest="",
    )
    encoding = encoding_of(meta.transfer_syntax_uid)
    header = await read_header(MemoryReader(content), meta.data_set_offset, encoding)
    return fragment_of(header, stored), layout_of(header, stored), stored


async def metadata_of(content: bytes) -> dict[str, Any]:
    fragment, _, _ = await made_of(content)
    found: dict[str, Any] = json.loads(with_url(fragment, URL))
    return found


def image(**values: object) -> Dataset:
    described = describe(4, 4)
    made = dataset_of(described, [pixels(described)])
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "JPEG2000.dcm", "rtplan.dcm", "waveform_ecg.dcm", "image_dfl.dcm",
     "MR_small_bigendian.dcm", "MR_truncated.dcm", "693_J2KI.dcm"],
)  # fmt: skip
async def test_all_that_pydicom_sees(name: str) -> None:
    content = (DATA / name).read_bytes()
    sent = pydicom.dcmread(DATA / name)
    found = await metadata_of(content)
    expected = {f"{element.tag:08X}" for element in sent if element.tag & 0xFFFF}
    expected.discard("FFFCFFFC")
    assert set(found) == expected | {"00081190", "00083002"}
    assert list(found) == sorted(found)
    assert found["00081190"] == {"vr": "UR", "Value": [URL]}
    assert found["00083002"]["Value"] == [sent.file_meta.TransferSyntaxUID]
    if "PixelData" in sent:
        assert found["7FE00010"]["BulkDataURI"] == f"{URL}/bulkdata/7FE00010"
        assert "Value" not in found["7FE00010"]


async def test_what_the_object_says_of_them_is_left_out() -> None:
    made = image(RetrieveURL="http://elsewhere.example/", InstanceNumber="7")
    made.AvailableTransferSyntaxUID = ["1.2.3", "1.2.4"]
    found = await metadata_of(file_of(made))
    assert found["00081190"]["Value"] == [URL]
    assert found["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert found["00200013"]["Value"] == [7]


async def test_values_that_look_like_marks_stay() -> None:
    odd = 'x\x01y"BulkDataURI":"/bulkdata/00100010"'
    made = image(PatientComments=odd, ImageComments="\\u0001")
    made.IconImageSequence = [Dataset()]
    made.IconImageSequence[0].PatientComments = odd
    found = await metadata_of(file_of(made))
    assert found["00104000"]["Value"] == [odd]
    assert found["00204000"]["Value"] == ["\\u0001"]
    assert found["00880200"]["Value"][0]["00104000"]["Value"] == [odd]


async def test_bulk_data_within_sequences_have_their_place() -> None:
    made = image()
    made.WaveformSequence = [Dataset(), Dataset()]
    for item in made.WaveformSequence:
        item.add_new(0x54001010, "OW", bytes(4000))
    found = await metadata_of(file_of(made))
    uris = [item["54001010"]["BulkDataURI"] for item in found["54000100"]["Value"]]
    assert uris == [f"{URL}/bulkdata/54000100/{number}/54001010" for number in (1, 2)]


async def test_layouts_are_those_of_the_images() -> None:
    described = describe(6, 5, bits=12)
    made = dataset_of(described, [pixels(described, seed) for seed in range(3)])
    _, packed, _ = await made_of(file_of(made))
    layout = ImageLayout.unpack(packed)
    assert len(layout.index) == 3
    assert layout.description.rows == 6
    assert layout.is_verbatim


@pytest.mark.parametrize("name", ["rtplan.dcm", "image_dfl.dcm", "no_meta"])
async def test_no_layout_where_there_are_no_frames_to_be_found(name: str) -> None:
    if name == "no_meta":
        described = describe(4, 4)
        made = dataset_of(described, [pixels(described)])
        del made.Rows
        content = file_of(made)
    else:
        content = (DATA / name).read_bytes()
    _, packed, _ = await made_of(content)
    assert packed == b""


async def test_packed_by_another_they_take_little_room() -> None:
    ct = pydicom.dcmread(DATA / "CT_small.dcm")
    first, _, _ = await made_of(file_of(ct))
    changes: Mapping[str, object] = {"InstanceNumber": "77", "SliceLocation": "-12.5"}
    for name, value in changes.items():
        setattr(ct, name, value)
    ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    second, _, _ = await made_of(file_of(ct))
    dictionary = dictionary_of(first)
    packed = pack_fragment(second, dictionary)
    assert unpack_fragment(packed, dictionary) == second
    assert len(packed) < len(second) / 30
    assert unpack_fragment(pack_fragment(first, b""), b"") == first
