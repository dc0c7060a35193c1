"""Seeds of pixels: headers of compressed frames, and images that are shown in every way."""

from __future__ import annotations

import struct

from corpora import Seeds

from isocenter.engine.dataset import EXPLICIT_LITTLE, WritableElement, write_data_set


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


def payloads() -> Seeds:
    jfif = _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    exif = _segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0")
    signature = _box(b"jP  ", b"\r\n\x87\n")
    sequence = b"\0\0\1\xb3" + struct.pack(">I", 720 << 20 | 576 << 8 | 0x23)
    cda = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2" extension="X"/>'
    return {
        "baseline": b"\0" + _jpeg(jfif, exif, _sof(0xC0, 3, 8)),
        "progressive": b"\0" + _jpeg(jfif, _sof(0xC2, 3, 8)),
        "lossless": b"\0" + _jpeg(_sof(0xC3, 1, 12)),
        "jpeg-ls": b"\0" + _jpeg(_sof(0xF7, 1, 12)),
        "jpeg-2000": b"\1" + _jpeg_2000(3, 7),
        "jp2": b"\1" + signature + _box(b"jp2c", _jpeg_2000(1, 11)),
        "avc": b"\2" + _mp4(b"avc1", _box(b"avcC", bytes((1, 100, 0, 41)))),
        "hevc": b"\2" + _mp4(b"hvc1", _box(b"hvcC", bytes((1, 1)))),
        "mpeg-2": b"\2" + sequence + b"\0\0\1\0x" * 3,
        "pdf": b"\3%PDF-1.7\n%%EOF\n",
        "cda": b"\4" + cda + b"</ClinicalDocument>",
        "stl": b"\5" + bytes(80) + struct.pack("<I", 1) + bytes(50),
        "stl-text": b"\5solid x\nfacet normal 0 0 1\n",
        "obj": b"\6v 0 0 0\n",
        "mtl": b"\7newmtl a\n",
    }


def _mp4(kind: bytes, configuration: bytes) -> bytes:
    sample = kind + bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 64, 48) + bytes(50)
    entry = struct.pack(">III", 0, 1, len(sample) + len(configuration) + 4) + sample + configuration
    table = _box(b"stbl", _box(b"stsd", entry) + _box(b"stts", struct.pack(">IIII", 0, 1, 3, 1001)))
    header = _box(b"mdhd", bytes(12) + struct.pack(">II", 30000, 0))
    media = header + _box(b"hdlr", bytes(8) + b"vide" + bytes(12)) + _box(b"minf", table)
    return _box(b"ftyp", b"isom") + _box(b"moov", _box(b"trak", _box(b"mdia", media)))


_ROWS, _COLUMNS = 6, 8
_UID = b"1.2.3\0"
_CT = b"1.2.840.10008.5.1.4.1.1.2\0"
_GRAYSCALE_STATE = b"1.2.840.10008.5.1.4.1.1.11.1"


