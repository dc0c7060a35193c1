"""Rendering of one frame to pixels of eight bits, gray or RGB.

What happens to them, in this order: decode, transform gray (modality, VOI, presentation) or
colours, shutter, overlays, then region, turn, flip and scale, and last what is drawn into the
picture at its own size.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.codestreams import read_codestream
from isocenter.services.dicom.pixels.decoding import decode_frame
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.rendering.colour import render_colour
from isocenter.services.dicom.pixels.rendering.elements import (
    FRAME_SHUTTERS,
    IMAGER_PIXEL_SPACING,
    PALETTE_DESCRIPTORS,
    PIXEL_ASPECT_RATIO,
    PIXEL_MEASURES,
    PIXEL_PRESENTATION,
    PIXEL_SPACING,
    FrameElements,
)
from isocenter.services.dicom.pixels.rendering.geometry import (
    Geometry,
    fit,
    natural_size,
    pixel_shape,
)
from isocenter.services.dicom.pixels.rendering.grayscale import GrayscaleRules, render_grayscale
from isocenter.services.dicom.pixels.rendering.icc import convert, profile_of
from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from isocenter.services.dicom.pixels.rendering.overlays import Overlay, overlays_of
from isocenter.services.dicom.pixels.rendering.palette import read_palette
from isocenter.services.dicom.pixels.rendering.presentation_state import PresentationState
from isocenter.services.dicom.pixels.rendering.reduced_frames import (
    decode_reduced,
    geometry_of_reduced,
    levels_for,
    sampled,
    step_for,
)
from isocenter.services.dicom.pixels.rendering.shutters import (
    bitmap_group_of,
    gray_of,
    has_shape,
    shutter_of,
)
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues, stored_values
from isocenter.services.dicom.pixels.transfer_syntaxes import Codec, viewable

Pixels = NDArray[Any]
_PALETTE: Final = "PALETTE COLOR"
#: What keeps all bits of a sample, whatever they mean.
_BITWISE: Final = frozenset((Codec.NONE, Codec.RLE, Codec.DEFLATE))
_WHITE: Final = 255
#: Of a picture in colour.
_SAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One frame as it lies in Pixel Data.

    Attributes:
        data: fragments joined.
        image: what the data set says of it.
        skip_bits: see `isocenter.engine.dataset.Frame`.
        number: from 0 on; of video, which frame of the stream *data* it is.
    """

    data: bytes
    image: ImageDescription
    transfer_syntax_uid: str
    skip_bits: int = 0
    number: int = 0

    def decode(self) -> tuple[StoredValues, ImageDescription]:
        """Its samples, and their description.

        Raises:
            PixelError: it cannot be decoded.
        """
        syntax = viewable(self.transfer_syntax_uid)
        if syntax.is_video:
            from isocenter.services.dicom.pixels.rendering.video_frames import decode_video_frame

            return decode_video_frame(self.data, self.image, self.number)
        samples, image = decode_frame(
            self.data, self.image, self.transfer_syntax_uid, skip_bits=self.skip_bits
        )
        codec = syntax.codec
        is_aligned = False
        if codec not in _BITWISE:
            assert codec is not None
            found = read_codestream(codec, self.data)
            is_aligned = found is None or (found.precision or 0) <= image.bits_stored
        return stored_values(samples, image, is_aligned=is_aligned), image


def render_frame(
    stored_frame: StoredFrame,
    frame: FrameElements,
    options: RenderOptions,
    state: PresentationState | None = None,
    *,
    most: int,
) -> tuple[Pixels, bytes]:
    """A frame as a picture, and the ICC profile that goes with it.

    Args:
        most: bytes that its pixels may have.

    Raises:
        PixelError: it cannot be decoded, or nothing says how it looks.
    """
    # What the picture would be is judged before anything is made.
    geometry = geometry_of(stored_frame.image, frame, options, state)
    if geometry.width * geometry.height * _SAMPLES > most:
        raise ImageError(
            f"a picture of {geometry.width} × {geometry.height} pixels would be too large: ask "
            "for a viewport"
        )
    image = stored_frame.image
    stored: StoredValues | None = None
    if _is_bare(frame, options, state):
        codec = viewable(stored_frame.transfer_syntax_uid).codec
        levels = levels_for(geometry, image, codec)
        stored = decode_reduced(stored_frame.data, image, levels) if levels else None
        if stored is not None:
            geometry = geometry_of_reduced(geometry, 1 << levels)
    if stored is None:
        stored, image = stored_frame.decode()
        step = step_for(geometry)
        if options.is_quick and step > 1 and _is_bare(frame, options, state):
            stored, geometry = sampled(stored, step), geometry_of_reduced(geometry, step)
    pixels = _tones(stored, image, frame, options, state)
    profile = b""
    if pixels.ndim == 3:
        pixels, profile = convert(pixels, profile_of(frame), options.colour_space)
    pixels = _covered(pixels, stored, frame, options, state)
    picture = geometry.apply(pixels)
    if state is not None and options.has_graphics:
        from isocenter.services.dicom.pixels.rendering.graphics import draw_annotations

        picture = draw_annotations(picture, state, geometry)
    if options.has_patient_label or options.has_technique_label:
        from isocenter.services.dicom.pixels.rendering.labels import draw_labels

        picture = draw_labels(picture, frame, options)
    return picture, profile


def _is_bare(frame: FrameElements, options: RenderOptions, state: PresentationState | None) -> bool:
    """Whether nothing lies over the image, in pixels of it."""
    has_shutter = options.has_shutter and has_shape(frame.holder(FRAME_SHUTTERS))
    return state is None and not options.has_overlays and not has_shutter


