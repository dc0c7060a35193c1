"""Comparison of an object with its other encoding: each difference is found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.comparison import find_difference
from isocenter.services.dicom.pixels.encoding import encode_frame
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from support.images import dataset_of, describe, pixels

JPEG_LS = BY_KEYWORD["jpeg-ls"].uid
IMPLICIT = BY_KEYWORD["implicit"].uid
IMAGE = describe(32, 32, bits=12)
ARRAYS = [pixels(IMAGE, seed) for seed in (1, 2)]


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        yield pool


def original() -> Dataset:
    dataset = dataset_of(IMAGE, ARRAYS)
    dataset.SOPInstanceUID = dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.3"
    item = Dataset()
    item.add_new(0x00080100, "SH", "T-D1100")
    dataset.AnatomicRegionSequence = [item]
    dataset.add_new(0x00091010, "LO", "odd")
    return dataset


def compressed(change: Callable[[Dataset], object] = lambda dataset: None) -> DicomObject:
    dataset = original()
    dataset.file_meta.TransferSyntaxUID = JPEG_LS
    frames = [encode_frame(each.tobytes(), IMAGE, JPEG_LS)[0] for each in ARRAYS]
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    change(dataset)
    return DicomObject.from_dataset(dataset)


def implicit() -> DicomObject:
    dataset = original()
    dataset.file_meta.TransferSyntaxUID = IMPLICIT
    return DicomObject.from_dataset(dataset)


@pytest.fixture(params=["explicit", "implicit"])
def before(request: pytest.FixtureRequest) -> DicomObject:
    if request.param == "implicit":
        return implicit()
    return DicomObject.from_dataset(original())


async def test_another_encoding_is_no_difference(before: DicomObject, pool: CodecPool) -> None:
    assert await find_difference(before, compressed(), pool) == ""


async def test_words_about_the_arrangement_of_samples_may_differ(
    before: DicomObject, pool: CodecPool
) -> None:
    def with_tables(dataset: Dataset) -> None:
        dataset.add_new(0x7FE00001, "OV", bytes(16))
        dataset.add_new(0x7FE00002, "OV", bytes(16))

    assert await find_difference(before, compressed(with_tables), pool) == ""


def _in_item(dataset: Dataset) -> None:
    dataset.AnatomicRegionSequence[0].CodeValue = "T-D1101"


def _one_item_more(dataset: Dataset) -> None:
    dataset.AnatomicRegionSequence = [*dataset.AnatomicRegionSequence, Dataset()]


@pytest.mark.parametrize(
    "change",
    [
        _in_item,
        _one_item_more,
        lambda dataset: setattr(dataset, "PatientID", "PIXELS-2"),
        lambda dataset: setattr(dataset, "Modality", ""),
        lambda dataset: delattr(dataset, "Modality"),
        lambda dataset: setattr(dataset, "ImageComments", "one more"),
        lambda dataset: dataset.add_new(0xFFFC0001, "OB", b"\0\0"),
    ],
)
async def test_another_element_is_found(
    before: DicomObject, pool: CodecPool, change: Callable[[Dataset], object]
) -> None:
    assert await find_difference(before, compressed(change), pool) != ""


async def test_another_sample_is_found(before: DicomObject, pool: CodecPool) -> None:
    def other(dataset: Dataset) -> None:
        array = ARRAYS[1].copy()
        array[5, 5] ^= 1
        frames = [encode_frame(each.tobytes(), IMAGE, JPEG_LS)[0] for each in (ARRAYS[0], array)]
        dataset.PixelData = encapsulate(frames)

    found = await find_difference(before, compressed(other), pool)
    assert found == "frame 2 has other samples"


async def test_a_missing_frame_is_found(pool: CodecPool) -> None:
    def fewer(dataset: Dataset) -> None:
        dataset.PixelData = encapsulate([encode_frame(ARRAYS[0].tobytes(), IMAGE, JPEG_LS)[0]])

    found = await find_difference(DicomObject.from_dataset(original()), compressed(fewer), pool)
    assert found == "1 frames instead of 2"


async def test_samples_that_are_called_otherwise_are_found(pool: CodecPool) -> None:
    def inverted(dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    found = await find_difference(DicomObject.from_dataset(original()), compressed(inverted), pool)
    assert found == "frame 1 is described otherwise"
