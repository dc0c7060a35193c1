"""Composition of a film: its images through the renderer, each into its box."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.film.density import TABLE_ENTRIES, TABLE_TOP
from isocenter.services.dicom.film.film import (
    ANNOTATIONS,
    Film,
    FilmImage,
    Magnification,
    PixelBox,
)
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.rendering.elements import (
    LUT_DATA,
    LUT_DESCRIPTOR,
    PRESENTATION_LUT_SHAPE,
    PRESENTATION_LUTS,
    Elements,
    FrameElements,
)
from isocenter.services.dicom.pixels.rendering.geometry import Geometry
from isocenter.services.dicom.pixels.rendering.options import (
    PNG,
    ColourSpace,
    RenderOptions,
    VoiFunction,
    Window,
)
from isocenter.services.dicom.pixels.rendering.output import encode
from isocenter.services.dicom.pixels.rendering.pipeline import StoredFrame, render_frame

Pixels = NDArray[Any]
_WHITE: Final = 255
#: Bytes of a pixel in colour.
_SAMPLES: Final = 3
#: Of the strip of annotations, what letters take, and what is left on either side.
_LETTERS: Final = 0.6
_MARGIN: Final = 0.3
#: Keys' cubic convolution.
_SHARPNESS: Final = -0.5


def compose(film: Film) -> tuple[bytes, ImageDescription]:
    """The film as a PNG, and what it is.

    Raises:
        PixelError: an image cannot be shown.
    """
    width, height = film.pixel_size
    is_colour = any(each is not None and each.image.samples_per_pixel > 1 for each in film.images)
    canvas = np.full(
        (height, width, _SAMPLES) if is_colour else (height, width), _border(film), np.uint8
    )
    empty = _gray(film, film.empty) if film.empty is not None else _border(film)
    images = [*film.images, *[None] * len(film.display_format.boxes)]
    for box, image in zip(film.boxes(), images, strict=False):
        if image is None:
            canvas[box.top : box.top + box.height, box.left : box.left + box.width] = empty
        else:
            _place(canvas, film, image, box)
    for position, text in enumerate(film.annotations[:ANNOTATIONS]):
        if text:
            canvas = _annotated(canvas, film, position, text)
    said = ImageDescription(
        rows=height,
        columns=width,
        samples_per_pixel=_SAMPLES if is_colour else 1,
        photometric_interpretation="RGB" if is_colour else "MONOCHROME2",
    )
    return encode(canvas, PNG, 100), said


def _border(film: Film) -> int:
    return _gray(film, film.densities.highest if film.border is None else film.border)


def _gray(film: Film, density: int) -> int:
    return round(film.densities.gray(density) * _WHITE)


def _place(canvas: Pixels, film: Film, image: FilmImage, box: PixelBox) -> None:
    pixels = rendered(film, image)
    placement = film.placement(image, box)
    magnification = image.magnification or film.magnification
    sized = resized(pixels, placement.width, placement.height, magnification, box)
    rows, columns = sized.shape[:2]
    row = box.top + (box.height - rows) // 2
    column = box.left + (box.width - columns) // 2
    if canvas.ndim == 3 and sized.ndim == 2:
        sized = sized[..., None]
    canvas[row : row + rows, column : column + columns] = sized
    if film.has_trim:
        line = _WHITE if _border(film) < _WHITE // 2 else 0
        _frame(canvas, row, column, rows, columns, max(film.dots_per_inch // 100, 1), line)


def _frame(
    canvas: Pixels, row: int, column: int, rows: int, columns: int, width: int, gray: int
) -> None:
    """A line around a rectangle, within it."""
    part = canvas[row : row + rows, column : column + columns]
    part[:width], part[-width:] = gray, gray
    part[:, :width], part[:, -width:] = gray, gray


def rendered(film: Film, image: FilmImage) -> Pixels:
    """The gray or the colours of an image, at its own size.

    Raises:
        PixelError: it cannot be shown.
    """
    described = image.image
    top = (1 << described.bits_stored) - 1
    options = RenderOptions(
        media_type=PNG,
        window=None
        if described.samples_per_pixel > 1
        else Window(top / 2, top, VoiFunction.LINEAR_EXACT),
        has_overlays=False,
        has_shutter=False,
        has_graphics=False,
        has_square_pixels=False,
        colour_space=ColourSpace.AS_STORED,
    )
    is_inverse = image.is_reverse is not (described.photometric_interpretation == "MONOCHROME1")
    elements = _presentation(film, image, is_inverse=is_inverse)
    frame = StoredFrame(image.data, described, EXPLICIT_VR_LITTLE_ENDIAN)
    pixels, _ = render_frame(
        frame,
        FrameElements(elements, 0),
        options,
        most=described.rows * described.columns * _SAMPLES,
    )
    if described.samples_per_pixel > 1:
        return _WHITE - pixels if image.is_reverse else pixels
    # A table is for the values that came; what it gives is then turned around.
    lut = image.lut or film.lut
    return _WHITE - pixels if is_inverse and not lut.shape else pixels


def _presentation(film: Film, image: FilmImage, *, is_inverse: bool) -> Elements:
    """What the renderer reads the presentation LUT from."""
    elements = Elements()
    lut = image.lut or film.lut
    if lut.shape == "LIN OD":
        table = (image.densities or film.densities).linear_table()
        if is_inverse:
            table.reverse()
        entries = np.asarray(table, "<u2").tobytes()
        first, bits = 0, TABLE_TOP.bit_length()
        count = TABLE_ENTRIES
    elif lut.shape:
        elements.values[PRESENTATION_LUT_SHAPE] = b"INVERSE" if is_inverse else b"IDENTITY"
        return elements
    else:
        entries, first, bits = lut.entries, lut.first, lut.bits
        count = len(entries) // 2
    item = Elements()
    item.values[LUT_DESCRIPTOR] = np.asarray([count & TABLE_TOP, first, bits], "<u2").tobytes()
    item.values[LUT_DATA] = entries
    elements.sequences[PRESENTATION_LUTS] = [item]
    return elements


def resized(
    pixels: Pixels,
    width: int,
    height: int,
    magnification: Magnification,
    box: PixelBox | None = None,
) -> Pixels:
    """The picture at another size.

    Each pixel of a smaller one is the mean of those that it covers, whatever the magnification
    type, but for REPLICATE.

    Args:
        box: of what is larger, only the middle is made: to enlarge a picture a thousand times
            takes no more than its box has room for.
    """
    rows, columns = pixels.shape[:2]
    down = _middle(height, box.height if box else height)
    across = _middle(width, box.width if box else width)
    if (columns, rows) == (width, height):
        return pixels[down.start : down.stop, across.start : across.stop]
    if magnification is Magnification.REPLICATE:
        taken: Pixels = pixels[np.array(down) * rows // height]
        return taken[:, np.array(across) * columns // width]
    if magnification is Magnification.CUBIC and width >= columns and height >= rows:
        if len(down) * columns <= rows * len(across):
            return _cubic(_cubic(pixels, height, down, 0), width, across, 1)
        return _cubic(_cubic(pixels, width, across, 1), height, down, 0)
    geometry = Geometry(
        left=across.start * columns / width,
        top=down.start * rows / height,
        right=across.stop * columns / width,
        bottom=down.stop * rows / height,
        width=len(across),
        height=len(down),
    )
    return geometry.apply(pixels)


def _middle(count: int, most: int) -> range:
    """The middle of *count* rows or columns, *most* of them."""
    start = max((count - most) // 2, 0)
    return range(start, start + min(count, most))


def _cubic(pixels: Pixels, count: int, seen: range, axis: int) -> Pixels:
    """Some of *count* rows (axis 0) or columns, interpolated between four each (Keys 1981)."""
    length = pixels.shape[axis]
    if count == length:
        return pixels.take(seen, axis=axis)
    center = (np.array(seen) + 0.5) * (length / count) - 0.5
    first = np.floor(center).astype(np.int64)
    shape = [1] * pixels.ndim
    shape[axis] = len(seen)
    total: Pixels = np.zeros((), np.float32)
    for tap in range(-1, 3):
        distance = np.abs(center - (first + tap))
        near = (_SHARPNESS + 2) * distance**3 - (_SHARPNESS + 3) * distance**2 + 1
        far = _SHARPNESS * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0)).astype(np.float32)
        places = (first + tap).clip(0, length - 1)
        total = total + pixels.take(places, axis=axis) * weight.reshape(shape)
    found: Pixels = np.floor(total + np.float32(0.5)).clip(0, _WHITE).astype(np.uint8)
    return found


def _annotated(canvas: Pixels, film: Film, position: int, text: str) -> Pixels:
    from isocenter.services.dicom.pixels.rendering.lettering import put

    strip = film.strip
    third, is_bottom = position % 3, position >= 3
    height, width = canvas.shape[:2]
    margin = round(strip * _MARGIN)
    x = (margin, width / 2, width - margin)[third]
    y = height - strip / 2 if is_bottom else strip / 2
    return put(canvas, text, max(round(strip * _LETTERS), 1), x, y, (third / 2, 0.5))
