"""Files that break PS3.10 7.1 in the ways that are met, made small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    write_data_set,
)
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

PREAMBLE: Final = bytes(128) + b"DICM"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"


@dataclass(frozen=True)
class Ids:
    """What an object is called."""

    sop_class_uid: str
    sop_instance_uid: str


#: A data set in an encoding.
DataSetIn = Callable[[Encoding], bytes]


@dataclass(frozen=True)
class OddFile:
    """A file, the data set that it holds, and the transfer syntax that this has."""

    content: bytes
    data_set: bytes
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN


def meta_element(
    number: int, value: str | bytes, vr: str = "UI", encoding: Encoding = EXPLICIT_LITTLE
) -> bytes:
    """An element of group 0002."""
    raw = value.encode() if isinstance(value, str) else value
    return write_data_set([(0x0002_0000 + number, vr, raw + b"\0" * (len(raw) % 2))], encoding)


def group_0002(
    ids: Ids,
    syntax: str,
    *,
    wrong_by: int | None = 0,
    encoding: Encoding = EXPLICIT_LITTLE,
    more: bytes = b"",
) -> bytes:
    """Group 0002; *wrong_by*: what its group length is wrong by, None: it has none."""
    body = meta_element(2, ids.sop_class_uid, encoding=encoding)
    body += meta_element(3, ids.sop_instance_uid, encoding=encoding)
    if syntax:
        body += meta_element(0x10, syntax, encoding=encoding)
    body += meta_element(0x12, "1.2.3.4", encoding=encoding) + more
    if wrong_by is None:
        return body
    length = (len(body) + wrong_by).to_bytes(4, "big" if encoding.big_endian else "little")
    return meta_element(0, length, "UL", encoding) + body


def odd_files(ids: Ids, data_set_in: DataSetIn) -> dict[str, OddFile]:
    """One of each kind, all of the same object."""
    data = data_set_in(EXPLICIT_LITTLE)
    implicit = data_set_in(IMPLICIT_LITTLE)
    big = data_set_in(EXPLICIT_BIG)
    leftover = meta_element(2, "1.9") + meta_element(3, "1.9.9")
    leftover += meta_element(0x10, EXPLICIT_VR_LITTLE_ENDIAN)
    little = group_0002(ids, EXPLICIT_VR_LITTLE_ENDIAN)

    def group(syntax: str = EXPLICIT_VR_LITTLE_ENDIAN, **how: object) -> bytes:
        return group_0002(ids, syntax, **how)  # type: ignore[arg-type]

    implicit_le, big_le = IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN
    return {
        "second group": OddFile(
            PREAMBLE + group(implicit_le) + leftover + implicit, implicit, implicit_le
        ),
        "second group, no length": OddFile(
            PREAMBLE + group(implicit_le, wrong_by=None) + leftover + implicit,
            implicit,
            implicit_le,
        ),
        "length too small": OddFile(PREAMBLE + group(wrong_by=-20) + data, data),
        "length too large": OddFile(PREAMBLE + group(wrong_by=20) + data, data),
        "length beyond the file": OddFile(PREAMBLE + group(wrong_by=1 << 30) + data, data),
        "no length": OddFile(PREAMBLE + group(wrong_by=None) + data, data),
        "meta in implicit VR": OddFile(PREAMBLE + group(encoding=IMPLICIT_LITTLE) + data, data),
        "meta in big endian": OddFile(PREAMBLE + group(encoding=EXPLICIT_BIG) + data, data),
        "two preambles": OddFile(PREAMBLE * 2 + little + data, data),
        "a file within a file": OddFile((PREAMBLE + little) * 2 + data, data),
        "NULs before the data set": OddFile(PREAMBLE + little + bytes(254) + data, data),
        "no transfer syntax": OddFile(PREAMBLE + group("") + implicit, implicit, implicit_le),
        "a transfer syntax that is no UID": OddFile(
            PREAMBLE + group("Explicit") + big, big, big_le
        ),
        "padded transfer syntax": OddFile(
            PREAMBLE + group(implicit_le + "\0 \0") + implicit, implicit, implicit_le
        ),
        "implicit that is explicit": OddFile(PREAMBLE + group(implicit_le) + data, data),
        "explicit that is implicit": OddFile(PREAMBLE + little + implicit, implicit, implicit_le),
        "explicit that is big endian": OddFile(PREAMBLE + little + big, big, big_le),
        "deflated that is not": OddFile(
            PREAMBLE + group(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN) + data, data
        ),
        "private information": OddFile(
            PREAMBLE + group(more=meta_element(0x102, bytes(300), "OB")) + data, data
        ),
        "no preamble": OddFile(little + data, data),
        "no preamble, no length": OddFile(
            group(implicit_le, wrong_by=None) + implicit, implicit, implicit_le
        ),
        "nothing but a transfer syntax": OddFile(meta_element(0x10, big_le) + big, big, big_le),
        "prefix, no preamble": OddFile(b"DICM" + little + data, data),
        "prefix, no meta": OddFile(PREAMBLE + data, data),
        "explicit alone": OddFile(data, data),
        "implicit alone": OddFile(implicit, implicit, implicit_le),
        "big endian alone": OddFile(big, big, big_le),
        "a prefix by chance": OddFile(with_prefix(data), with_prefix(data)),
    }


def with_prefix(data: bytes) -> bytes:
    """A data set of which bytes 128 to 131 are DICM."""
    length = int.from_bytes(data[6:8], "little")
    first = data[: 8 + length]
    text = b"x" * (128 - len(first) - 8) + b"DICMx "
    return first + write_data_set([(0x0008_0006, "LO", text)], EXPLICIT_LITTLE) + data[len(first) :]
