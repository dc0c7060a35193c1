"""Recognition of texts in pictures, with what installs as the extra `ocr`."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.services.dicom.deidentification.regions import Region
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame

#: Around the box of a text, in pixels.
_MARGIN: Final = 4
#: Letters and digits of a text that can name somebody; a side marker has one or two.
_LEAST_LETTERS: Final = 3


class TextPolicy(Enum):
    """What becomes of an image in which text is recognized that no rule takes away."""

    #: Nobody looks for text.
    OFF = "off"
    #: It is not given out until somebody has looked at it.
    QUARANTINE = "quarantine"
    #: The text is blackened.
    REMOVE = "remove"
    #: It passes, and the report says so.
    WARN = "warn"


async def boxes_of_text(pool: CodecPool, frame: DecodedFrame) -> list[Region]:
    """Where texts are in a frame.

    Raises:
        PixelError: the extra is not installed, or it fails.
    """
    return [
        Region(x - _MARGIN, y - _MARGIN, width + 2 * _MARGIN, height + 2 * _MARGIN)
        for text, x, y, width, height in await pool.recognize(frame)
        if sum(map(str.isalnum, text)) >= _LEAST_LETTERS
    ]


async def texts_in(pool: CodecPool, frame: DecodedFrame) -> list[str]:
    """Texts that are recognized in a frame.

    Raises:
        PixelError: the extra is not installed, or it fails.
    """
    return [text for text, *_ in await pool.recognize(frame)]
