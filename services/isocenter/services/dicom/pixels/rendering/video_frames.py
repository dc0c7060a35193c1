"""Frames of video streams, decoded by FFmpeg through PyAV, which the extra `video` installs.

Runs in a worker process.  A stream has no table of its frames, and times in it need not be those
of whole frames: the one that is asked for is found by counting, from the beginning.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues
from isocenter.services.errors import text_of

#: What a stream may be packed in: bare, or as PS3.5 A.4.5 to A.4.10 have it.  Others would name
#: further files, such as playlists.
_CONTAINERS: Final = "mpeg,mpegvideo,mpegts,h264,hevc,mov,mp4,m4a,3gp,3g2,mj2"
_CODECS: Final = "mpeg1video,mpeg2video,h264,hevc"
_OPTIONS: Final = {
    "format_whitelist": _CONTAINERS,
    "codec_whitelist": _CODECS,
    "protocol_whitelist": "",
}


def decode_video_frame(
    stream: bytes, image: ImageDescription, number: int
) -> tuple[StoredValues, ImageDescription]:
    """One frame of a stream, as RGB.

    Args:
        number: from 0 on.

    Raises:
        ImageError: it is not there, or cannot be decoded.
    """
    import av

    # It would say on standard error what is wrong with the stream of a peer.
    av.logging.set_level(None)
    try:
        with av.open(BytesIO(stream), options=_OPTIONS) as container:
            pixels = _frame(container, image, number)
    except av.FFmpegError as error:
        raise ImageError(f"the video stream cannot be decoded: {text_of(error)}") from error
    except (ValueError, IndexError) as error:
        raise ImageError("the video stream cannot be decoded") from error
    if pixels is None:
        raise ImageError(f"the video stream has no frame with the number {number + 1}")
    said = image.exchange(
        photometric_interpretation="RGB", samples_per_pixel=3, bits_allocated=8, bits_stored=8,
        high_bit=7, pixel_representation=0, planar_configuration=0,
    )  # fmt: skip
    return StoredValues(pixels, 8, 0, is_signed=False), said


def _frame(container: Any, image: ImageDescription, number: int) -> Any:
    if not container.streams.video:
        raise ImageError("Pixel Data holds no video stream")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None or context.name not in _CODECS.split(","):
        raise ImageError("the video stream has a codec that DICOM does not know")
    context.thread_count = 1
    wanted = (image.columns, image.rows)
    _check((context.width, context.height), wanted)
    for place, frame in enumerate(container.decode(stream)):
        # Also in the midst of a stream a larger one may begin.
        _check((frame.width, frame.height), wanted)
        if place == number:
            return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
    return None


def _check(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    if size != wanted:
        raise ImageError(
            f"the video stream has {size[0]} × {size[1]} pixels, the data set says "
            f"{wanted[0]} × {wanted[1]}"
        )
