"""Seeds that are headers of compressed frames, written by hand: no codec has to be installed."""

from __future__ import annotations

import struct

from corpora import Seeds


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _sof(marker: int, samples: int, precision: int) -> bytes:
    components = b"".join(bytes((number + 1, 0x11, 0)) for number in range(samples))
    return _segment(marker, struct.pack(">BHHB", precision, 16, 24, samples) + components)


def _jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + _segment(0xDA, bytes(6)) + b"\1\2\xff\xd9"


def _jpeg_2000(samples: int, depth: int) -> bytes:
    size = struct.pack(">HIIIIIIIIH", 0, 24, 16, 0, 0, 24, 16, 0, 0, samples)
    size += bytes((depth, 1, 1)) * samples
    cod = bytes((0, 0, 0, 1, samples == 3, 5, 4, 4, 0, 1))
    return b"\xff\x4f" + _segment(0x51, size) + _segment(0x52, cod) + _segment(0x90, bytes(8))


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data) + 8, kind) + data


def codestreams() -> Seeds:
    grey = struct.pack("<6H", 16, 24, 1, 16, 12, 0)
    colour = struct.pack("<6H", 16, 24, 3, 8, 8, 0)
    adobe = _segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")
    jfif = _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    signature = _box(b"jP  ", b"\r\n\x87\n")
    jxl = b"\xff\x0a\x78\x2f\0\0\0\0"
    return {
        "lossless": b"\0" + grey + _jpeg(_sof(0xC3, 1, 12)),
        "baseline": b"\0" + colour + _jpeg(jfif, _sof(0xC0, 3, 8)),
        "adobe": b"\0" + colour + _jpeg(adobe, _sof(0xC0, 3, 8)),
        "without-height": b"\0" + grey + _jpeg(_segment(0xC0, struct.pack(">BHHB", 8, 0, 24, 1))),
        "jpeg-ls": b"\1" + grey + _jpeg(_sof(0xF7, 1, 12)),
        "other-kind": b"\1" + grey + _jpeg(_sof(0xC3, 1, 12)),
        "jpeg-2000": b"\2" + grey + _jpeg_2000(1, 11),
        "jpeg-2000-colour": b"\2" + colour + _jpeg_2000(3, 7),
        "jp2": b"\2" + grey + signature + _box(b"jp2c", _jpeg_2000(1, 11)),
        "jpeg-xl": b"\3" + grey + jxl,
        "jpeg-xl-container": b"\3" + grey + _box(b"JXL ", b"\r\n\x87\n") + _box(b"jxlc", jxl),
    }
