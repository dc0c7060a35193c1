"""Invariant: the header of a frame is read or refused; what passes fits the data set.

Input: a byte for the format, twelve for the image, the frame.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.services.dicom.pixels.codestreams import check_codestream, read_codestream
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import (
    BITS_ALLOCATED,
    BITS_STORED,
    COLUMNS,
    PIXEL_REPRESENTATION,
    ROWS,
    SAMPLES_PER_PIXEL,
    ImageDescription,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import Codec

_CODECS: Final = (Codec.JPEG, Codec.JPEG_LS, Codec.JPEG_2000, Codec.JPEG_XL, Codec.RLE)
_TAGS: Final = (
    ROWS, COLUMNS, SAMPLES_PER_PIXEL, BITS_ALLOCATED, BITS_STORED, PIXEL_REPRESENTATION
)  # fmt: skip


def run(data: bytes) -> None:
    if len(data) < 13:
        return
    values = {tag: data[1 + 2 * place : 3 + 2 * place] for place, tag in enumerate(_TAGS)}
    codec = _CODECS[data[0] % len(_CODECS)]
    frame = data[13:]
    try:
        image = ImageDescription.from_values(values)
        found = read_codestream(codec, frame)
        if found is None or codec is Codec.JPEG_XL:
            return
        assert 0 <= found.start <= len(frame)
        check_codestream(codec, found, image)
    except ImageError as fault:
        check_fault(fault)
        return
    announced = found.rows * found.columns * found.samples
    assert announced == image.rows * image.columns * image.samples_per_pixel
    assert found.precision <= image.bits_allocated <= 64
