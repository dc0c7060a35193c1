"""Errors of pixels: images that cannot be read, and codecs that are not there."""

from __future__ import annotations

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError


class PixelError(IsocenterError):
    """Pixels cannot be decoded or encoded; the message names the fault, never a value."""

    error_code = ErrorCode.PIXELS


class ImageError(PixelError):
    """What a data set or a codestream says of an image is missing, impossible or contradictory."""


class CodecUnavailableError(PixelError):
    """Nothing here decodes or encodes a transfer syntax; the message says why, and the cure.

    Attributes:
        transfer_syntax_uid: of the pixels.
    """

    error_code = ErrorCode.CODEC_UNAVAILABLE

    def __init__(self, message: str, transfer_syntax_uid: str) -> None:
        super().__init__(message)
        self.transfer_syntax_uid = transfer_syntax_uid


class CodecFailedError(PixelError):
    """A worker process died, ran out of its time or its memory over one frame."""

    error_code = ErrorCode.DECOMPRESSION
