"""Retrieval by instance, of frames, and without bulk data (PS3.4 Y, Z), read by pydicom."""

from __future__ import annotations

import io
import warnings
from functools import partial
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pack_bits

from isocenter.engine.dataset import EXPLICIT_LITTLE, Element, write_data_set
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import (
    BASIC_SYNTAXES,
    COMPOSITE_INSTANCE_GET,
    COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
)
from isocenter.services.service_classes.client import RetrieveError, open_association
from isocenter.services.service_classes.query_retrieve.composite_instance import (
    CompositeInstanceGetScp,
)
from isocenter.services.service_classes.query_retrieve.frame_request import (
    FrameError,
    FrameRequest,
    parse_frame_request,
)
from isocenter.services.service_classes.query_retrieve.frame_times import frame_times
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import opened, receive
from support.serving import port_of, serving

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.2"
RLE = "1.2.840.10008.1.2.5"
SIMPLE, CALCULATED, TIME = 0x00081161, 0x00081162, 0x00081163


def image(frames: int = 6, bits: int = 8, **attributes: Any) -> Dataset:
    """Frames of 3 × 5 pixels; the pixels of frame N are N + 1, or for single bits a pattern."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MULTI_FRAME, "1.2.3.4.1"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    data.PatientID, data.PatientName = "P1", "Bäcker^Anna"
    data.SpecificCharacterSet = "ISO_IR 192"
    data.Rows, data.Columns, data.SamplesPerPixel = 3, 5, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.NumberOfFrames = bits - 1, frames
    data.PixelData = packed(pixels(frames, bits), bits)
    data.add_new(0x00091001, "LO", "of nobody")
    data.add_new(0x00090010, "LO", "SOMEBODY")
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    return data


def pixels(frames: int, bits: int) -> np.ndarray:
    if bits == 1:
        return np.array([[(n + k) % 3 == 0 for k in range(15)] for n in range(frames)], np.uint8)
    kind = np.uint16 if bits == 16 else np.uint8
    return np.repeat(np.arange(1, frames + 1, dtype=kind), 15).reshape(frames, 15)


def packed(array: np.ndarray, bits: int) -> bytes:
    if bits == 1:
        return bytes(pack_bits(array.ravel()))
    value = array.tobytes()
    return value + b"\0" * (len(value) & 1)


async def retrieved(
    data: Dataset,
    *keys: tuple[str, str],
    syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
    model: str = COMPOSITE_INSTANCE_GET,
    signatures: Any = None,
) -> tuple[Dataset, CStoreRequest]:
    """The one object that comes who asks so for *data*."""
    came: list[tuple[Dataset, CStoreRequest]] = []

    async def take(operation: Operation, request: CStoreRequest) -> int:
        body = b"".join(
            [bytes(piece) async for pieces in operation.fragments() for piece in pieces]
        )
        came.append((read(body, operation.context.transfer_syntax), request))
        return 0

    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    item = DicomObject.from_dataset(data)
    async with opened(MemoryStore()) as archive:
        archive.signatures = signatures
        async with await receive(
            archive,
            sop_class_uid=MULTI_FRAME,
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax_uid=syntax,
        ) as ingest:
            async for part, _ in item.parts():
                await ingest.write([part])
            await ingest.commit()
        async with (
            serving(CompositeInstanceGetScp(archive), StorageScp(archive)) as server,
            open_association(
                Peer("US", "127.0.0.1", port_of(server)),
                [
                    (model, BASIC_SYNTAXES),
                    *((MULTI_FRAME, (each,)) for each in (syntax, EXPLICIT_VR_LITTLE_ENDIAN)),
                ],
                scp_roles=[MULTI_FRAME],
            ) as association,
        ):
            identifier = partial(
                build_identifier, [("SOPInstanceUID", item.sop_instance_uid), *keys], None
            )
            result = await association.get(identifier, take, sop_class_uid=model)
            assert (result.completed, result.failed) == (1, 0)
    (one,) = came
    return one


def read(body: bytes, syntax: str) -> Dataset:
    meta = write_data_set(
        [(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) & 1))], EXPLICIT_LITTLE
    )
    return pydicom.dcmread(io.BytesIO(b"\0" * 128 + b"DICM" + meta + body), force=True)


FRAME = ("QueryRetrieveLevel", "FRAME")
IMAGE = ("QueryRetrieveLevel", "IMAGE")


async def test_an_instance_by_its_uid_alone() -> None:
    found, request = await retrieved(image(), IMAGE)
    assert request.affected_sop_instance_uid == found.SOPInstanceUID == "1.2.3.4.1"
    assert found.NumberOfFrames == 6


class Signing:
    """Says what it was asked to sign."""

    def __init__(self) -> None:
        self.uids: list[str] = []

    def signed(self, item: DicomObject, destination: str) -> DicomObject:
        self.uids.append(item.sop_instance_uid)
        return item


async def test_what_is_sent_of_an_object_is_signed_not_the_whole() -> None:
    signing = Signing()
    found, _ = await retrieved(image(), FRAME, ("SimpleFrameList", "2"), signatures=signing)
    assert signing.uids == [found.SOPInstanceUID]


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize(
    "syntax",
    [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN],
)
async def test_frames_become_an_object_of_their_own(syntax: str, bits: int) -> None:
    found, request = await retrieved(
        image(bits=bits), FRAME, ("SimpleFrameList", "2\\3\\6"), syntax=syntax
    )
    assert found.SOPInstanceUID != "1.2.3.4.1"
    assert request.affected_sop_instance_uid == found.SOPInstanceUID
    assert (found.NumberOfFrames, found.SOPClassUID) == (3, MULTI_FRAME)
    assert found.PixelData == packed(pixels(6, bits)[[1, 2, 5]], bits)
    assert (found.StudyInstanceUID, found.SeriesInstanceUID) == ("1.2.3", "1.2.3.4")
    assert found.PatientName == "Bäcker^Anna"
    (item,) = found.FrameExtractionSequence
    assert item.MultiFrameSourceSOPInstanceUID == "1.2.3.4.1"
    assert list(item.SimpleFrameList) == [2, 3, 6]
    (equipment,) = found.ContributingEquipmentSequence
    (purpose,) = equipment.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109105", "DCM")
    assert equipment.StationName == "US"
    assert not [element for element in found if element.tag.is_private]


async def test_compressed_frames_stay_as_they_are() -> None:
    data = image(frames=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.file_meta = FileMetaDataset()
        data.compress(RLE, pixels(4, 8).reshape(4, 3, 5), generate_instance_uid=False)
    found, _ = await retrieved(data, FRAME, ("CalculatedFrameList", "1\\4\\2"), syntax=RLE)
    assert found.NumberOfFrames == 2
    assert found.pixel_array.reshape(2, 15).tolist() == pixels(4, 8)[[0, 2]].tolist()
    assert list(found.FrameExtractionSequence[0].CalculatedFrameList) == [1, 4, 2]


async def test_an_object_of_frames_gives_another_one() -> None:
    first, _ = await retrieved(image(), FRAME, ("SimpleFrameList", "2\\3\\6"))
    again, _ = await retrieved(first, FRAME, ("SimpleFrameList", "3"))
    assert [item.MultiFrameSourceSOPInstanceUID for item in again.FrameExtractionSequence] == [
        "1.2.3.4.1",
        first.SOPInstanceUID,
    ]
    assert len(again.ContributingEquipmentSequence) == 2
    assert again.PixelData[:15] == b"\6" * 15


async def test_what_speaks_of_frames_follows() -> None:
    data = image(
        FrameIncrementPointer=[0x00181065, 0x00540080],
        FrameTimeVector=[0, 10, 20, 30, 40, 50],
        SliceVector=[1, 2, 3, 4, 5, 6],
        ConcatenationUID="1.2.3.9",
        RepresentativeFrameNumber=5,
    )
    data.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(6)]
    for number, item in enumerate(data.PerFrameFunctionalGroupsSequence, 1):
        content = Dataset()
        content.FrameAcquisitionNumber = number
        item.FrameContentSequence = [content]
    found, _ = await retrieved(data, FRAME, ("SimpleFrameList", "2\\4\\5"))
    assert list(found.FrameTimeVector) == [0, 50, 40]
    assert found.FrameDelay == 10
    assert list(found.SliceVector) == [2, 4, 5]
    assert [
        item.FrameContentSequence[0].FrameAcquisitionNumber
        for item in found.PerFrameFunctionalGroupsSequence
    ] == [2, 4, 5]
    assert "ConcatenationUID" not in found
    assert "RepresentativeFrameNumber" not in found


@pytest.mark.parametrize(
    ("wanted", "frame_time", "vector"),
    [("2\\4\\6", 80, None), ("1\\2\\4", None, [0, 40, 80]), ("3", 40, None)],
)
async def test_a_constant_time_stays_one_where_it_can(
    wanted: str, frame_time: float | None, vector: list[float] | None
) -> None:
    data = image(FrameIncrementPointer=0x00181063, FrameTime=40)
    found, _ = await retrieved(data, FRAME, ("SimpleFrameList", wanted))
    assert found.get("FrameTime") == frame_time
    assert (None if vector is None else list(found.FrameTimeVector)) == vector
    assert found.FrameIncrementPointer == (0x00181065 if vector else 0x00181063)


async def test_a_range_of_time() -> None:
    data = image(FrameIncrementPointer=0x00181063, FrameTime=40)
    found, _ = await retrieved(data, FRAME, ("TimeRange", "0.04\\0.13"))
    assert found.PixelData[:45] == b"\2" * 15 + b"\3" * 15 + b"\4" * 15
    assert list(found.FrameExtractionSequence[0].TimeRange) == [0.04, 0.13]
    assert found.FrameDelay == 40


@pytest.mark.parametrize("syntax", [EXPLICIT_VR_LITTLE_ENDIAN, RLE])
async def test_without_bulk_data(syntax: str) -> None:
    data = image(frames=2, EncapsulatedDocument=b"%PDF")
    wave = Dataset()
    wave.NumberOfWaveformSamples, wave.WaveformBitsAllocated = 2, 8
    wave.WaveformData = b"\1\2"
    data.WaveformSequence = [wave]
    data.add_new(0x60003000, "OW", b"\1\0")
    data.add_new(0x60000010, "US", 3)
    icon = image(frames=1)
    data.IconImageSequence = [icon]
    if syntax == RLE:
        data.PixelData = encapsulate([b"\0" * 64, b"\0" * 64])
    found, _ = await retrieved(
        data, IMAGE, syntax=syntax, model=COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA
    )
    assert found.SOPInstanceUID == "1.2.3.4.1"
    for keyword in ("PixelData", "EncapsulatedDocument"):
        assert keyword not in found
    assert (0x6000, 0x3000) not in found
    assert found[0x60000010].value == 3
    assert "WaveformData" not in found.WaveformSequence[0]
    assert found.WaveformSequence[0].NumberOfWaveformSamples == 2
    assert len(found.IconImageSequence[0].PixelData) > 0
    assert found[0x00091001].value == "of nobody"


@pytest.mark.parametrize(
    ("keys", "model", "status"),
    [
        ([FRAME], COMPOSITE_INSTANCE_GET, 0xA900),
        ([FRAME, ("SimpleFrameList", "1"), ("TimeRange", "0\\1")], COMPOSITE_INSTANCE_GET, 0xA900),
        ([FRAME, ("SimpleFrameList", "7")], COMPOSITE_INSTANCE_GET, 0xAA00),
        ([FRAME, ("TimeRange", "0\\1")], COMPOSITE_INSTANCE_GET, 0xAA03),
        ([FRAME, ("CalculatedFrameList", "1\\2")], COMPOSITE_INSTANCE_GET, 0xAA04),
        ([("QueryRetrieveLevel", "STUDY")], COMPOSITE_INSTANCE_GET, 0xA900),
        ([], COMPOSITE_INSTANCE_GET, 0xA900),
        (
            [FRAME, ("SimpleFrameList", "1")],
            COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
            0xA900,
        ),
    ],
)
async def test_what_cannot_be_asked(keys: list[tuple[str, str]], model: str, status: int) -> None:
    with pytest.raises(RetrieveError) as caught:
        await retrieved(image(), *keys, model=model)
    assert caught.value.status == status


# PS3.4 Y.3.2.1.2 has this example.
@pytest.mark.parametrize(
    ("tag", "numbers", "count", "frames"),
    [
        (CALCULATED, (2, 9, 3, 12, 0xFFFFFFFF, 5), 25, (2, 5, 8, 12, 17, 22)),
        (CALCULATED, (1, 10, 4, 30, 40, 1), 9, (1, 5, 9)),
        (SIMPLE, (1, 3, 9), 5, (1, 3)),
    ],
)
def test_frame_lists(
    tag: int, numbers: tuple[int, ...], count: int, frames: tuple[int, ...]
) -> None:
    found = parse_frame_request(
        {tag: Element(tag, "UL", np.array(numbers, "<u4").tobytes())}, EXPLICIT_LITTLE
    )
    assert found == FrameRequest(tag, numbers)
    assert found.frames(count) == tuple(number - 1 for number in frames)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (SIMPLE, np.array([0], "<u4")),
        (SIMPLE, np.array([2, 2], "<u4")),
        (SIMPLE, np.array([1, 2], "<u2")[:1]),
        (CALCULATED, np.array([1, 5, 0], "<u4")),
        (CALCULATED, np.array([5, 1, 1], "<u4")),
        (CALCULATED, np.array([1, 5, 1, 5, 9, 1], "<u4")),
        (CALCULATED, np.array([1, 0xFFFFFFFF, 1, 5, 9, 1], "<u4")),
        (TIME, np.array([1.0], "<f8")),
        (TIME, np.array([1.0, 0.0], "<f8")),
        (TIME, np.array([np.nan, 1.0], "<f8")),
    ],
)
def test_what_is_no_frame_range(tag: int, value: np.ndarray) -> None:
    with pytest.raises(FrameError):
        parse_frame_request({tag: Element(tag, "UN", value.tobytes())}, EXPLICIT_LITTLE)


def test_one_key_says_which_frames() -> None:
    for tags in ((), (SIMPLE, TIME)):
        given = {tag: Element(tag, "UN", b"\1\0\0\0") for tag in tags}
        with pytest.raises(IdentifierError):
            parse_frame_request(given, EXPLICIT_LITTLE)


def test_times_that_go_back_are_found_by_each_of_them() -> None:
    request = FrameRequest(TIME, seconds=(0.5, 1.5))
    assert request.frames(4, (1.0, 0.0, 1.2, 3.0)) == (0, 2)
    with pytest.raises(FrameError):
        request.frames(2, (0.0, 3.0))


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "infinity"])
def test_times_that_are_no_numbers_are_none(text: str) -> None:
    value = f"0\\{text}".encode()
    vector = Element(0x00181065, "DS", value + b" " * (len(value) & 1))
    tree = DataSetTree(memoryview(write_data_set([vector], EXPLICIT_LITTLE)), EXPLICIT_LITTLE)
    assert frame_times(tree, 2) is None
