"""Frame range keys of a C-MOVE or C-GET at the FRAME level (PS3.4 Y.3.2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Final

from isocenter.engine.dataset import Element, Encoding
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.query_retrieve.matching_keys import identifier_mismatch

SIMPLE_FRAME_LIST: Final = 0x00081161
CALCULATED_FRAME_LIST: Final = 0x00081162
TIME_RANGE: Final = 0x00081163
_KEYS: Final = (SIMPLE_FRAME_LIST, CALCULATED_FRAME_LIST, TIME_RANGE)
#: What a list of UL has room for in explicit VR.
_MOST_VALUES: Final = 16_383
_TO_THE_END: Final = 0xFFFF_FFFF


class FrameStatus(IntEnum):
    """Statuses of the FRAME level (PS3.4 Tables Y.4-1 and Y.4-2)."""

    NO_SUCH_FRAMES = 0xAA00
    CANNOT_CREATE = 0xAA01
    CANNOT_EXTRACT = 0xAA02
    NOT_TIME_BASED = 0xAA03
    INVALID_REQUEST = 0xAA04


class FrameError(OperationError):
    """AA00H to AA04H: why there is no object of the frames that were asked for."""

    error_code = ErrorCode.RETRIEVE_SUBOPERATION


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Which frames of one object are wanted.

    Attributes:
        tag: of the key that says it.
        numbers: its values: frames from 1 on, or triples of first, last and step.
        seconds: of a time range, relative to Content Time; None where it is none.
    """

    tag: int
    numbers: tuple[int, ...] = ()
    seconds: tuple[float, float] | None = None

    def frames(self, count: int, times: Sequence[float] | None = None) -> tuple[int, ...]:
        """The frames that are wanted, from 0 on, of so many that there are.

        Args:
            times: of all of them, in seconds since Content Time; None: nobody knows.

        Raises:
            FrameError: AA00H, none of them is there; AA03H, a time range, and there are no times.
        """
        if self.seconds is not None:
            if times is None:
                raise FrameError(
                    FrameStatus.NOT_TIME_BASED, "the frames of the instance have no times"
                )
            begin, end = self.seconds
            # In any order: a vector may go back in time.
            found = [frame for frame, time in enumerate(times) if begin <= time <= end]
        elif self.tag == SIMPLE_FRAME_LIST:
            found = [number - 1 for number in self.numbers if number <= count]
        else:
            found = [
                number - 1
                for first, last, step in zip(
                    self.numbers[::3], self.numbers[1::3], self.numbers[2::3], strict=True
                )
                for number in range(first, min(last, count) + 1, step)
            ]
        if not found:
            raise FrameError(FrameStatus.NO_SUCH_FRAMES, "the instance has none of these frames")
        return tuple(found)


def parse_frame_request(elements: Mapping[int, Element], encoding: Encoding) -> FrameRequest:
    """The one frame range key of an identifier.

    Raises:
        IdentifierError: A900H: none, or several.
        FrameError: AA04H: its values are none of such a key.
    """
    given = [tag for tag in _KEYS if tag in elements and elements[tag].value]
    if len(given) != 1:
        raise identifier_mismatch(
            "one of Simple Frame List, Calculated Frame List and Time Range must be given", *given
        )
    (tag,) = given
    value = elements[tag].value
    order = ">" if encoding.big_endian else "<"
    size = 8 if tag == TIME_RANGE else 4
    if isinstance(value, tuple) or len(value) % size or len(value) // size > _MOST_VALUES:
        raise _invalid(tag)
    numbers = struct.unpack(f"{order}{len(value) // size}{'d' if size == 8 else 'I'}", value)
    if tag == TIME_RANGE:
        if len(numbers) != 2 or not numbers[0] <= numbers[1]:
            raise _invalid(tag)
        return FrameRequest(tag, seconds=(numbers[0], numbers[1]))
    is_valid = _is_list(numbers) if tag == SIMPLE_FRAME_LIST else _is_calculated(numbers)
    if not is_valid:
        raise _invalid(tag)
    return FrameRequest(tag, numbers)


def _is_list(numbers: Sequence[int]) -> bool:
    return numbers[0] > 0 and all(a < b for a, b in pairwise(numbers))


def _is_calculated(numbers: Sequence[int]) -> bool:
    if len(numbers) % 3:
        return False
    before = 0
    for place in range(0, len(numbers), 3):
        first, last, step = numbers[place : place + 3]
        if before == _TO_THE_END or not before < first <= last or not step:
            return False
        before = last
    return True


def _invalid(tag: int) -> FrameError:
    return FrameError(FrameStatus.INVALID_REQUEST, "the frame range key is none", (tag,))
