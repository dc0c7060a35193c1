"""Letters in pictures, drawn by Pillow, which the extra `labels` installs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.services.dicom.pixels.errors import ImageError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

INSTALL: Final = "python3 -m pip install 'isocenter[labels]'"
SMALLEST: Final = 8
LARGEST: Final = 200
#: Of one text, before it is cut.
MAX_CHARACTERS: Final = 1000


def lettering(text: str, height: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """How much of each pixel letters of that height cover, 0 to 1, and they with their outline.

    The outline keeps them legible on bright and on dark ground.  Control characters are left out;
    what the font does not have is a box.

    Raises:
        ImageError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise ImageError(f"to draw texts into pictures, install Pillow: {INSTALL}") from None
    height = min(max(height, SMALLEST), LARGEST)
    shown = "".join(each for each in text[:MAX_CHARACTERS] if each == "\n" or each.isprintable())
    font = _font(height)
    outline = max(height // 12, 1)
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = draw.multiline_textbbox((0, 0), shown, font=font, stroke_width=outline)
    size = max(int(box[2] + outline), 1), max(int(box[3] + outline), 1)
    masks = []
    for stroke in (0, outline):
        canvas = Image.new("L", size)
        ImageDraw.Draw(canvas).multiline_text(
            (outline, outline), shown, fill=255, font=font, stroke_width=stroke
        )
        masks.append(np.asarray(canvas).astype(np.float32) / 255)
    return masks[0], masks[1]


@lru_cache(maxsize=8)
def _font(height: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(height)


def put(
    picture: NDArray[Any], text: str, height: int, x: float, y: float, anchor: tuple[float, float]
) -> NDArray[Any]:
    """The picture with a text.

    Args:
        x, y: where it goes, in pixels.
        anchor: which part of the text goes there: 0 for its left or top, 1 for right or bottom.
    """
    letters, outlined = lettering(text, height)
    rows, columns = letters.shape
    left, top = round(x - anchor[0] * columns), round(y - anchor[1] * rows)
    # Where there is room it is moved into the picture.
    left = max(min(left, picture.shape[1] - columns), 0)
    top = max(min(top, picture.shape[0] - rows), 0)
    part = picture[top : top + rows, left : left + columns].astype(np.float32)
    cover, ground = (
        letters[: part.shape[0], : part.shape[1]],
        outlined[: part.shape[0], : part.shape[1]],
    )
    if picture.ndim == 3:
        cover, ground = cover[..., None], ground[..., None]
    made = picture.copy()
    made[top : top + rows, left : left + columns] = np.rint(part * (1 - ground) + 255 * cover)
    return made
