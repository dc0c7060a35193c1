"""Headers of codestreams: what a compressed frame announces, read before any decoder runs.

JPEG and JPEG-LS (ITU-T T.81 B.2, T.87 C.2), JPEG 2000 and its container (T.800 A.5, I.5), JPEG XL
(ISO/IEC 18181-1 D.1).  What a header says is held against what the data set says: a decoder
allocates by the header, and its result is read by the data set.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import Codec

_SOI: Final = b"\xff\xd8"
_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  "
_JXL_SIGNATURE: Final = b"\0\0\0\x0cJXL "
_JXL_CODESTREAM: Final = b"\xff\x0a"
#: Frame headers: SOF0 to SOF15 less DHT, JPG and DAC; SOF55 is JPEG-LS.
_FRAME_HEADERS: Final = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_SOF55: Final = 0xF7
#: SOF3, SOF7, SOF11, SOF15.
_LOSSLESS_HEADERS: Final = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_SOS: Final = 0xDA
_EOI: Final = 0xD9
_APP0: Final = 0xE0
_APP14: Final = 0xEE
#: RSTn, SOI, TEM: no length follows.
_WITHOUT_LENGTH: Final = frozenset((*range(0xD0, 0xD9), 0x01))
_COD: Final = 0xFF52
_SOT: Final = 0xFF90
#: Markers and boxes before the frame header; real streams have a dozen.
_MOST_SEGMENTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Codestream:
    """What the header of one compressed frame says.

    Attributes:
        precision: bits of each sample.
        is_signed: None: the format does not say.
        is_lossless: of JPEG: by a process that loses nothing.
        is_rgb: of JPEG with three components: whether they are red, green and blue, or, False,
            luminance and chrominance; None: it does not say.
        has_colour_transform: of JPEG 2000: decoding ends with an inverse RCT or ICT.
        start: of JPEG 2000: byte at which the codestream starts, in its container.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    is_signed: bool | None = None
    is_lossless: bool = False
    is_rgb: bool | None = None
    has_colour_transform: bool = False
    start: int = 0


def read_codestream(codec: Codec, frame: bytes) -> Codestream | None:
    """What *frame* announces; None where the format has no such header.

    Raises:
        ImageError: it is no codestream of this kind, or ends within its header.
    """
    try:
        match codec:
            case Codec.JPEG:
                return _read_jpeg(frame, is_ls=False)
            case Codec.JPEG_LS:
                return _read_jpeg(frame, is_ls=True)
            case Codec.JPEG_2000 | Codec.HTJ2K:
                return _read_jpeg_2000(frame)
            case Codec.JPEG_XL:
                return _read_jpeg_xl(frame)
            case _:
                return None
    except (struct.error, IndexError) as error:
        raise ImageError(f"the {codec.value} codestream ends within its header") from error


def check_codestream(codec: Codec, found: Codestream, image: ImageDescription) -> None:
    """Raise `ImageError` where a codestream contradicts the data set."""
    said = (found.rows, found.columns, found.samples)
    wanted = (image.rows, image.columns, image.samples_per_pixel)
    if said != wanted:
        raise ImageError(
            f"the {codec.value} codestream has {_shape(*said)}, the data set says {_shape(*wanted)}"
        )
    if found.precision > image.bits_allocated:
        raise ImageError(
            f"the {codec.value} codestream has {found.precision} bits per sample, "
            f"Bits Allocated is {image.bits_allocated}"
        )


def _shape(rows: int, columns: int, samples: int) -> str:
    return f"{rows} × {columns} pixels of {samples} samples"