def _tones(
    stored: StoredValues,
    image: ImageDescription,
    frame: FrameElements,
    options: RenderOptions,
    state: PresentationState | None,
) -> Pixels:
    photometric = image.photometric_interpretation
    if image.samples_per_pixel > 1:
        return render_colour(stored, photometric)
    if photometric == _PALETTE:
        if stored.is_float:
            raise ImageError("floating point pixels with a palette")
        return read_palette(frame.root, signed=stored.is_signed).apply(stored.values)
    if state is not None:
        rules = state.grayscale(frame, stored, options)
    else:
        rules = GrayscaleRules.of_image(frame, stored, photometric, options)
    gray = render_grayscale(stored, rules)
    if state is None and _has_supplement(frame) and not stored.is_float:
        # From its first value on the palette counts (PS3.3 C.7.6.19).
        palette = read_palette(frame.root, signed=stored.is_signed)
        values = stored.values
        coloured = palette.apply(values)
        return np.where((values >= palette.first)[..., None], coloured, gray[..., None])
    return gray


def _has_supplement(frame: FrameElements) -> bool:
    root = frame.root
    return (
        root.text(PIXEL_PRESENTATION).upper() in ("COLOR", "MIXED")
        and PALETTE_DESCRIPTORS[0] in root
    )


def _covered(
    pixels: Pixels,
    stored: StoredValues,
    frame: FrameElements,
    options: RenderOptions,
    state: PresentationState | None,
) -> Pixels:
    """The picture with its shutter and its overlays."""
    size = pixels.shape[0], pixels.shape[1]
    source = frame.holder(FRAME_SHUTTERS) if state is None else state.root
    bitmap = None if state is None else bitmap_group_of(state.root)
    if options.has_shutter:
        shutter = shutter_of(source, size)
        if shutter is not None:
            pixels = _painted(pixels, shutter.covered, shutter.gray)
    if not (options.has_overlays or (options.has_shutter and bitmap is not None)):
        return pixels
    shown: list[Overlay] = list(overlays_of(frame.root, size, frame.number, stored))
    if state is not None:
        # Overlays of the image are seen if the state activates them (PS3.3 C.11.7).
        own = list(overlays_of(state.root, size, 0, None))
        active = {each.group for each in own} | set(state.active_overlay_groups)
        shown = [each for each in shown if each.group in active] + own
        for each in shown:
            if each.group == bitmap and options.has_shutter:
                pixels = _painted(pixels, each.bits, gray_of(state.root))
        shown = [each for each in shown if each.group != bitmap]
    if options.has_overlays:
        for each in shown:
            pixels = _painted(pixels, each.bits, _WHITE)
    return pixels


def _painted(pixels: Pixels, where: Pixels, gray: int) -> Pixels:
    made = pixels.copy() if not pixels.flags.writeable or pixels.base is not None else pixels
    made[where] = gray
    return made


def geometry_of(
    image: ImageDescription,
    frame: FrameElements,
    options: RenderOptions,
    state: PresentationState | None,
) -> Geometry:
    """Which part of the image the picture shows, and its size.

    Raises:
        ImageError: the part lies outside of the image, or the picture would be too large.
    """
    left, top, right, bottom = 0.0, 0.0, float(image.columns), float(image.rows)
    shape = 1.0
    if options.has_square_pixels:
        measures = frame.holder(PIXEL_MEASURES)
        spacing = measures.decimals(PIXEL_SPACING) or frame.root.decimals(IMAGER_PIXEL_SPACING)
        shape = pixel_shape(frame.root.decimals(PIXEL_ASPECT_RATIO), spacing)
    magnification: float | None = None
    quarters, is_flipped = 0, False
    if state is not None:
        quarters, is_flipped = state.quarters, state.is_flipped
        area = state.displayed_area(image.rows, image.columns)
        if area is not None:
            left, top, right, bottom = area.left, area.top, area.right, area.bottom
            shape = area.shape if options.has_square_pixels else 1.0
            magnification = area.magnification
    is_flipped_vertically = False
    viewport = options.viewport
    if viewport is not None:
        is_mirrored = (viewport.region_width or 1) < 0
        is_flipped_vertically = (viewport.region_height or 1) < 0
        if viewport.x or viewport.y or viewport.region_width or viewport.region_height:
            left, top, right, bottom = _region(image, options)
        is_flipped = is_flipped is not is_mirrored
    width, height = right - left, bottom - top
    if viewport is None:
        if magnification is not None:
            width, height = width * magnification, height * magnification
        size = natural_size(width, height, shape)
        if quarters % 2:
            size = size[1], size[0]
    else:
        shaped = (width, height * shape)
        if quarters % 2:
            shaped = shaped[1], shaped[0]
        size = fit(*shaped, viewport.width, viewport.height)
    return Geometry(
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        width=size[0],
        height=size[1],
        quarters=quarters,
        is_flipped=is_flipped,
        is_flipped_vertically=is_flipped_vertically,
    )


def _region(image: ImageDescription, options: RenderOptions) -> tuple[float, float, float, float]:
    viewport = options.viewport
    assert viewport is not None
    left, top = viewport.x, viewport.y
    width = image.columns - left if viewport.region_width is None else abs(viewport.region_width)
    height = image.rows - top if viewport.region_height is None else abs(viewport.region_height)
    right, bottom = left + width, top + height
    if left >= image.columns or top >= image.rows or right > image.columns or bottom > image.rows:
        raise ImageError(
            f"the region of the viewport goes beyond the image, which has {image.columns} × "
            f"{image.rows} pixels"
        )
    return left, top, right, bottom
