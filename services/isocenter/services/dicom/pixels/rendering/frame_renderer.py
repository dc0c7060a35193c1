"""Renderer of frames in a worker process: one request in, one file out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.vr import Encoding
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.rendering.elements import FrameElements, read_elements
from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from isocenter.services.dicom.pixels.rendering.output import animation, encode
from isocenter.services.dicom.pixels.rendering.pipeline import StoredFrame, render_frame
from isocenter.services.dicom.pixels.rendering.presentation_state import PresentationState


def render_request(
    data: Buffer, request: Mapping[str, Any], image: ImageDescription
) -> tuple[bytes, ImageDescription]:
    """The picture that is asked for, and what it is.

    Args:
        data: the header of each frame and its bytes, in turn, and the presentation state.
        request: their lengths, the encodings, and the options.

    Raises:
        PixelError: it cannot be made.
    """
    options = RenderOptions.from_json(request["options"])
    view = memoryview(data)
    encoding = Encoding(*request["encoding"])
    state_length = request["state_length"]
    state = read_elements(view[:state_length], Encoding(*request["state_encoding"]))
    pos = state_length
    most = request["most"] // len(request["frames"])
    pictures = []
    profile = b""
    for number, header_length, length, skip_bits in request["frames"]:
        elements = read_elements(view[pos : pos + header_length], encoding)
        pos += header_length
        frame = FrameElements(elements, number)
        stored = StoredFrame(
            bytes(view[pos : pos + length]), image, request["syntax"], skip_bits, number
        )
        pos += length
        applied = PresentationState.of(state, frame) if state_length else None
        # Numbers without end are what the object says; nobody reads a warning here.
        with np.errstate(all="ignore"):
            pixels, profile = render_frame(stored, frame, options, applied, most=most)
        pictures.append(pixels)
    made = pictures[0]
    said = ImageDescription(
        rows=made.shape[0],
        columns=made.shape[1],
        samples_per_pixel=1 if made.ndim == 2 else 3,
        photometric_interpretation="MONOCHROME2" if made.ndim == 2 else "RGB",
        number_of_frames=len(pictures),
    )
    if len(pictures) > 1:
        return animation(pictures, request["milliseconds"]), said
    return encode(made, options.media_type, options.quality, profile), said
