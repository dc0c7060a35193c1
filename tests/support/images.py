"""Images made for tests: gradients and noise of every kind of sample, and objects around them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from isocenter.services.dicom.pixels.image import ImageDescription

Samples = NDArray[Any]


def describe(
    rows: int, columns: int, *, bits: int = 8, signed: bool = False, samples: int = 1, **more: Any
) -> ImageDescription:
    """An image of so many bits stored."""
    allocated = 1 if bits == 1 else 8 if bits <= 8 else 16 if bits <= 16 else 32
    made = ImageDescription(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=allocated,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=int(signed),
        photometric_interpretation="MONOCHROME2" if samples == 1 else "RGB",
    )
    return made.exchange(**more) if more else made


def pixels(image: ImageDescription, seed: int = 1) -> Samples:
    """A smooth picture with a little noise that uses the whole range."""
    random = np.random.default_rng(seed)
    y, x, s = np.meshgrid(
        np.arange(image.rows), np.arange(image.columns), np.arange(image.samples_per_pixel),
        indexing="ij",
    )  # fmt: skip
    wave = np.sin(x / 9 + s) * np.cos(y / 7 + seed) / 2 + 0.5
    top = (1 << image.bits_stored) - 1
    values = np.rint(wave * top + random.normal(0, top / 200, wave.shape)).clip(0, top)
    values[0, 0], values[-1, -1] = 0, top
    kind = "i" if image.is_signed else "u"
    whole = values.astype(np.int64) - (1 << image.bits_stored - 1) * image.is_signed
    width = max(image.bits_allocated // 8, 1)
    return whole.astype(f"<{kind}{width}").reshape(image.shape)


def dataset_of(image: ImageDescription, frames: Sequence[Samples]) -> Dataset:
    """An object of these frames, in Explicit VR Little Endian."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID = "DOE^WANDA", "PIXELS-1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.Modality = "OT"
    dataset.SamplesPerPixel = image.samples_per_pixel
    dataset.PhotometricInterpretation = image.photometric_interpretation
    if image.samples_per_pixel > 1:
        dataset.PlanarConfiguration = 0
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = image.rows, image.columns
    dataset.BitsAllocated, dataset.BitsStored = image.bits_allocated, image.bits_stored
    dataset.HighBit = image.high_bit
    dataset.PixelRepresentation = image.pixel_representation
    if image.bits_allocated == 1:
        joined = np.concatenate([each.reshape(-1) for each in frames])
        value = np.packbits(joined, bitorder="little").tobytes()
    else:
        value = b"".join(each.tobytes() for each in frames)
    dataset.PixelData = value + b"\0" * (len(value) & 1)
    dataset["PixelData"].VR = "OB" if image.bits_allocated <= 8 else "OW"
    return dataset


def file_of(dataset: Dataset) -> bytes:
    """The object as a Part 10 file."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
