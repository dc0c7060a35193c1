from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ElementScanner,
    Encoding,
    ScannedValue,
    write_data_set,
)
from isocenter.services.archive.index.attributes import STORED_TAGS
from isocenter.services.archive.index.extraction import (
    MAX_ITEMS,
    MAX_TEXT_LENGTH,
    SCANNED_SEQUENCES,
    SCANNED_TAGS,
    attributes_of,
)


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_from_data_set_to_attributes(encoding: Encoding) -> None:
    order = "big" if encoding.big_endian else "little"
    data = write_data_set(
        [
            (0x00080005, "CS", b"ISO_IR 192"),
            (0x00080018, "UI", b"1.2.3"),
            (0x00100010, "PN", "Müller^Änne".encode()),
            (0x00100020, "LO", b" P1 "),
            (0x00101001, "PN", b"not kept"),
            (0x00280010, "US", (512).to_bytes(2, order)),
            (
                0x00400275,
                "SQ",
                [
                    [(0x00400009, "SH", "Sé".encode()), (0x00400020, "CS", b"X")],
                    [(0x00401001, "SH", b"R2")],
                ],
            ),
        ],
        encoding,
    )
    scanner = ElementScanner(encoding, SCANNED_TAGS, sequences=SCANNED_SEQUENCES)
    scanner.feed(data)
    scanner.finish()
    attributes = attributes_of(scanner.values, encoding)
    assert orjson.loads(attributes.pop(0x00400275)) == [{"00400009": "Sé"}, {"00401001": "R2"}]
    assert attributes == {
        0x00080018: "1.2.3",
        0x00100010: "Müller^Änne",
        0x00100020: "P1",
        0x00280010: "512",
    }


@pytest.mark.parametrize(
    ("tag", "raw", "text"),
    [
        (0x00100020, b"P\x001\x07 ", "P1"),
        (0x00104000, b"a\r\n\tb\x07 ", "a\r\n\tb"),
        (0x00081030, b"a\r\n\tb", "ab"),
        (0x00081030, b"", None),
        (0x00081030, b"  ", None),
        (0x00081030, "ä\x85b".encode("latin-1"), "äb"),
        (0x00081030, b"x" * 5000, "x" * MAX_TEXT_LENGTH),
        # What makes a UID unsafe is not tidied away.
        (0x00080018, b"1.2\x00.3", "1.2\x00.3"),
        (0x00080018, b"1.2/../3\0", "1.2/../3"),
        (0x00080008, b"ORIGINAL\\PRIMARY ", "ORIGINAL\\PRIMARY"),
        (0x00280010, b"\x01", None),
        (0x00400275, b"not a sequence", None),
    ],
)
def test_one_value(tag: int, raw: bytes, text: str | None) -> None:
    assert attributes_of({tag: raw}, EXPLICIT_LITTLE).get(tag) == text


def test_items_are_bounded_and_have_their_own_character_set() -> None:
    item: dict[int, ScannedValue] = {0x00080005: b"ISO_IR 100", 0x00400007: b"\xe4" * 2000}
    values: dict[int, ScannedValue] = {0x00080005: b"ISO_IR 192", 0x00400275: (item,) * 500}
    items = orjson.loads(attributes_of(values, EXPLICIT_LITTLE)[0x00400275])
    assert items == [{"00400007": "ä" * MAX_TEXT_LENGTH}] * MAX_ITEMS


@given(
    st.dictionaries(
        st.sampled_from(sorted(STORED_TAGS | {0x00080005})),
        st.binary(max_size=40) | st.just(({},)) | st.just(({0x00401001: b"\x1b\xff"},)),
    )
)
def test_nothing_raises(values: dict[int, ScannedValue]) -> None:
    for tag, text in attributes_of(values, EXPLICIT_LITTLE).items():
        assert tag in STORED_TAGS
        assert text
        assert len(text) <= MAX_TEXT_LENGTH
        text.encode()