def _us(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def _picture(
    *more: WritableElement,
    photometric: bytes = b"MONOCHROME2 ",
    bits: int = 12,
    signed: int = 0,
    samples: int = 1,
    frames: int = 1,
    options: int = 0,
    state: list[WritableElement] | None = None,
) -> bytes:
    """A small image with what is to be seen of it."""
    allocated = 8 if bits <= 8 else 16
    count = _ROWS * _COLUMNS * samples * frames
    if allocated == 8:
        pixels = bytes(each * 5 % 256 for each in range(count))
    else:
        pixels = _us(*(each * 40 % (1 << bits) for each in range(count)))
    elements: list[WritableElement] = [
        (0x0008_0016, "UI", _CT),
        (0x0008_0018, "UI", _UID),
        (0x0028_0002, "US", _us(samples)),
        (0x0028_0004, "CS", photometric),
        (0x0028_0008, "IS", b"%d " % frames),
        (0x0028_0010, "US", _us(_ROWS)),
        (0x0028_0011, "US", _us(_COLUMNS)),
        (0x0028_0100, "US", _us(allocated)),
        (0x0028_0101, "US", _us(bits)),
        (0x0028_0102, "US", _us(bits - 1)),
        (0x0028_0103, "US", _us(signed)),
        (0x7FE0_0010, "OB" if allocated == 8 else "OW", pixels),
        *more,
    ]
    data_set = write_data_set(sorted(elements, key=lambda each: each[0]), EXPLICIT_LITTLE)
    tail = b"" if state is None else write_data_set(state, EXPLICIT_LITTLE)
    return bytes((options, 1)) + struct.pack("<H", len(data_set)) + data_set + tail


def _table(first: int, bits: int, *entries: int) -> list[WritableElement]:
    return [
        (0x0028_3002, "US", _us(len(entries), first, bits)),
        (0x0028_3003, "LO", b"BONE"),
        (0x0028_3006, "US", _us(*entries)),
    ]


def _palette(data: list[bytes], tag: int, bits: int) -> list[WritableElement]:
    return [(0x0028_1101 + place, "US", _us(4, 0, bits)) for place in range(3)] + [
        (tag + place, "OW", each) for place, each in enumerate(data)
    ]


def _state(*more: WritableElement) -> list[WritableElement]:
    reference: list[WritableElement] = [(0x0008_1150, "UI", _CT), (0x0008_1155, "UI", _UID)]
    area: list[WritableElement] = [
        (0x0070_0052, "SL", struct.pack("<2i", 2, -1)),
        (0x0070_0053, "SL", struct.pack("<2i", 7, 9)),
        (0x0070_0100, "CS", b"MAGNIFY "),
        (0x0070_0102, "IS", b"1\\2 "),
        (0x0070_0103, "FL", struct.pack("<f", 1.5)),
    ]
    elements: list[WritableElement] = [
        (0x0008_0016, "UI", _GRAYSCALE_STATE),
        (0x0008_1115, "SQ", [[(0x0008_1140, "SQ", [reference])]]),
        (0x0070_0041, "CS", b"Y "),
        (0x0070_0042, "US", _us(90)),
        (0x0070_005A, "SQ", [area]),
        (0x2050_0020, "CS", b"INVERSE "),
        *more,
    ]
    return sorted(elements, key=lambda each: each[0])


def _graphic(kind: bytes, *points: float) -> list[WritableElement]:
    return [
        (0x0070_0005, "CS", b"PIXEL "),
        (0x0070_0022, "FL", struct.pack(f"<{len(points)}f", *points)),
        (0x0070_0023, "CS", kind),
        (0x0070_0024, "CS", b"Y "),
    ]


def pictures() -> Seeds:
    overlay: list[WritableElement] = [
        (0x6000_0010, "US", _us(3)),
        (0x6000_0011, "US", _us(5)),
        (0x6000_0015, "IS", b"2 "),
        (0x6000_0040, "CS", b"G "),
        (0x6000_0050, "SS", struct.pack("<2h", -1, 4)),
        (0x6000_0051, "US", _us(1)),
        (0x6000_0100, "US", _us(1)),
        (0x6000_0102, "US", _us(0)),
        (0x6000_3000, "OW", b"\xa5\x5a\xa5\x5a"),
    ]
    shutter: list[WritableElement] = [
        (0x0018_1600, "CS", b"RECTANGULAR\\CIRCULAR\\POLYGONAL "),
        (0x0018_1602, "IS", b"1 "),
        (0x0018_1604, "IS", b"7 "),
        (0x0018_1606, "IS", b"1 "),
        (0x0018_1608, "IS", b"6 "),
        (0x0018_1610, "IS", b"3\\4 "),
        (0x0018_1612, "IS", b"4 "),
        (0x0018_1620, "IS", b"1\\1\\1\\8\\6\\4 "),
        (0x0018_1622, "US", _us(0x8000)),
    ]
    windows: list[WritableElement] = [
        (0x0028_0030, "DS", b"0.5\\0.25"),
        (0x0028_0120, "US", _us(40)),
        (0x0028_0121, "US", _us(80)),
        (0x0028_1050, "DS", b"700\\300 "),
        (0x0028_1051, "DS", b"900\\1e2 "),
        (0x0028_1052, "DS", b"-24 "),
        (0x0028_1053, "DS", b"1.5 "),
        (0x0028_1055, "LO", b"SOFT\\BONE "),
        (0x0028_1056, "CS", b"LINEAR_EXACT"),
    ]
    voi: WritableElement = (0x0028_9132, "SQ", [windows[3:5]])
    value: WritableElement = (0x0028_9145, "SQ", [windows[5:7]])
    groups: list[WritableElement] = [
        (0x5200_9229, "SQ", [[value]]),
        (0x5200_9230, "SQ", [[voi], [voi]]),
    ]
    plain = [b"\0\0\x40\x40\x80\x80\xff\xff"] * 3
    segments = [_us(0, 1, 0, 1, 2, 0xFF00, 2, 1, 0, 0)] * 3
    icc = bytes(16) + b"RGB XYZ " + bytes(12) + b"acsp" + bytes(100)
    marks: list[list[WritableElement]] = [
        _graphic(b"POLYLINE", 1, 1, 6, 1, 6, 4, 1, 1),
        _graphic(b"CIRCLE", 4, 3, 6, 3),
        _graphic(b"ELLIPSE ", 1, 3, 7, 3, 4, 1, 4, 5),
        _graphic(b"INTERPOLATED", 1, 1, 4, 5, 7, 2),
        _graphic(b"POINT ", 4, 3),
    ]
    annotated: WritableElement = (0x0070_0001, "SQ", [[(0x0070_0009, "SQ", marks)]])
    softcopy: WritableElement = (0x0028_3110, "SQ", [windows[3:5]])
    return {
        "windows": _picture(*windows, signed=1, options=2),
        "tables": _picture(
            (0x0028_3000, "SQ", [_table(0, 12, 0, 100, 4000)]),
            (0x0028_3010, "SQ", [_table(50, 16, 1, 2, 60000)]),
            (0x2050_0010, "SQ", [_table(0, 8, 0, 255)]),
            options=3,
        ),
        "automatic": _picture(*windows[1:3], photometric=b"MONOCHROME1 ", options=4),
        "overlay": _picture(*overlay, bits=8, frames=2),
        "in-the-pixels": _picture(
            (0x6000_0100, "US", _us(16)), (0x6000_0102, "US", _us(14)), options=1
        ),
        "shutter": _picture(*shutter, options=1),
        "palette": _picture(
            *_palette(plain, 0x0028_1201, 16), photometric=b"PALETTE COLOR ", bits=8
        ),
        "segments": _picture(
            *_palette(segments, 0x0028_1221, 16), photometric=b"PALETTE COLOR ", bits=8
        ),
        "supplement": _picture(
            *_palette(plain, 0x0028_1201, 8), (0x0008_9205, "CS", b"COLOR "), options=5
        ),
        "colours": _picture(
            (0x0028_2000, "OB", icc), photometric=b"YBR_FULL", bits=8, samples=3, options=4
        ),
        "half-chroma": _picture(photometric=b"YBR_PARTIAL_422 ", bits=8, samples=3),
        "groups": _picture(*groups, frames=2),
        "state": _picture(*windows, state=_state(softcopy, *shutter[6:], *overlay)),
        "annotations": _picture(bits=8, options=1, state=_state(annotated)),
    }
