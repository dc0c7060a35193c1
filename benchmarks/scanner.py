"""What it costs to take the index's elements out of a CT header, beside pydicom.

Run it from the repository::

    PYTHONPATH=engine:services python benchmarks/scanner.py

Prints microseconds per data set (the best of several rounds) and the ratio.
"""

from __future__ import annotations

import io
import platform
import struct
import sys
import timeit
from collections.abc import Callable
from functools import partial

import pydicom
from ct_image import PIXELS, ct_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.engine.dataset import (
    ElementScanner,
    Encoding,
    Reencoder,
    encoding_of,
    read_data_set,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.limits import Limits
from isocenter.services.archive.index.attributes import ATTRIBUTES, STORED_TAGS

SEQUENCES = frozenset(a.tag for a in ATTRIBUTES if a.vr == "SQ")
FRAGMENT = 16 << 10
ROUNDS = 7
CALLS = 300


def microseconds(call: Callable[[], object]) -> float:
    """The best of some rounds: what the code costs, not what the machine was doing besides."""
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def scan(pieces: list[bytes], encoding: Encoding, sequences: frozenset[int]) -> ElementScanner:
    scanner = ElementScanner(encoding, STORED_TAGS, sequences=sequences)
    for piece in pieces:
        scanner.feed(piece)
    scanner.finish()
    return scanner


def read_with_pydicom(file: bytes) -> object:
    return pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True)


def report(name: str, value: float, unit: str = "µs") -> None:
    sys.stdout.write(f"{name:<58}{value:10.1f} {unit}\n")


def main() -> None:
    sys.stdout.write(f"Python {platform.python_version()}, pydicom {pydicom.__version__}\n")
    for name, uid in (
        ("explicit VR little endian", ExplicitVRLittleEndian),
        ("implicit VR little endian", ImplicitVRLittleEndian),
    ):
        file = ct_file(uid)
        encoding = encoding_of(uid)
        data_set = file[read_file_meta(file).data_set_offset :]
        fragments = [
            data_set[start : start + FRAGMENT] for start in range(0, len(data_set), FRAGMENT)
        ]
        scanner = scan(fragments, encoding, SEQUENCES)
        elements = read_data_set(data_set, encoding, Limits(identifier=len(data_set)))
        sys.stdout.write(
            f"\n{name}: {len(elements)} elements, {len(data_set) - PIXELS} bytes and the pixels, "
            f"{len(scanner.values)} elements wanted and found\n"
        )
        ours = microseconds(partial(scan, fragments, encoding, SEQUENCES))
        theirs = microseconds(partial(read_with_pydicom, file))
        report(f"ElementScanner, whole data set in {len(fragments)} fragments", ours)
        report("pydicom.dcmread(stop_before_pixels=True)", theirs)
        report("ratio", theirs / ours, "times")

    identifier = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00080020, "DA", b"20240131"),
        (0x00080030, "TM", b"101112"),
        (0x00080050, "SH", b"A0000001"),
        (0x00080052, "CS", b"STUDY "),
        (0x00080054, "AE", b"ISOCENTER "),
        (0x00080061, "CS", b"CT"),
        (0x00080090, "PN", b"Referring^Doctor"),
        (0x00081030, "LO", b"Thorax^Routine"),
        (0x00100010, "PN", b"Phantom^Benchmark"),
        (0x00100020, "LO", b"B0000001"),
        (0x00100030, "DA", b"19700101"),
        (0x0020000D, "UI", b"1.3.12.2.1107.5.1.4.50000.30000024013110111200000001"),
        (0x00201206, "IS", b"3 "),
        (0x00201208, "IS", b"120 "),
    ]
    sys.stdout.write("\n")
    implicit = encoding_of(ImplicitVRLittleEndian)
    explicit = encoding_of(ExplicitVRLittleEndian)
    encoded = write_data_set(identifier, implicit)
    report(
        "write_data_set, identifier of 15",
        microseconds(lambda: write_data_set(identifier, implicit)),
    )
    report("read_data_set, the same", microseconds(lambda: read_data_set(encoded, implicit)))
    big = encoding_of("1.2.840.10008.1.2.2")
    pixels = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", 64 << 20)
    piece = bytes(128 << 10)

    def swap() -> None:
        reencoder = Reencoder(explicit, big, lambda _tag, _creator: "UN")
        reencoder.feed(pixels)
        for _ in range((64 << 20) // len(piece)):
            reencoder.feed(piece)
        reencoder.finish()

    seconds = min(timeit.repeat(swap, number=1, repeat=3))
    report("Reencoder, OW little to big endian, 64 MiB", 64 / seconds, "MiB/s")


if __name__ == "__main__":
    main()
