"""Recognizer of texts in single frames, of the extra `ocr`.

Its models are in its wheel.  Runs in a worker process, as decoding does.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from isocenter.services.dicom.pixels.errors import CodecUnavailableError, ImageError
from isocenter.services.dicom.pixels.image import ImageDescription

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Below, what was read is noise.
_LEAST_SCORE: Final = 0.5
#: Of the samples, what may be darker or brighter than the picture shows.
_PERCENTILES: Final = (0.5, 99.8)
#: Pictures with fewer pixels on a side are shown larger: letters need some ten pixels.
_LEAST_SIDE: Final = 320
_LONGEST_TEXT: Final = 256
_MOST_TEXTS: Final = 1_000


def recognize_frame(samples: bytes, image: ImageDescription) -> bytes:
    """The texts in a decoded frame, as JSON: each with the left, top, width and height of its box.

    Raises:
        PixelError: the extra is not installed, or it cannot be read.
    """
    engine = _engine()
    picture, factor = _picture(samples, image)
    found = engine(picture, use_cls=False)
    texts: list[list[object]] = []
    if found.boxes is None or found.txts is None or found.scores is None:
        return b"[]"
    for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        if score < _LEAST_SCORE or len(texts) >= _MOST_TEXTS:
            continue
        left, top = (float(box[:, axis].min()) / factor for axis in (0, 1))
        right, bottom = (float(box[:, axis].max()) / factor for axis in (0, 1))
        texts.append(
            [text[:_LONGEST_TEXT], int(left), int(top), int(right - left) + 1,
             int(bottom - top) + 1]
        )  # fmt: skip
    return json.dumps(texts).encode()


@cache
def _engine() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise CodecUnavailableError(
            "texts in pictures are recognized with the extra `ocr`: pip install isocenter[ocr]", ""
        ) from error
    return RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "Global.log_level": "critical",
        }
    )


def _picture(samples: bytes, image: ImageDescription) -> tuple[NDArray[np.uint8], int]:
    """Eight bits for each of three colours, and by how much it is larger."""
    import numpy as np

    kind = "f" if image.is_float else "i" if image.is_signed else "u"
    width = max(image.bits_allocated // 8, 1)
    pixels = np.frombuffer(samples, f"<{kind}{width}").reshape(image.shape)
    if image.samples_per_pixel not in (1, 3):
        raise ImageError(f"{image.samples_per_pixel} samples per pixel are no picture")
    if image.samples_per_pixel == 3 and image.photometric_interpretation.startswith("YBR"):
        pixels = pixels[:, :, 0]
    values = pixels.astype(np.float32)
    dark, bright = np.percentile(values, _PERCENTILES)
    if bright <= dark:
        dark, bright = float(values.min()), float(values.max())
    scaled = (values - dark) * (255 / max(bright - dark, 1e-6))
    grey = scaled.clip(0, 255).astype(np.uint8)
    if grey.ndim == 2:
        grey = np.stack((grey, grey, grey), axis=2)
    factor = max(1, -(-_LEAST_SIDE // max(min(grey.shape[:2]), 1)))
    if factor > 1:
        grey = grey.repeat(factor, axis=0).repeat(factor, axis=1)
    return np.ascontiguousarray(grey), factor
