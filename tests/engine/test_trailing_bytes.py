"""What is behind a data set, told apart from one that was cut or damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_has_tag

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    ElementScanner,
    Encoding,
    Fragments,
    encoding_of,
    read_file_head,
    write_data_set,
)
from isocenter.engine.dataset.trailing_bytes import start_of_trailing_bytes
from isocenter.engine.dataset.writer import WritableElement

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = (
    "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm",
    "rtdose_rle.dcm", "SC_rgb_rle_2frame.dcm", "liver_1frame.dcm",
)  # fmt: skip
GARBAGE = {
    "page": b"<html>not found</html>\r\n" * 3,
    "text": b"TRAILING GARBAGE!",
    "three": b"abc",
    "line end": b"\r\n",
    "random": random.Random(1).randbytes(500),
    "long": random.Random(2).randbytes(70_000),
    "padding and text": b" " * 50 + b"tail",
    "NULs and text": bytes(64) + b"x",
    "zip": b"PK\x03\x04" + random.Random(3).randbytes(40),
}
ENCODINGS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)


def is_readable(data: bytes, encoding: Encoding) -> bool:
    scanner = ElementScanner(encoding, frozenset())
    try:
        scanner.feed(data)
        scanner.finish()
    except DataSetError:
        return False
    return True


def split(name: str) -> tuple[bytes, Encoding]:
    content = (DATA / name).read_bytes()
    head = read_file_head(content)
    return content[head.data_set_offset :], encoding_of(head.transfer_syntax_uid)


def report(encoding: Encoding) -> bytes:
    elements: list[WritableElement] = [
        (0x00080018, "UI", b"1.2.3"),
        (0x0020000E, "UI", b"1.2.4"),
        (0x0040A730, "SQ", [[(0x0040A160, "UT", b"text")]]),
    ]
    return write_data_set(elements, encoding)


@pytest.mark.parametrize("name", FILES)
def test_it_begins_where_the_data_set_ended(name: str) -> None:
    data, encoding = split(name)
    found = {
        kind: start_of_trailing_bytes(data + more, encoding, dictionary_has_tag)
        for kind, more in GARBAGE.items()
        if not is_readable(data + more, encoding)
    }
    assert len(found) > 5
    assert found == dict.fromkeys(found, len(data))
    assert start_of_trailing_bytes(data, encoding, dictionary_has_tag) is None


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_behind_a_report_as_well(encoding: Encoding, garbage: str) -> None:
    data = report(encoding)
    longer = data + GARBAGE[garbage]
    found = start_of_trailing_bytes(longer, encoding, dictionary_has_tag)
    # Where it could be the beginning of an element, that counts.
    assert found == (None if garbage == "three" else len(data))


@pytest.mark.parametrize("name", FILES)
def test_what_was_cut_has_nothing_behind(name: str) -> None:
    data, encoding = split(name)
    source = random.Random(name)
    for _ in range(60):
        cut = data[: source.randrange(1, len(data))]
        if not is_readable(cut, encoding):
            found = start_of_trailing_bytes(cut, encoding, dictionary_has_tag, is_image=True)
            assert found is None, len(cut)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_where_elements_go_on_it_was_damaged(encoding: Encoding) -> None:
    data = report(encoding)
    at = data.index(write_data_set([(0x0040A730, "SQ", [])], encoding)[:4])
    damaged = data[:at] + b"\xfe" * 30 + data[at:]
    assert not is_readable(damaged, encoding)
    assert start_of_trailing_bytes(damaged, encoding, dictionary_has_tag) is None


def test_an_image_without_pixels_was_cut() -> None:
    data = write_data_set(
        [(0x0020000E, "UI", b"1.2.4"), (0x00280010, "US", b"\1\0")], EXPLICIT_LITTLE
    )
    assert start_of_trailing_bytes(data + b"x" * 40, EXPLICIT_LITTLE, dictionary_has_tag) is None


def test_an_unended_sequence_is_no_garbage() -> None:
    data = write_data_set([(0x0020000E, "UI", b"1.2.4")], EXPLICIT_LITTLE)
    pixels = write_data_set([(0x7FE00010, "OB", Fragments((b"", b"ab")))], EXPLICIT_LITTLE)
    for cut in range(9, len(pixels) - 8):
        found = start_of_trailing_bytes(data + pixels[:cut], EXPLICIT_LITTLE, dictionary_has_tag)
        assert found is None


def test_elements_out_of_order_are_elements() -> None:
    data = b"".join(
        write_data_set([(tag, "UI", b"1.2.4")], IMPLICIT_LITTLE)
        for tag in (0x0020000E, 0x0020000D, 0x00080018)
    )
    found = start_of_trailing_bytes(data + b"x" * 40, IMPLICIT_LITTLE, dictionary_has_tag)
    assert found == len(data)
