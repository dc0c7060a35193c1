"""Invariant: an uncompressed image becomes a picture of the size that was judged, or is refused.

Input: a byte for the options, one for the frame, two for the length of the image, its data set,
and that of a presentation state, if any.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.engine.dataset import EXPLICIT_LITTLE, DataSetError, index_frames, map_of
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.image import DESCRIBING, ImageDescription
from isocenter.services.dicom.pixels.rendering.frame_renderer import render_request
from isocenter.services.dicom.pixels.rendering.options import (
    PNG,
    ColourSpace,
    RenderOptions,
    Viewport,
    VoiFunction,
    Window,
)

_OPTIONS: Final = (
    RenderOptions(),
    RenderOptions(media_type=PNG, viewport=Viewport(20, 30)),
    RenderOptions(window_number=2, viewport=Viewport(40, 10, 1, 2, -3.5, -2)),
    RenderOptions(voi_lut_number=1, has_overlays=False),
    RenderOptions(is_automatic=True, colour_space=ColourSpace.SRGB),
    RenderOptions(window=Window(40, 0.25, VoiFunction.SIGMOID), has_square_pixels=False),
    RenderOptions(window_name="BONE", has_shutter=False, has_graphics=False),
    RenderOptions(viewport=Viewport(1, 2), has_overlays=False, is_quick=True),
)
_SYNTAX: Final = "1.2.840.10008.1.2.1"
_HEAD_LENGTH: Final = 4
#: Larger ones, and tables of more bits, show nothing new, and need more memory than an input may.
_MOST_PIXELS: Final = 1 << 11
_MOST_BITS: Final = 12
_MOST: Final = 1 << 16


def run(data: bytes) -> None:
    if len(data) < _HEAD_LENGTH:
        return
    options = _OPTIONS[data[0] % len(_OPTIONS)]
    length = int.from_bytes(data[2:4], "little")
    header, state = data[4 : 4 + length], data[4 + length :]
    try:
        found = map_of(header, EXPLICIT_LITTLE, DESCRIBING)
        image = ImageDescription.of(found)
        if image.rows * image.columns > _MOST_PIXELS or image.bits_stored > _MOST_BITS:
            return
        frames = index_frames(
            found, number_of_frames=image.number_of_frames, frame_bits=image.frame_bits
        )
        number = data[1] % max(len(frames), 1)
        if not len(frames):
            return
        place = frames[number]
        frame = b"".join(header[span.offset : span.end] for span in place.spans)
        picture, made = render_request(
            state + header + frame,
            {
                "frames": [(number, len(header), len(frame), place.skip_bits)],
                "encoding": (False, False),
                "state_length": len(state),
                "state_encoding": (False, False),
                "options": options.to_json(),
                "milliseconds": 0,
                "most": _MOST,
                "syntax": _SYNTAX,
            },
            image,
        )
    except (DataSetError, PixelError) as fault:
        check_fault(fault)
        return
    assert picture
    assert made.rows * made.columns * 3 <= _MOST
    assert options.viewport is None or made.columns <= options.viewport.width
    assert options.viewport is None or made.rows <= options.viewport.height
