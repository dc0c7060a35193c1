"""PNG, TIFF, BMP, GIF, WebP and progressive JPEG files as samples.

Announced sizes are judged before anything is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from isocenter.services.dicom.creation.errors import SourceError, UnknownSourceError
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.pixels.codestreams import read_codestream
from isocenter.services.dicom.pixels.errors import CodecUnavailableError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import Codec

#: Bytes that the samples of one file may have.
MAX_DECODED: Final = 2 << 30
_MAX_SIDE: Final = 65_535
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_PAGES: Final = 10_000
_ALPHA: Final = (2, 4)


def read_raster(data: bytes, *, most: int = MAX_DECODED) -> Picture:
    """The samples of a picture.

    Args:
        most: bytes that they may have.

    Raises:
        UnknownSourceError: it is none.
        SourceError: it is damaged, too large, or of a kind that no image has.
        CodecUnavailableError: nothing here decodes it.
    """
    try:
        import imagecodecs
    except ImportError:
        raise CodecUnavailableError(
            "pictures need imagecodecs: pip install isocenter[codecs]", ""
        ) from None
    kind, decode = _decoder(data, imagecodecs)
    try:
        _check(data, kind, most)
        pages = list(decode(data))
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # whatever a decoder raises: the file chose the bytes
        raise SourceError(f"is a damaged {kind} file, or one that cannot be decoded") from error
    return _picture(pages, kind)


def _decoder(data: bytes, codecs: Any) -> tuple[str, Callable[[bytes], Iterator[Any]]]:
    if data.startswith(_PNG):
        return "PNG", lambda data: iter((codecs.png_decode(data),))
    if data.startswith(_TIFF):
        return "TIFF", lambda data: _tiff(data, codecs)
    if data.startswith(b"BM"):
        return "BMP", lambda data: iter((codecs.bmp_decode(data, asrgb=True),))
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", lambda data: _stack(codecs.gif_decode(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP", lambda data: iter((codecs.webp_decode(data),))
    if data.startswith(b"\xff\xd8"):
        return "JPEG", lambda data: iter((codecs.jpeg8_decode(data),))
    raise UnknownSourceError("is no picture that is known here")


def _tiff(data: bytes, codecs: Any) -> Iterator[Any]:
    for page in range(len(_tiff_sizes(data))):
        yield codecs.tiff_decode(data, index=page)


def _stack(pixels: Any) -> Iterator[Any]:
    if pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[2] > 4):
        yield from pixels
    else:
        yield pixels


def _check(data: bytes, kind: str, most: int) -> None:
    """Raise `SourceError` where a picture announces more than can be."""
    for width, height, bytes_a_pixel in _sizes(data, kind):
        if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
            raise SourceError(f"has {width} × {height} pixels; at most 65,535 a side make an image")
        if width * height * bytes_a_pixel > most:
            raise SourceError(f"has {width} × {height} pixels: more than {most >> 20} MiB")


def _sizes(data: bytes, kind: str) -> list[tuple[int, int, int]]:
    match kind:
        case "PNG":
            width, height, depth = struct.unpack_from(">IIB", data, 16)
            return [(width, height, 4 * max(depth // 8, 1))]
        case "BMP":
            width, height = struct.unpack_from("<ii", data, 18)
            return [(abs(width), abs(height), 4)]
        case "GIF":
            width, height = struct.unpack_from("<HH", data, 6)
            # Each frame takes the whole canvas; how many there are shows their separators.
            return [(width, height, 4 * max(data.count(b"\x21\xf9\x04"), 1))]
        case "TIFF":
            return _tiff_sizes(data)
        case "JPEG":
            found = read_codestream(Codec.JPEG, data)
            return [(found.columns, found.rows, found.samples)] if found is not None else []
        case _:
            return []


def _tiff_sizes(data: bytes) -> list[tuple[int, int, int]]:
    """Width, height and bytes of a pixel of each page."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", data, 8 if is_big else 4)
    found: list[tuple[int, int, int]] = []
    seen: set[int] = set()
    while at and at not in seen:
        seen.add(at)
        if len(found) >= _MOST_PAGES:
            raise SourceError(f"is a TIFF file of more than {_MOST_PAGES} pages")
        count_format, entry, length = ("Q", "HHQ", 20) if is_big else ("H", "HHI", 12)
        (count,) = struct.unpack_from(order + count_format, data, at)
        at += struct.calcsize(order + count_format)
        values: dict[int, int] = {}
        for position in range(at, at + length * min(count, 4_096), length):
            tag, kind, number = struct.unpack_from(order + entry, data, position)
            if number == 1:
                place = position + struct.calcsize(order + entry)
                formats = {1: "B", 3: "H", 4: "I", 16: "Q"}
                if kind in formats:
                    (values[tag],) = struct.unpack_from(order + formats[kind], data, place)
            elif tag == 258:
                values[tag] = 16
        samples = values.get(277, 1)
        size = max(values.get(258, 8) // 8, 1) * max(samples, 1)
        found.append((values.get(256, 0), values.get(257, 0), size))
        (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, at + length * count)
    if not found:
        raise SourceError("is a TIFF file without a page")
    if sum(width * height * size for width, height, size in found) > MAX_DECODED:
        raise SourceError(f"has pages of more than {MAX_DECODED >> 20} MiB together")
    return found


def _picture(pages: list[Any], kind: str) -> Picture:
    import numpy as np

    notes: list[str] = []
    if any(page.shape != pages[0].shape or page.dtype != pages[0].dtype for page in pages):
        raise SourceError("has pages of different sizes or kinds; frames of an image are alike")
    frames = []
    pixels: Any = pages[0]
    for page in pages:
        pixels = page
        if pixels.ndim == 3 and pixels.shape[2] in _ALPHA:
            pixels = pixels[..., : pixels.shape[2] - 1]
            if not notes:
                notes.append("its transparency is left out")
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        if pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8) * 255
        if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2 or pixels.ndim not in (2, 3):
            raise SourceError(f"has samples of type {pixels.dtype}; 8 or 16 bits make an image")
        little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        frames.append(little.tobytes())
    rows, columns = pixels.shape[:2]
    if not (1 <= rows <= _MAX_SIDE and 1 <= columns <= _MAX_SIDE):
        raise SourceError(f"has {columns} × {rows} pixels; at most 65,535 a side make an image")
    bits = pixels.dtype.itemsize * 8
    return Picture(
        frames=frames,
        image=ImageDescription(
            rows=rows,
            columns=columns,
            samples_per_pixel=1 if pixels.ndim == 2 else 3,
            bits_allocated=bits,
            bits_stored=bits,
            high_bit=bits - 1,
            pixel_representation=int(pixels.dtype.kind == "i"),
            photometric_interpretation="MONOCHROME2" if pixels.ndim == 2 else "RGB",
        ),
        # What was lost before cannot come back: the object has to say so.
        lossy_method="ISO_10918_1" if kind == "JPEG" else "",
        notes=notes,
    )


def turned_upright(picture: Picture) -> Picture:
    """The same, as EXIF's orientation asks; of samples only."""
    import numpy as np

    image = picture.image
    if picture.orientation == 1 or not picture.is_native:
        return picture
    kind = np.dtype(f"<{'i' if image.is_signed else 'u'}{image.bits_allocated // 8}")
    frames = []
    pixels: Any = None
    for frame in picture.frames:
        pixels = np.frombuffer(frame, kind).reshape(image.shape)
        if picture.orientation in (5, 6, 7, 8):
            pixels = pixels.swapaxes(0, 1)
        if picture.orientation in (3, 4, 7, 8):
            pixels = pixels[::-1]
        if picture.orientation in (2, 3, 6, 7):
            pixels = pixels[:, ::-1]
        frames.append(np.ascontiguousarray(pixels).tobytes())
    return Picture(
        frames=frames,
        image=image.exchange(rows=pixels.shape[0], columns=pixels.shape[1]),
        lossy_method=picture.lossy_method,
        notes=picture.notes,
    )
