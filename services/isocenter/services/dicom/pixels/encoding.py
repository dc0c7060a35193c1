"""Encoders of single frames, of the extra `codecs`.

Runs in a worker process, as decoding does.  A lossless encoding gives back every bit of Bits
Allocated, also those above Bits Stored.  What a data set has to say of the pixels afterwards comes
with the frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.decoding import decode_frame
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    HTJ2K,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_XL_LOSSLESS,
    JPEG_XL_RECOMPRESSION,
    PIXEL_SYNTAXES,
    Codec,
    encodable,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.generic]

_RGB: Final = "RGB"
_MONOCHROME: Final = ("MONOCHROME1", "MONOCHROME2")
#: What three samples that are no RGB are called when they come out of a decoder.
_YBR: Final = "YBR_FULL"
#: Segments of an RLE frame (PS3.5 G.4).
_MAX_RLE_SEGMENTS: Final = 15
#: Room for what JPEG-LS makes of noise: up to twice the samples, and its header.
_JPEG_LS_BESIDE: Final = 4096
#: Of 64 pixels.
_THUMBNAIL_BITS: Final = 6
#: Tries to come to a compression ratio.
_TRIES: Final = 8
#: Peak signal to noise ratio, in dB, between which OpenJPEG is asked for quality.
_PSNR: Final = (20.0, 110.0)
#: Quantiser steps, as part of the range of values, between which OpenJPH is.
_STEPS: Final = (1e-6, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingOptions:
    """How much a lossy encoding may lose.

    Attributes:
        quality: of JPEG, 1 to 100.
        near: of JPEG-LS near-lossless: the most that a sample may differ by, 1 to 255.
        ratio: of JPEG 2000, HTJ2K: bits of the samples for one of the frame, at least.
        distance: of JPEG XL: 1 is what an observer does not see, 0 no loss.
        half_chroma: of JPEG in colour: chrominance of two pixels side by side is one.
    """

    quality: int = 90
    near: int = 2
    ratio: float = 10.0
    distance: float = 1.0
    half_chroma: bool = True


def encode_frame(
    samples: bytes,
    image: ImageDescription,
    transfer_syntax_uid: str,
    options: EncodingOptions | None = None,
) -> tuple[bytes, ImageDescription]:
    """One frame of *transfer_syntax_uid*, and the description that goes with it.

    Args:
        samples: as `isocenter.services.dicom.pixels.decoding` gives them.

    Raises:
        PixelError: these pixels have no place in that syntax.
    """
    syntax = encodable(transfer_syntax_uid)
    assert syntax.codec is not None
    options = options or EncodingOptions()
    if len(samples) != image.decoded_length:
        raise ImageError(f"{len(samples)} bytes of samples instead of {image.decoded_length}")
    match syntax.codec:
        case Codec.NONE:
            return _packed(samples, image), image
        case Codec.DEFLATE:
            deflater = zlib.compressobj(wbits=RAW_DEFLATE)
            return deflater.compress(_packed(samples, image)) + deflater.flush(), image
        case _ if image.is_float:
            raise ImageError(f"floating point pixels have no place in {syntax.name}")
        case Codec.RLE:
            return _encode_rle(samples, image), image
        case _:
            return _encode_with_library(samples, image, transfer_syntax_uid, options)


def recompress_frame(frame: bytes, transfer_syntax_uid: str) -> bytes:
    """A JPEG frame as JPEG XL, or (`JPEG_BASELINE`) one of JPEG XL as the JPEG that it was.

    Raises:
        PixelError: it cannot be.
    """
    import imagecodecs

    try:
        if transfer_syntax_uid == JPEG_XL_RECOMPRESSION:
            return bytes(imagecodecs.jpegxl_encode_jpeg(frame, usecontainer=True, numthreads=1))
        if transfer_syntax_uid == JPEG_BASELINE:
            return bytes(imagecodecs.jpegxl_decode_jpeg(frame, numthreads=1))
    except Exception as error:
        raise ImageError(f"the frame cannot be recompressed: {error}") from error
    raise ImageError("only JPEG and JPEG XL are recompressed")


def _packed(samples: bytes, image: ImageDescription) -> bytes:
    """A native frame that stands alone."""
    if image.bits_allocated != 1:
        return samples
    import numpy as np

    return np.packbits(np.frombuffer(samples, np.uint8), bitorder="little").tobytes()


def _encode_rle(samples: bytes, image: ImageDescription) -> bytes:
    from rle.rle import encode_frame as encode_rle

    allocated = image.bits_allocated
    if allocated not in (8, 16, 32) or (
        image.samples_per_pixel * allocated // 8 > _MAX_RLE_SEGMENTS
    ):
        raise ImageError(f"RLE with Bits Allocated {allocated}")
    try:
        return bytes(
            encode_rle(samples, image.rows, image.columns, image.samples_per_pixel, allocated, "<")
        )
    except ValueError as error:
        raise ImageError(f"the frame cannot be encoded in RLE: {error}") from error


def _encode_with_library(
    samples: bytes,
    image: ImageDescription,
    transfer_syntax_uid: str,
    options: EncodingOptions,
) -> tuple[bytes, ImageDescription]:
    import numpy as np

    codec = PIXEL_SYNTAXES[transfer_syntax_uid].codec
    assert codec is not None
    if image.bits_allocated not in (8, 16) or image.samples_per_pixel not in (1, 3):
        raise ImageError(
            f"{image.samples_per_pixel} samples of {image.bits_allocated} bits have no place in "
            f"{codec.value}"
        )
    kind = "i" if image.is_signed else "u"
    pixels = np.frombuffer(samples, f"<{kind}{image.bits_allocated // 8}")
    pixels = pixels.reshape(image.shape)
    encode: Callable[[], Any]
    match codec:
        case Codec.JPEG if transfer_syntax_uid == JPEG_BASELINE:
            encode, image = _jpeg_baseline(pixels, image, options)
        case Codec.JPEG:
            encode = _jpeg_lossless(pixels, image)
        case Codec.JPEG_LS:
            near = options.near if transfer_syntax_uid == JPEG_LS_NEAR_LOSSLESS else 0
            encode = _jpeg_ls(pixels, image, near)
        case Codec.JPEG_2000:
            encode, image = _jpeg_2000(pixels, image, options, transfer_syntax_uid == JPEG_2000)
        case Codec.HTJ2K:
            encode, image = _htj2k(pixels, image, options, transfer_syntax_uid == HTJ2K)
        case _:
            encode = _jpeg_xl(pixels, image, options, transfer_syntax_uid == JPEG_XL_LOSSLESS)
    try:
        frame = bytes(encode())
        if PIXEL_SYNTAXES[transfer_syntax_uid].is_lossy and _leaves_range(
            frame, image, transfer_syntax_uid
        ):
            if codec is not Codec.JPEG_LS:
                raise ImageError(
                    f"encoded with losses in {codec.value}, samples leave the range of Bits Stored"
                )
            frame = bytes(_jpeg_ls(_quantised(pixels, image, options.near), image, 0)())
        return frame, image
    except MemoryError:
        raise
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"the frame cannot be encoded in {codec.value}: {error}") from error


def _unsigned(pixels: Samples) -> Samples:
    return pixels.view(f"u{pixels.itemsize}")


def _precision(pixels: Samples, image: ImageDescription) -> int:
    """Bits that hold every sample; Bits Stored, unless something stands above."""
    stored = image.bits_stored
    if image.is_signed:
        half = 1 << (stored - 1)
        is_within = -half <= int(pixels.min()) and int(pixels.max()) < half
    else:
        is_within = int(pixels.max()) < 1 << stored
    # Some decoders want to know whether samples take one byte or two.
    least = 2 if image.bits_allocated == 8 else 9
    return max(stored, least) if is_within else image.bits_allocated


def _jpeg_baseline(
    pixels: Samples, image: ImageDescription, options: EncodingOptions
) -> tuple[Callable[[], Any], ImageDescription]:
    import imagecodecs

    photometric = image.photometric_interpretation
    if image.bits_allocated != 8 or image.is_signed:
        raise ImageError("JPEG Baseline has 8 bits without a sign; this image has other samples")
    level = min(max(options.quality, 1), 100)
    if image.samples_per_pixel == 1:
        if photometric not in _MONOCHROME:
            raise ImageError(f"{photometric} has no place in JPEG Baseline")
        return (lambda: imagecodecs.jpeg8_encode(pixels, level)), image
    if photometric not in (_RGB, _YBR):
        raise ImageError(f"{photometric} has no place in JPEG Baseline")
    given = _RGB if photometric == _RGB else "YCBCR"
    is_half = options.half_chroma and image.columns % 2 == 0
    changed = image.exchange(
        photometric_interpretation="YBR_FULL_422" if is_half else _YBR, planar_configuration=0
    )
    return (
        lambda: imagecodecs.jpeg8_encode(
            pixels,
            level,
            colorspace=given,
            outcolorspace="YCBCR",
            subsampling="422" if is_half else "444",
        ),
        changed,
    )


def _jpeg_lossless(pixels: Samples, image: ImageDescription) -> Callable[[], Any]:
    import imagecodecs

    # The process knows no sign: of signed samples all bits are coded, so that whoever decodes
    # them has the bytes that a native data set would have.
    bits = image.bits_allocated if image.is_signed else _precision(pixels, image)
    colours = None if image.samples_per_pixel == 1 else _RGB
    return lambda: imagecodecs.jpeg8_encode(
        _unsigned(pixels),
        lossless=True,
        predictor=1,
        bitspersample=bits,
        colorspace=colours,
        outcolorspace=colours,
    )


def _jpeg_ls(pixels: Samples, image: ImageDescription, near: int) -> Callable[[], Any]:
    import imagecodecs

    if near and image.is_signed:
        # Around zero all bits change, and a small difference would become a large one.
        raise ImageError("signed samples have no place in JPEG-LS near-lossless")
    room = 2 * pixels.nbytes + _JPEG_LS_BESIDE
    return lambda: imagecodecs.jpegls_encode(_unsigned(pixels), near, out=room)


def _leaves_range(frame: bytes, image: ImageDescription, transfer_syntax_uid: str) -> bool:
    """Whether samples come out that Bits Stored cannot hold, of a codestream whose own range is
    larger: who reads them would take a sample that is a little too bright for a dark one."""
    import numpy as np

    if image.bits_stored == image.bits_allocated:
        return False
    samples, _ = decode_frame(frame, image, transfer_syntax_uid)
    decoded = np.frombuffer(
        samples, f"<{'i' if image.is_signed else 'u'}{image.bits_allocated // 8}"
    )
    return _precision(decoded, image) > image.bits_stored


def _quantised(pixels: Samples, image: ImageDescription, near: int) -> Samples:
    """Samples that differ by at most *near*, of which fewer values are in use, within the range."""
    import numpy as np

    step = 2 * near + 1
    values = pixels.astype(np.int64) // step * step + near
    return values.clip(0, (1 << image.bits_stored) - 1).astype(pixels.dtype)


def _transformed(image: ImageDescription, is_lossy: bool) -> tuple[bool, ImageDescription]:
    """Whether the codestream gets a colour transform, and what the image is called then."""
    if image.photometric_interpretation != _RGB or image.samples_per_pixel != 3:
        return False, image
    return True, image.exchange(photometric_interpretation="YBR_ICT" if is_lossy else "YBR_RCT")


def _jpeg_2000(
    pixels: Samples, image: ImageDescription, options: EncodingOptions, is_lossy: bool
) -> tuple[Callable[[], Any], ImageDescription]:
    import imagecodecs

    bits = _precision(pixels, image)
    has_transform, changed = _transformed(image, is_lossy)

    def encode(level: float) -> bytes:
        return bytes(
            imagecodecs.jpeg2k_encode(
                pixels,
                level,  # type: ignore[arg-type]  # the stub says int; it is passed on as a float
                codecformat="j2k",
                bitspersample=bits,
                reversible=not is_lossy,
                mct=has_transform,
                resolutions=_levels(image) + 1,
                numthreads=1,
            )
        )

    if not is_lossy:
        return (lambda: encode(0)), changed
    most = _most(pixels, bits, options.ratio)
    # The higher the ratio of signal to noise, the longer.
    return (lambda: _search(encode, most, *_PSNR, is_geometric=False)), changed


def _htj2k(
    pixels: Samples, image: ImageDescription, options: EncodingOptions, is_lossy: bool
) -> tuple[Callable[[], Any], ImageDescription]:
    import imagecodecs

    has_transform, changed = _transformed(image, is_lossy)

    def encode(step: float | None) -> bytes:
        return bytes(
            imagecodecs.htj2k_encode(
                pixels,
                step,
                rgb=has_transform,
                reversible=not is_lossy,
                resolutions=_levels(image),
                tlm=True,
            )
        )

    if not is_lossy:
        return (lambda: encode(None)), changed
    most = _most(pixels, _precision(pixels, image), options.ratio)
    coarse, fine = _STEPS[1], _STEPS[0]
    return (lambda: _search(encode, most, coarse, fine, is_geometric=True)), changed


def _levels(image: ImageDescription) -> int:
    """Decompositions, so many that the smallest resolution is at most 64 pixels wide and high
    (PS3.5 10.18)."""
    return max((max(image.rows, image.columns) - 1).bit_length() - _THUMBNAIL_BITS, 0)


def _most(pixels: Samples, bits: int, ratio: float) -> int:
    return max(int(pixels.size * bits / 8 / max(ratio, 1.0)), 1)


def _search(
    encode: Callable[[float], bytes], most: int, short: float, long: float, *, is_geometric: bool
) -> bytes:
    """The best codestream of at most so many bytes; between parameters that make a short and a
    long one."""
    best = encode(short)
    for _ in range(_TRIES):
        middle = sqrt(short * long) if is_geometric else (short + long) / 2
        made = encode(middle)
        if len(made) <= most:
            best, short = made, middle
        else:
            long = middle
    return best


def _jpeg_xl(
    pixels: Samples, image: ImageDescription, options: EncodingOptions, is_lossless: bool
) -> Callable[[], Any]:
    import imagecodecs

    if image.is_signed:
        raise ImageError("signed samples have no place in JPEG XL")
    if image.samples_per_pixel > 1 and image.photometric_interpretation != _RGB:
        raise ImageError(f"{image.photometric_interpretation} has no place in JPEG XL")
    if image.samples_per_pixel == 1 and not (
        is_lossless or image.photometric_interpretation in _MONOCHROME
    ):
        raise ImageError(f"{image.photometric_interpretation} has no place in lossy JPEG XL")
    bits = _precision(pixels, image)
    if is_lossless:
        return lambda: imagecodecs.jpegxl_encode(
            pixels, lossless=True, bitspersample=bits, numthreads=1
        )
    return lambda: imagecodecs.jpegxl_encode(
        pixels, distance=max(options.distance, 0.01), bitspersample=bits, numthreads=1
    )
