"""Image Display Format (2010,0010): which image boxes a film has (PS3.3 C.13.3)."""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

#: Image boxes of one film.
MAX_BOXES: Final = 100
_FORMAT: Final = re.compile(r"(STANDARD|ROW|COL)\\([0-9]{1,3}(?:,[0-9]{1,3})*)", re.ASCII)
_KINDS: Final = "STANDARD\\C,R, ROW\\R1,R2,… and COL\\C1,C2,…"


class DisplayFormatError(IsocenterError, ValueError):
    """An image display format that films here do not have; the message says which they have."""

    error_code = ErrorCode.ARGUMENTS


@dataclass(frozen=True, slots=True)
class Box:
    """The place of an image, in parts of the width and height of the area for images."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class DisplayFormat:
    """The image boxes of a film, in the order of their positions."""

    text: str
    boxes: tuple[Box, ...]

    @classmethod
    def parse(cls, text: str) -> DisplayFormat:
        """Read ``STANDARD\\C,R``, ``ROW\\R1,R2,…`` or ``COL\\C1,C2,…``.

        Raises:
            DisplayFormatError: it is none of these, has no box, or too many.
        """
        found = _FORMAT.fullmatch(text.strip().upper().replace(" ", ""))
        if found is None:
            raise DisplayFormatError(f"the image display format is not one of {_KINDS}")
        kind = found[1]
        numbers = [int(each) for each in found[2].split(",")]
        if kind == "STANDARD":
            if len(numbers) != 2:
                raise DisplayFormatError("STANDARD has two numbers: of columns, and of rows")
            kind, numbers = "ROW", [numbers[0]] * numbers[1]
        if not numbers or not all(numbers):
            raise DisplayFormatError("an image display format without an image box")
        if sum(numbers) > MAX_BOXES:
            raise DisplayFormatError(f"more than {MAX_BOXES} image boxes on one film")
        lanes = len(numbers)
        boxes = []
        for lane, count in enumerate(numbers):
            for place in range(count):
                if kind == "ROW":
                    boxes.append(Box(place / count, lane / lanes, 1 / count, 1 / lanes))
                else:
                    boxes.append(Box(lane / lanes, place / count, 1 / lanes, 1 / count))
        return cls(f"{found[1]}\\{found[2]}", tuple(boxes))
