"""JPEG, JPEG-LS and JPEG 2000 files as frames that keep their bytes.

What the header says decides on the transfer syntax and the photometric interpretation; a picture
that no transfer syntax has (progressive, four colours) is not for here.
"""

from __future__ import annotations

import struct
from typing import Final

from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.pixels.codestreams import read_codestream
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    HTJ2K,
    HTJ2K_LOSSLESS,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    Codec,
)

_SOI: Final = b"\xff\xd8"
_JP2: Final = b"\0\0\0\x0cjP  "
_SOC: Final = b"\xff\x4f\xff\x51"
_SOF3, _SOF55 = 0xC3, 0xF7
_FRAME_HEADERS: Final = frozenset((*range(0xC0, 0xD0), _SOF55)) - {0xC4, 0xC8, 0xCC}
_SOS: Final = 0xDA
_APP1: Final = 0xE1
_ORIENTATION: Final = 0x0112
_CAP: Final = 0xFF50
_COD: Final = 0xFF52
_SOT: Final = 0xFF90
_MOST_SEGMENTS: Final = 1_000
#: Transfer syntax → Lossy Image Compression Method (0028,2114).
_METHODS: Final = {
    JPEG_BASELINE: "ISO_10918_1",
    JPEG_EXTENDED: "ISO_10918_1",
    JPEG_LS_NEAR_LOSSLESS: "ISO_14495_1",
    JPEG_2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}


def is_jpeg(data: bytes) -> bool:
    """Whether a file is JPEG, or JPEG-LS."""
    return data.startswith(_SOI)


def is_jpeg_2000(data: bytes) -> bool:
    """Whether a file is JPEG 2000, in its container or bare."""
    return data.startswith((_JP2, _SOC))


def keep_jpeg(data: bytes) -> Picture | None:
    """A JPEG file as a frame; None: no transfer syntax has its process (progressive, and others).

    Raises:
        SourceError, ImageError: it is damaged, or cannot be told.
    """
    process, scan, sampling, orientation = _look(data)
    codec = Codec.JPEG_LS if process == _SOF55 else Codec.JPEG
    found = read_codestream(codec, data)
    assert found is not None
    if found.samples not in (1, 3):
        raise SourceError(f"is JPEG with {found.samples} colours; make it gray or RGB first")
    syntax = _syntax_of(process, scan)
    if not syntax:
        return None
    if syntax == JPEG_BASELINE and found.precision != 8:
        raise SourceError(f"is JPEG baseline with {found.precision} bits, which has 8")
    if found.samples == 1:
        photometric = "MONOCHROME2"
    elif found.is_rgb or (found.is_rgb is None and process in (_SOF3, _SOF55)):
        photometric = "RGB"
    else:
        first, *others = sampling
        photometric = "YBR_FULL_422" if any(one != first for one in others) else "YBR_FULL"
    return Picture(
        frames=[data],
        image=_description(found.rows, found.columns, found.samples, found.precision, photometric),
        transfer_syntax_uid=syntax,
        lossy_method=_METHODS.get(syntax, ""),
        orientation=orientation,
    )


def _look(data: bytes) -> tuple[int, bytes, tuple[bytes, ...], int]:
    """The process, parameters of the first scan, sampling factors, and the EXIF orientation."""
    pos, process, orientation = len(_SOI), 0, 1
    sampling: tuple[bytes, ...] = ()
    for _ in range(_MOST_SEGMENTS):
        while data[pos : pos + 2] == b"\xff\xff":
            pos += 1
        if len(data) < pos + 4 or data[pos] != 0xFF:
            break
        marker = data[pos + 1]
        (length,) = struct.unpack_from(">H", data, pos + 2)
        body = data[pos + 4 : pos + 2 + length]
        if marker in _FRAME_HEADERS and len(body) >= 6:
            process = marker
            sampling = tuple(body[6 + 1 + 3 * n : 6 + 2 + 3 * n] for n in range(body[5]))
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            orientation = _orientation(body[6:])
        elif marker == _SOS:
            return process, body, sampling, orientation
        pos += 2 + length
    raise SourceError("is a damaged JPEG file: its header has no end")


def _orientation(exif: bytes) -> int:
    """EXIF's Orientation: 1 is upright."""
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, offset)
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass  # whoever wrote it: it says nothing
    return 1


def _syntax_of(process: int, scan: bytes) -> str:
    selection = scan[1 + 2 * scan[0]] if scan and len(scan) > 1 + 2 * scan[0] else 0
    match process:
        case 0xC0:
            return JPEG_BASELINE
        case 0xC1:
            return JPEG_EXTENDED
        case 0xC3:
            return JPEG_LOSSLESS_SV1 if selection == 1 else JPEG_LOSSLESS
        case 0xF7:
            # There it is NEAR.
            return JPEG_LS_NEAR_LOSSLESS if selection else JPEG_LS_LOSSLESS
        case _:
            return ""


def keep_jpeg_2000(data: bytes) -> Picture:
    """A JPEG 2000 file as a frame: its codestream, without the container (PS3.5 A.4.4).

    Raises:
        SourceError, ImageError: it is damaged, or has colours that a container explains.
    """
    found = read_codestream(Codec.JPEG_2000, data)
    assert found is not None
    has_palette = data.startswith(_JP2) and b"pclr" in data[: found.start]
    if has_palette or found.samples not in (1, 3):
        raise SourceError("is JPEG 2000 with a palette or with alpha; make it gray or RGB first")
    stream = _codestream(data, found.start)
    is_reversible, is_high_throughput = _coding(stream)
    if found.samples == 1:
        photometric = "MONOCHROME2"
    elif found.has_colour_transform:
        photometric = "YBR_RCT" if is_reversible else "YBR_ICT"
    else:
        photometric = "RGB"
    syntax = {
        (True, False): JPEG_2000_LOSSLESS,
        (False, False): JPEG_2000,
        (True, True): HTJ2K_LOSSLESS,
        (False, True): HTJ2K,
    }[is_reversible, is_high_throughput]
    return Picture(
        frames=[stream],
        image=_description(
            found.rows,
            found.columns,
            found.samples,
            found.precision,
            photometric,
            is_signed=bool(found.is_signed),
        ),
        transfer_syntax_uid=syntax,
        lossy_method=_METHODS.get(syntax, ""),
    )


def _codestream(data: bytes, start: int) -> bytes:
    if not start:
        return data
    # The length of the box stands 8 bytes before its content, or 16 where it is a long one.
    (length,) = struct.unpack_from(">I", data, start - 8)
    if data[start - 4 : start] != b"jp2c":
        (length,) = struct.unpack_from(">Q", data, start - 8)
        return data[start : start + length - 16]
    return data[start : start + length - 8] if length else data[start:]


def _coding(stream: bytes) -> tuple[bool, bool]:
    """Whether a codestream is reversible, and of high throughput (T.800 A.6.1, T.814 A.2)."""
    pos, is_reversible, has_cap = 2, False, False
    while pos + 4 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, pos)
        if marker == _SOT:
            break
        if marker == _CAP:
            has_cap = True
        if marker == _COD and pos + 14 <= len(stream):
            is_reversible = stream[pos + 13] == 1
        pos += 2 + length
    return is_reversible, has_cap


def _description(
    rows: int, columns: int, samples: int, bits: int, photometric: str, *, is_signed: bool = False
) -> ImageDescription:
    if bits > 16:
        raise SourceError(f"has {bits} bits a sample; at most 16 make an image")
    return ImageDescription(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=8 if bits <= 8 else 16,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=int(is_signed),
        photometric_interpretation=photometric,
    )
