"""PDF files of films: a page each, at the film's size (ISO 32000-1)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass

POINTS_PER_INCH: Final = 72.0
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHUNK_HEADER: Final = 8
_CHECKSUM: Final = 4


@dataclass(frozen=True, slots=True)
class Page:
    """A page: a PNG of 8 bits, gray or RGB, not interlaced, and how fine it is."""

    png: bytes
    dots_per_inch: int


def write_pdf(pages: Sequence[Page], title: str) -> bytes:
    """A PDF with a page for each film.

    The data of a PNG go into it as they are: both are compressed by rows, with a predictor.

    Raises:
        ValueError: a picture is no such PNG.
    """
    objects: list[bytes] = [b"", b""]  # catalog, pages: known at the end
    kids = []
    for page in pages:
        width, height, colours, data = _read(page.png)
        points = [side / page.dots_per_inch * POINTS_PER_INCH for side in (width, height)]
        first = len(objects) + 1
        kids.append(first)
        drawing = f"q {points[0]:.3f} 0 0 {points[1]:.3f} 0 0 cm /Film Do Q".encode()
        space = "/DeviceGray" if colours == 1 else "/DeviceRGB"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {points[0]:.3f} {points[1]:.3f}] "
            f"/Resources << /XObject << /Film {first + 2} 0 R >> >> "
            f"/Contents {first + 1} 0 R >>".encode(),
            _stream("", drawing),
            _stream(
                f"/Type /XObject /Subtype /Image /Width {width} /Height {height} "
                f"/ColorSpace {space} /BitsPerComponent 8 /Filter /FlateDecode /DecodeParms "
                f"<< /Predictor 15 /Colors {colours} /BitsPerComponent 8 /Columns {width} >> ",
                data,
            ),
        ]
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} >>".encode()
    objects.append(f"<< /Title {_text(title)} /Producer (Isocenter) >>".encode())
    written = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    start = len(written)
    written += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    for place in places:
        written += f"{place:010d} 00000 n \n".encode()
    written += (
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n"
        f"startxref\n{start}\n%%EOF\n"
    ).encode()
    return bytes(written)


def _stream(entries: str, data: bytes) -> bytes:
    return f"<< {entries}/Length {len(data)} >>\nstream\n".encode() + data + b"\nendstream"


def _text(text: str) -> str:
    return "<" + ("\ufeff" + text).encode("utf-16-be", "replace").hex() + ">"


def _read(png: bytes) -> tuple[int, int, int, bytes]:
    """Width, height, samples of a pixel, and the compressed data of a PNG."""
    if not png.startswith(_PNG_SIGNATURE):
        raise ValueError("no PNG")
    place = len(_PNG_SIGNATURE)
    header: tuple[int, ...] = ()
    data = bytearray()
    while place + _CHUNK_HEADER <= len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        content = png[place + _CHUNK_HEADER : place + _CHUNK_HEADER + length]
        place += _CHUNK_HEADER + length + _CHECKSUM
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", content)
        elif kind == b"IDAT":
            data += content
    if not header or header[2] != 8 or header[3] not in (0, 2) or header[6]:
        raise ValueError("a PNG that is not of 8 bits, gray or RGB, and not interlaced")
    return header[0], header[1], 1 if header[3] == 0 else 3, bytes(data)
