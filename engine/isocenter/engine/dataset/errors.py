"""The one error of this package: bytes that are no data set, or more of one than a bound allows."""

from __future__ import annotations

from isocenter.engine.errors import IsocenterError


class DataSetError(IsocenterError):
    """A data set is truncated, malformed, or passes a limit.

    The message names the fault and, where there is one, the tag; never a value.

    Attributes:
        fault: the message without the offset.
        offset: byte of the (inflated) data set, or of the file for a File Meta
            Information fault, at which the fault was seen.
        limit: the name of the field of `isocenter.engine.limits.Limits` that was
            passed; None when the data set itself is at fault.
    """

    def __init__(self, message: str, offset: int, limit: str | None = None) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.fault = message
        self.offset = offset
        self.limit = limit


def tag_text(tag: int) -> str:
    """*tag* as the standard prints it: ``(0010,0020)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
