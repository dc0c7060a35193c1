"""Errors of data sets: malformed bytes, and limits that were exceeded."""

from __future__ import annotations

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError


class DataSetError(IsocenterError):
    """A data set is truncated or malformed.

    The message names the fault and, where there is one, the tag; never a value.

    Attributes:
        fault: the message without the offset.
        offset: byte of the (inflated) data set, or of the file for a File Meta
            Information fault, at which the fault was seen.
    """

    error_code = ErrorCode.DECODING

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.fault = message
        self.offset = offset

    def within(self, tag: int, start: int) -> DataSetError:
        """The same fault, told of the data set that has these bytes as the value of *tag*, from
        byte *start* on."""
        return DataSetError(f"in {tag_text(tag)}: {self.fault}", start + self.offset)


class DataSetLimitError(DataSetError):
    """A data set takes more than a limit allows; it may be well-formed all the same.

    Attributes:
        limit: the name of the field of `isocenter.engine.limits.Limits` that was passed.
    """

    error_code = ErrorCode.ELEMENT_SIZE

    def __init__(self, message: str, offset: int, limit: str) -> None:
        super().__init__(message, offset)
        self.limit = limit

    def within(self, tag: int, start: int) -> DataSetLimitError:
        return DataSetLimitError(
            f"in {tag_text(tag)}: {self.fault}", start + self.offset, self.limit
        )


def tag_text(tag: int) -> str:
    """*tag* as the standard prints it: ``(0010,0020)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
