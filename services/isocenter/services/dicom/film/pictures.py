"""Pictures for films: images of DICOM objects and picture files, as printers take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import trio

from isocenter.services.dicom.creation.errors import UnknownSourceError
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.creation.raster_pictures import read_raster
from isocenter.services.dicom.pixels.frames import ImageObject
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.rendering.options import PNG, RenderOptions
from isocenter.services.dicom.pixels.rendering.renderer import render

#: ITU-R BT.601: what red, green and blue weigh in gray.
_WEIGHTS: Final = (0.299, 0.587, 0.114)
#: Of a DICOM file (PS3.10 7.1).
_PREAMBLE: Final = 128
_PREFIX: Final = b"DICM"
_MOST_PICTURE: Final = 512 << 20


async def read_picture(path: Path) -> Picture | None:
    """A picture file; None: it is none.

    Raises:
        SourceError, CodecUnavailableError: it cannot be read.
        OSError: nor the file.
    """
    data = await trio.to_thread.run_sync(path.read_bytes)
    if data[_PREAMBLE : _PREAMBLE + len(_PREFIX)] == _PREFIX:
        return None  # some files are both; of DICOM is known how it is looked at
    try:
        return await trio.to_thread.run_sync(lambda: read_raster(data, most=_MOST_PICTURE))
    except UnknownSourceError:
        return None


async def rendered_picture(
    source: ImageObject | str | Path,
    pool: CodecPool,
    *,
    frame: int = 1,
    options: RenderOptions | None = None,
) -> Picture:
    """A frame of an object as it is looked at.

    Args:
        options: of which the media type is PNG.

    Raises:
        RenderOptionError, PixelError, DataSetError, OSError: as of `render`.
    """
    made = await render(source, pool, frame=frame, options=options or RenderOptions(media_type=PNG))
    return await trio.to_thread.run_sync(read_raster, made.content)


def for_printer(picture: Picture, *, is_colour: bool) -> tuple[ImageDescription, bytes]:
    """The first frame as image boxes take it: gray of 8 or 12 bits, or 8 bits of each colour by
    plane."""
    import numpy as np

    image = picture.image
    pixels: Any = np.frombuffer(
        picture.frames[0], "<u1" if image.bits_allocated == 8 else "<u2"
    ).reshape(image.shape)
    if is_colour:
        if pixels.dtype.itemsize > 1:
            pixels = (pixels >> 8).astype(np.uint8)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        described = ImageDescription(
            rows=image.rows,
            columns=image.columns,
            samples_per_pixel=3,
            photometric_interpretation="RGB",
            planar_configuration=1,
        )
        return described, planes.tobytes()
    if pixels.ndim == 3:
        pixels = np.rint(pixels @ np.asarray(_WEIGHTS)).astype(pixels.dtype)
    if pixels.dtype.itemsize > 1:
        pixels = pixels >> 4
        described = ImageDescription(
            rows=image.rows, columns=image.columns, bits_allocated=16, bits_stored=12, high_bit=11
        )
        return described, np.ascontiguousarray(pixels, "<u2").tobytes()
    described = ImageDescription(rows=image.rows, columns=image.columns)
    return described, np.ascontiguousarray(pixels).tobytes()
