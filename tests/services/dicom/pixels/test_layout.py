"""The layout of an image, packed and unpacked again."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from isocenter.engine.dataset import DataSetError, encoding_of, map_of, read_file_meta
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import DESCRIBING
from isocenter.services.dicom.pixels.layout import ImageLayout
from support.images import dataset_of, describe, file_of, pixels

DATA = Path(pydicom.__file__).parent / "data" / "test_files"


def layout_of(content: bytes) -> ImageLayout:
    meta = read_file_meta(content)
    encoding = encoding_of(meta.transfer_syntax_uid)
    found = map_of(content[meta.data_set_offset :], encoding, DESCRIBING)
    return ImageLayout.of(found, meta.transfer_syntax_uid)


def test_packed_and_unpacked_again() -> None:
    compared = 0
    for path in DATA.glob("*.dcm"):
        try:
            layout = layout_of(path.read_bytes())
        except (DataSetError, ImageError, AssertionError):
            continue
        packed = layout.pack()
        again = ImageLayout.unpack(packed)
        assert again.description == layout.description, path.name
        assert list(again.index) == list(layout.index), path.name
        for name in ("tag", "value", "is_encapsulated", "is_big_endian", "swaps_words"):
            assert getattr(again, name) == getattr(layout, name), path.name
        assert again.is_verbatim == layout.is_verbatim
        assert again.pack() == packed
        compared += 1
    assert compared > 50


def test_few_bytes_for_a_single_image() -> None:
    image = describe(64, 64, bits=12)
    assert len(layout_of(file_of(dataset_of(image, [pixels(image)]))).pack()) < 100


@pytest.mark.parametrize("place", ["empty", "version", "cut"])
def test_what_nobody_has_packed(place: str) -> None:
    image = describe(4, 4)
    packed = layout_of(file_of(dataset_of(image, [pixels(image)]))).pack()
    wrong = {"empty": b"", "version": b"\xff" + packed[1:], "cut": packed[:-9]}[place]
    with pytest.raises(ValueError, match=r"frame index|layout"):
        ImageLayout.unpack(wrong)
