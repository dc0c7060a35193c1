"""Documents, models and video, as small as can be."""

from __future__ import annotations

import struct

CDA = (
    b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><typeId root="2.16"/>'
    b'<id root="1.2.3" extension="X1"/></ClinicalDocument>'
)
STL = bytes(80) + struct.pack("<I", 2) + bytes(100)
MPEG = b"\0\0\1\xb3" + struct.pack(">I", 720 << 20 | 576 << 8 | 0x23) + b"\0\0\1\0x" * 7


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def mp4(entry: bytes = b"avc1", profile: int = 100, level: int = 41) -> bytes:
    config = box(b"avcC", bytes([1, profile, 0, level])) if entry == b"avc1" else b""
    sample = entry + bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 640, 480) + bytes(50)
    stsd = bytes(4) + struct.pack(">I", 1) + struct.pack(">I", len(sample) + len(config) + 4)
    media = box(
        b"mdia",
        box(b"mdhd", bytes(12) + struct.pack(">II", 30000, 0)),
        box(b"hdlr", bytes(8) + b"vide" + bytes(12)),
        box(
            b"minf",
            box(
                b"stbl",
                box(b"stsd", stsd, sample, config),
                box(b"stts", bytes(4) + struct.pack(">III", 1, 60, 1001)),
            ),
        ),
    )
    return box(b"ftyp", b"isom") + box(b"mdat", bytes(999)) + box(b"moov", box(b"trak", media))
