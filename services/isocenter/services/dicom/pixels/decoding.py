"""Decoders: one compressed frame to samples, with what installs as the extra `codecs`.

Runs in a worker process (`isocenter.services.dicom.pixels.worker`): libraries in C read what a
peer sent.  A decoded frame is always the same: samples of Bits Allocated, little endian, pixel by
pixel, signed ones sign-extended; single bits are bytes of 0 or 1.  Colour transforms that belong
to a codestream are undone, and Photometric Interpretation says what came out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.services.dicom.pixels.codestreams import (
    Codestream,
    check_codestream,
    read_codestream,
)
from isocenter.services.dicom.pixels.errors import ImageError, PixelError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    JPEG_XL,
    JPEG_XL_RECOMPRESSION,
    Codec,
    decodable,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.generic]

_TRANSFORMED: Final = frozenset(("YBR_RCT", "YBR_ICT"))
_RGB: Final = "RGB"
_WORD_LENGTH: Final = 2
#: Bits Allocated of what a library decodes; single bits come as bytes.
_SAMPLE_BITS: Final = (8, 16, 32)


def decode_frame(
    frame: bytes, image: ImageDescription, transfer_syntax_uid: str, *, skip_bits: int = 0
) -> tuple[bytes, ImageDescription]:
    """The samples of one frame, and their description.

    Args:
        skip_bits: bits of the first byte that are not of this frame (native single bits).

    Raises:
        PixelError: it cannot be decoded.
    """
    syntax = decodable(transfer_syntax_uid)
    assert syntax.codec is not None
    if not frame:
        raise ImageError("the frame is empty")
    if image.is_float and syntax.codec is not Codec.NONE:
        raise ImageError("floating point pixels in a compressed transfer syntax")
    is_big = transfer_syntax_uid == "1.2.840.10008.1.2.2"
    match syntax.codec:
        case Codec.NONE:
            return _native(frame, image, is_big, skip_bits)
        case Codec.DEFLATE:
            return _native(_inflate(frame, image.frame_length), image, False, 0)
        case Codec.RLE:
            return _decode_rle(frame, image)
        case _:
            found = read_codestream(syntax.codec, frame)
            assert found is not None
            if syntax.codec is Codec.JPEG_XL:
                said = (found.rows, found.columns)
                if said != (image.rows, image.columns):
                    raise ImageError(
                        f"the JPEG XL codestream has {said[0]} × {said[1]} pixels, "
                        f"the data set says {image.rows} × {image.columns}"
                    )
            else:
                check_codestream(syntax.codec, found, image)
            return _decode_with_library(frame, image, transfer_syntax_uid, syntax.codec, found)


def _inflate(frame: bytes, most: int) -> bytes:
    """A raw deflate stream (PS3.5 A.4.13) of at most so many bytes."""
    inflater = zlib.decompressobj(RAW_DEFLATE)
    try:
        data = inflater.decompress(frame, most + 2)
    except zlib.error as error:
        raise ImageError("the frame is no deflate stream (PS3.5 A.4.13)") from error
    if not most <= len(data) <= most + 1:
        raise ImageError(f"the frame inflates to {_count(data, most)} bytes instead of {most}")
    return data[:most]


def _count(data: bytes, most: int) -> str:
    return f"more than {most}" if len(data) > most else str(len(data))


def _native(
    frame: bytes, image: ImageDescription, is_big: bool, skip_bits: int
) -> tuple[bytes, ImageDescription]:
    import numpy as np

    wanted = (skip_bits + image.frame_bits + 7) // 8
    if len(frame) < wanted:
        raise ImageError(f"the frame has {len(frame)} bytes instead of {wanted}")
    if image.bits_allocated == 1:
        return _unpacked(frame[:wanted], image, skip_bits), image
    data = frame[:wanted]
    width = image.bits_allocated // 8
    if is_big and width > 1:
        # OW is 16-bit words, the lower one of a sample first in either byte order (PS3.5 8.1.1).
        step = width if image.is_float else _WORD_LENGTH
        data = np.frombuffer(data, np.uint8).reshape(-1, step)[:, ::-1].tobytes()
    if image.has_half_chroma:
        return _with_whole_chroma(data, image)
    if image.planar_configuration and image.samples_per_pixel > 1:
        samples = np.frombuffer(data, np.dtype((np.void, width)))
        data = samples.reshape(image.samples_per_pixel, -1).T.tobytes()
        image = image.exchange(planar_configuration=0)
    return data, image


def _unpacked(frame: bytes, image: ImageDescription, skip_bits: int = 0) -> bytes:
    import numpy as np

    bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")
    return bits[skip_bits : skip_bits + image.frame_bits].tobytes()


def _with_whole_chroma(data: bytes, image: ImageDescription) -> tuple[bytes, ImageDescription]:
    """Y1 Y2 Cb Cr of two pixels side by side, to Y Cb Cr of each (PS3.3 C.7.6.3.1.2)."""
    import numpy as np

    if image.bits_allocated not in (8, 16) or image.columns % 2:
        raise ImageError(f"{image.photometric_interpretation} with these bits or columns")
    quads = np.frombuffer(data, f"<u{image.bits_allocated // 8}").reshape(-1, 4)
    whole = quads[:, (0, 2, 3, 1, 2, 3)]
    term = image.photometric_interpretation.replace("_422", "")
    changed = image.exchange(photometric_interpretation=term, planar_configuration=0)
    return whole.tobytes(), changed


def _decode_rle(frame: bytes, image: ImageDescription) -> tuple[bytes, ImageDescription]:
    import numpy as np
    from rle.rle import decode_frame as decode_rle

    # Of single bits some pack eight into a byte first, as in native frames, and some do not.
    is_bits = image.bits_allocated == 1
    allocated = 8 if is_bits else image.bits_allocated
    width, samples = allocated // 8, image.samples_per_pixel
    segments = int.from_bytes(frame[:4], "little")
    if segments != width * samples:
        raise ImageError(
            f"the RLE frame has {segments} segments, the data set says {width * samples}"
        )
    lengths = [image.decoded_length, image.frame_length] if is_bits else [image.decoded_length]
    fault: Exception | None = None
    for wanted in lengths:
        try:
            whole = bytes(decode_rle(frame, wanted // (width * samples), allocated, "<"))
        except ValueError as error:
            fault = fault or error
            continue
        if len(whole) == wanted:
            break
    else:
        raise ImageError(f"the RLE frame cannot be decoded: {fault or 'wrong length'}")
    if is_bits and len(whole) != image.decoded_length:
        return _unpacked(whole, image), image
    if samples > 1:
        planes = np.frombuffer(whole, np.dtype((np.void, width)))
        whole = planes.reshape(samples, -1).T.tobytes()
    return whole, image.exchange(planar_configuration=0)


def _decode_with_library(
    frame: bytes,
    image: ImageDescription,
    transfer_syntax_uid: str,
    codec: Codec,
    found: Codestream,
) -> tuple[bytes, ImageDescription]:
    import imagecodecs

    photometric = image.photometric_interpretation
    decode: Callable[[], Any]
    match codec:
        case Codec.JPEG:
            decode, photometric = _jpeg_decoder(frame, image, found)
        case Codec.JPEG_LS:

            def decode() -> Any:
                return imagecodecs.jpegls_decode(frame)
        case Codec.JPEG_2000 | Codec.HTJ2K:
            if found.has_colour_transform or photometric in _TRANSFORMED:
                photometric = _RGB
            stream = frame[found.start :]

            def decode() -> Any:
                # OpenJPEG reads both kinds.
                return imagecodecs.jpeg2k_decode(stream, planar=False, numthreads=1)
        case _:
            if transfer_syntax_uid in (JPEG_XL, JPEG_XL_RECOMPRESSION) or (
                photometric in _TRANSFORMED
            ):
                photometric = _RGB if image.samples_per_pixel == 3 else photometric

            def decode() -> Any:
                return imagecodecs.jpegxl_decode(frame, numthreads=1)

    try:
        samples = decode()
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(f"the {codec.value} codestream cannot be decoded: {error}") from error
    # A decoder may give less than it was asked for without a word.
    if samples.shape != image.shape:
        raise ImageError(f"the {codec.value} codestream decodes to another size than it announces")
    if samples.dtype.kind not in "ui":
        raise ImageError(f"the {codec.value} codestream holds floating point numbers")
    changed = image.exchange(photometric_interpretation=photometric, planar_configuration=0)
    return _of_bits_allocated(samples, image, found), changed


def _jpeg_decoder(
    frame: bytes, image: ImageDescription, found: Codestream
) -> tuple[Callable[[], Any], str]:
    import imagecodecs

    photometric = image.photometric_interpretation
    if found.samples == 1:
        return (lambda: imagecodecs.jpeg8_decode(frame)), photometric
    if found.samples != 3:
        raise ImageError(f"a JPEG codestream of {found.samples} components")
    if found.is_lossless:
        # What a lossless process codes are the samples as the data set describes them.
        return (
            lambda: imagecodecs.jpeg8_decode(frame, colorspace=_RGB, outcolorspace=_RGB),
            photometric,
        )
    # What the codestream says wins; some data sets say RGB of YCbCr.
    is_rgb = photometric == _RGB if found.is_rgb is None else found.is_rgb
    return (
        lambda: imagecodecs.jpeg8_decode(
            frame, colorspace=_RGB if is_rgb else "YCBCR", outcolorspace=_RGB
        ),
        _RGB,
    )


def _of_bits_allocated(samples: Samples, image: ImageDescription, found: Codestream) -> bytes:
    import numpy as np

    allocated = max(image.bits_allocated, 8)
    if allocated not in _SAMPLE_BITS:
        raise ImageError(f"Bits Allocated is {allocated}")
    precision = found.precision or image.bits_stored
    if samples.dtype.kind == "i":
        wide = samples.astype(f"<i{allocated // 8}", copy=False)
        if image.is_signed or precision >= allocated:
            return wide.tobytes()
        # Signed samples of an image that is not: the bits are what counts.
        return (wide.view(f"<u{allocated // 8}") & ((1 << precision) - 1)).tobytes()
    unsigned = samples.astype(f"<u{allocated // 8}", copy=False)
    if image.is_signed and precision < allocated:
        shift = allocated - precision
        signed = (unsigned << shift).view(f"<i{allocated // 8}") >> np.int8(shift)
        return signed.astype(f"<i{allocated // 8}", copy=False).tobytes()
    return unsigned.tobytes()


__all__ = ["PixelError", "decode_frame"]