def _segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, and where its parameters start and end, up to the first scan."""
    if not frame.startswith(_SOI):
        raise ImageError("no JPEG codestream: it does not begin with SOI")
    pos = len(_SOI)
    for _ in range(_MOST_SEGMENTS):
        # Fill bytes may stand before any marker (T.81 B.1.1.2).
        while frame[pos] == 0xFF and frame[pos + 1] == 0xFF:
            pos += 1
        if frame[pos] != 0xFF:
            raise ImageError("no marker where one has to be, in the JPEG header")
        marker = frame[pos + 1]
        pos += 2
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _EOI:
            raise ImageError("the JPEG codestream has no image")
        (length,) = struct.unpack_from(">H", frame, pos)
        yield marker, pos + 2, pos + length
        if marker == _SOS:
            return
        pos += length
    raise ImageError("the JPEG header has too many segments")


def _read_jpeg(frame: bytes, *, is_ls: bool) -> Codestream:
    is_jfif = False
    adobe: int | None = None
    header: tuple[int, int, int, int, int, bytes] | None = None
    for marker, start, end in _segments(frame):
        if marker in _FRAME_HEADERS and header is None:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, start)
            ids = frame[start + 6 : start + 6 + 3 * samples : 3]
            header = marker, precision, rows, columns, samples, ids
        elif marker == _APP0 and frame[start : start + 5] == b"JFIF\0":
            is_jfif = True
        elif marker == _APP14 and frame[start : start + 5] == b"Adobe" and end - start >= 12:
            adobe = frame[start + 11]
    if header is None:
        raise ImageError("the JPEG codestream has no frame header")
    marker, precision, rows, columns, samples, ids = header
    if (marker == _SOF55) is not is_ls:
        kind = "JPEG-LS" if marker == _SOF55 else "JPEG"
        raise ImageError(f"the frame is {kind}, the transfer syntax is of another kind")
    if not rows:
        raise ImageError("the JPEG codestream says its height behind the image, in a DNL segment")
    is_rgb: bool | None = None
    if samples == 3 and not is_ls:
        if adobe is not None:
            is_rgb = adobe == 0
        elif ids == b"RGB":
            is_rgb = True
        elif is_jfif:
            is_rgb = False
    return Codestream(
        rows=rows,
        columns=columns,
        samples=samples,
        precision=precision,
        is_lossless=marker in _LOSSLESS_HEADERS,
        is_rgb=is_rgb,
    )


def _read_jpeg_2000(frame: bytes) -> Codestream:
    start = 0
    if frame.startswith(_JP2_SIGNATURE):
        start = _box(frame, b"jp2c")
    if frame[start : start + 4] != _SOC_SIZ:
        raise ImageError("no JPEG 2000 codestream: it does not begin with SOC and SIZ")
    pos = start + 4
    length, _, x1, y1, x0, y0 = struct.unpack_from(">HHIIII", frame, pos)
    (samples,) = struct.unpack_from(">H", frame, pos + 36)
    depth = frame[pos + 38]
    components = frame[pos + 38 : pos + 38 + 3 * samples]
    if len(components) < 3 * samples or x1 <= x0 or y1 <= y0:
        raise ImageError("the size in the JPEG 2000 codestream is none")
    if any(components[index] != depth for index in range(0, len(components), 3)) or any(
        components[index] != 1 for index in range(1, len(components), 1) if index % 3
    ):
        raise ImageError("the components of the JPEG 2000 codestream differ in depth or size")
    return Codestream(
        rows=y1 - y0,
        columns=x1 - x0,
        samples=samples,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
        has_colour_transform=_has_transform(frame, pos + length),
        start=start,
    )


def _has_transform(frame: bytes, pos: int) -> bool:
    """Multiple component transformation of the COD segment of the main header (T.800 A.6.1)."""
    for _ in range(_MOST_SEGMENTS):
        marker, length = struct.unpack_from(">HH", frame, pos)
        if marker == _COD:
            return frame[pos + 8] == 1
        if marker == _SOT:
            break
        pos += 2 + length
    raise ImageError("the JPEG 2000 codestream has no COD segment")


def _box(frame: bytes, wanted: bytes) -> int:
    """Where the content of the first box of this type starts."""
    pos = 0
    for _ in range(_MOST_SEGMENTS):
        if pos + 8 > len(frame):
            break
        length, kind = struct.unpack_from(">I4s", frame, pos)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, pos + 8)
            header = 16
        if kind == wanted:
            return pos + header
        if length < header:
            break
        pos += length
    raise ImageError(f"the container has no box {wanted.decode()!r}")


#: Width by height: the ratios that have a number (ISO/IEC 18181-1 D.2).
_RATIOS: Final = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIZE_BITS: Final = (9, 13, 18, 30)


class _Bits:
    """Bits of a JPEG XL codestream, lowest first."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise IndexError(count)
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return value

    def size(self, is_small: int) -> int:
        if is_small:
            return 8 * (1 + self.take(5))
        return 1 + self.take(_SIZE_BITS[self.take(2)])


def _read_jpeg_xl(frame: bytes) -> Codestream:
    """Its size; the rest of the header is left to the decoder."""
    start = 0
    if frame.startswith(_JXL_SIGNATURE):
        try:
            start = _box(frame, b"jxlc")
        except ImageError:
            start = _box(frame, b"jxlp") + 4
    if frame[start : start + 2] != _JXL_CODESTREAM:
        raise ImageError("no JPEG XL codestream")
    bits = _Bits(frame[start + 2 : start + 16])
    is_small = bits.take(1)
    rows = bits.size(is_small)
    ratio = bits.take(3)
    columns = bits.size(is_small) if not ratio else rows * _RATIOS[ratio][0] // _RATIOS[ratio][1]
    return Codestream(rows=rows, columns=columns, samples=0, precision=0)
