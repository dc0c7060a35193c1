"""DICOM JSON, written and read: each odd value that is found in the wild, and whole objects."""

from __future__ import annotations

import json
import math
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    Encoding,
    Fragments,
    encoding_of,
    read_data_set,
    read_file_head,
    write_data_set,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.bulk_data import BulkValue, Placement, left_out
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import JsonWriter, json_of
from isocenter.services.dicom.model_file import write_model_file
from isocenter.services.dicom.model_reader import ModelError, encode_texts, read_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

#: A private tag, so that no dictionary has a say.
TAG = 0x00091001
KEY = "00091001"


def written(
    elements: list[WritableElement], encoding: Encoding = EXPLICIT_LITTLE, **options: Any
) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        json_of(write_data_set(elements, encoding), encoding, **options)
    )
    return found


def value_of(vr: str, raw: bytes, encoding: Encoding = EXPLICIT_LITTLE) -> Any:
    """What stands between the brackets, as text; None: there are none."""
    text = json_of(write_data_set([(TAG, vr, raw)], encoding), encoding).decode()
    assert text.startswith(f'{{"{KEY}":{{"vr":"{vr}"')
    _, found, rest = text.partition('"Value":[')
    return rest.removesuffix("]}}") if found else None


def read_back(text: str, vr: str, key: str = KEY) -> bytes:
    model = f'{{"{key}":{{"vr":"{vr}","Value":[{text}]}}}}'
    read = read_model(read_json(model.encode())[0])
    encode_texts(read)
    (element,) = [one for one in read.elements.values() if one.tag != 0x00080005]
    assert isinstance(element.value, bytes)
    return element.value


# -- Numbers as text ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"1.0", "1.0"), (b"-0.5", "-0.5"), (b"1e-5", "1e-5"), (b"0.488281", "0.488281"),
        (b"1.000000", "1.000000"), (b"1e3", "1e3"), (b"1E+3", "1E+3"),
        # What JSON does not know, or what a double does not hold, stays the text that it is.
        (b"1.", '"1."'), (b".5", '".5"'), (b"+1", '"+1"'), (b"01", '"01"'),
        (b"1e400", '"1e400"'), (b"1e-400", '"1e-400"'), (b"5.e-002", '"5.e-002"'),
        (b"1,5", '"1,5"'), (b"NaN", '"NaN"'), (b"-0", '"-0"'), (b"abc", '"abc"'),
        (b"0.1234567890123456789", '"0.1234567890123456789"'),
        (b"123456789012345.5", '"123456789012345.5"'),
        (b"10000000000000000000", "10000000000000000000"),
        (b" 1.0 ", "1.0"), (b"1.0\0", "1.0"), (b"", None), (b"  ", None),
        (b"1\\", "1,null"), (b"\\1", "null,1"), (b"1\\\\2", "1,null,2"), (b"1 \\ 2", "1,2"),
        (b"\\\\", None), (b"1.5\\NaN", '1.5,"NaN"'),
    ],
)  # fmt: skip
def test_ds(raw: bytes, expected: str | None) -> None:
    assert value_of("DS", raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"3", "3"), (b"-12", "-12"), (b" 12 ", "12"), (b"2147483648", "2147483648"),
        (b"3.0", '"3.0"'), (b"-0", '"-0"'), (b"+3", '"+3"'), (b"007", '"007"'),
        (b"9007199254740993", '"9007199254740993"'), (b"x", '"x"'), (b"1\\2\\", "1,2,null"),
    ],
)  # fmt: skip
def test_is(raw: bytes, expected: str) -> None:
    assert value_of("IS", raw) == expected


def test_a_contour_of_64_kb_is_numbers() -> None:
    values = [f"{number / 7:.6f}" for number in range(6_000)]
    text = value_of("DS", "\\".join(values).encode()[:65_000])
    assert text.split(",")[:3] == values[:3]
    json.loads(f"[{text}]")


@pytest.mark.parametrize("text", ["1.000000", "-0.50", "1e-5", "12345678901234.5"])
def test_a_decimal_comes_back_digit_for_digit(text: str) -> None:
    assert read_back(value_of("DS", text.encode()), "DS").decode() == text


@pytest.mark.parametrize(
    ("json_text", "raw"),
    [
        ("0.30000000000000004", b"0.3"), ("1", b"1"), ("null", b""), ('" 5.e-002"', b" 5.e-002"),
        ("1e400", b"1e400"), ("1,null,2", b"1\\\\2"), ("123456789.123456789", b"123456789.123457"),
    ],
)  # fmt: skip
def test_every_form_of_ds_is_read(json_text: str, raw: bytes) -> None:
    found = read_back(json_text, "DS")
    assert found == raw or float(found) == pytest.approx(float(raw))
    assert all(len(value) <= 16 for value in found.split(b"\\"))


@pytest.mark.parametrize(
    ("json_text", "raw"), [("3.0", b"3"), ("3", b"3"), ('"3.0"', b"3.0"), ("null", b"")]
)
def test_every_form_of_is_is_read(json_text: str, raw: bytes) -> None:
    assert read_back(json_text, "IS") == raw


# -- Binary numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize(
    ("vr", "code", "number", "expected"),
    [
        ("US", "H", 65_535, "65535"), ("SS", "h", -1, "-1"), ("UL", "I", 1 << 31, "2147483648"),
        ("SL", "i", -5, "-5"), ("SV", "q", 1 << 53, "9007199254740992"),
        ("SV", "q", (1 << 53) + 1, '"9007199254740993"'),
        ("SV", "q", -(1 << 53) - 1, '"-9007199254740993"'),
        ("UV", "Q", (1 << 64) - 1, '"18446744073709551615"'),
        ("FL", "f", 0.1, "0.1"), ("FL", "f", 3.0, "3.0"), ("FL", "f", -0.0, "-0.0"),
        ("FL", "f", 1e-45, "1.4013e-45"), ("FL", "f", math.nan, '"NaN"'),
        ("FL", "f", math.inf, '"Infinity"'), ("FL", "f", -math.inf, '"-Infinity"'),
        ("FL", "f", 3.4028234663852886e38, "3.4028235e+38"),
        ("FD", "d", 0.1, "0.1"), ("FD", "d", math.nan, '"NaN"'), ("FD", "d", 5e-324, "5e-324"),
        ("FD", "d", 1e22, "1e+22"),
    ],
)  # fmt: skip
def test_numbers(vr: str, code: str, number: float, expected: str, encoding: Encoding) -> None:
    raw = struct.pack((">" if encoding.big_endian else "<") + code, number)
    assert value_of(vr, raw, encoding) == expected
    back = read_back(expected, vr)
    assert back == struct.pack("<" + code, number) or math.isnan(number)
    assert value_of(vr, raw + raw, encoding) == f"{expected},{expected}"


@given(st.floats(width=32, allow_nan=False))
def test_every_single_comes_back(number: float) -> None:
    raw = struct.pack("<f", number)
    assert read_back(value_of("FL", raw), "FL") == raw


@pytest.mark.parametrize("text", ['"nan"', '"NaN"', "null", "NaN"])
def test_every_form_of_nan_is_read(text: str) -> None:
    assert math.isnan(struct.unpack("<f", read_back(text, "FL"))[0])


@pytest.mark.parametrize("text", ['"inf"', '"Infinity"', "Infinity", '"INF"'])
def test_every_form_of_infinity_is_read(text: str) -> None:
    assert struct.unpack("<d", read_back(text, "FD")) == (math.inf,)


def test_what_is_left_over_of_a_number_is_said() -> None:
    parts: list[str] = []
    writer = JsonWriter(parts.append)
    writer.data_set(
        write_data_set([(TAG, "UL", b"\1\0\0\0\2\0")], EXPLICIT_LITTLE), EXPLICIT_LITTLE
    )
    assert "".join(parts) == '{"00091001":{"vr":"UL","Value":[1]}}'
    assert any("length does not fit" in what for what in writer.forgiven)


def test_a_tag_is_eight_digits_in_upper_case() -> None:
    raw = b"\x10\0\x20\0\xe0\x7f\x0a\x00"
    assert value_of("AT", raw) == '"00100020","7FE0000A"'
    assert read_back('"00100020","(7FE0,000a)"', "AT") == raw


# -- Texts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"DOE^JOHN", [{"Alphabetic": "DOE^JOHN"}]),
        (b"=B=C", [{"Ideographic": "B", "Phonetic": "C"}]),
        (b"A==C", [{"Alphabetic": "A", "Phonetic": "C"}]),
        (b"A^B^C^D^E^F", [{"Alphabetic": "A^B^C^D^E^F"}]),
        (b"^^^", [{"Alphabetic": "^^^"}]),
        (b"==", None), (b"\\", None), (b" ", None),
        (b"A\\\\B", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
        (b"A=B=C=D", [{"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C=D"}]),
    ],
)  # fmt: skip
def test_names(raw: bytes, expected: object) -> None:
    found = written([(0x00100010, "PN", raw)])["00100010"]
    assert found.get("Value") == expected
    if expected is not None:
        back = read_back(json.dumps(found["Value"])[1:-1], "PN", "00100010")
        assert back.rstrip(b"=") == raw.rstrip(b" =")


def test_a_name_in_three_scripts() -> None:
    raw = "YAMADA^TARO=山田^太郎=やまだ^たろう".encode()
    found = written([(0x00080005, "CS", b"ISO_IR 192"), (0x00100010, "PN", raw)])
    assert found["00100010"]["Value"] == [
        {"Alphabetic": "YAMADA^TARO", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("UI", b"1.2.3\0", '"1.2.3"'), ("UI", b"1.2\\\\3", '"1.2",null,"3"'),
        ("DA", b"1997.10.12", '"1997.10.12"'), ("TM", b"10:30", '"10:30"'),
        ("LT", b" a\\b\r\n\x0c ", r'" a\\b\r\n\f"'), ("ST", b"x\\y", r'"x\\y"'),
        ("UT", b"\\\\", r'"\\\\"'), ("UR", b"http://x/\\y", r'"http://x/\\y"'),
        ("LO", b'say "hi"', r'"say \"hi\""'), ("CS", b"A \\B", '"A","B"'),
        ("SH", b"\x01\x1f", r'"\u0001\u001f"'), ("LO", b"", None), ("LO", b"\0\0", None),
    ],
)  # fmt: skip
def test_texts(vr: str, raw: bytes, expected: str | None) -> None:
    assert value_of(vr, raw) == expected


@pytest.mark.parametrize(
    ("character_set", "raw", "expected"),
    [
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 13", b"\x5c100\xd4\xcf", "¥100ﾔﾏ"),
        (b"GB18030", "王\u4e3e".encode("gb18030"), "王\u4e3e"),
        (b"latin1", "é".encode("latin-1"), "é"),
        (b"no such set", "é".encode("latin-1"), "é"),
        (b"", "é".encode("latin-1"), "é"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3\x1b(BA", "山A"),
    ],
)  # fmt: skip
def test_character_sets(character_set: bytes, raw: bytes, expected: str) -> None:
    found = written([(0x00080005, "CS", character_set), (0x00104000, "LT", raw)])
    value = found["00104000"]["Value"][0]
    assert value == expected or value.replace("\\", "¥") == expected


def test_an_item_has_its_own_character_set_and_the_one_around_it_otherwise() -> None:
    latin, utf8 = "é".encode("latin-1"), "é".encode()
    found = written(
        [
            (0x00080005, "CS", b"ISO_IR 192"),
            (
                0x00400275,
                "SQ",
                [
                    [(0x00080005, "CS", b"ISO_IR 100"), (0x00400007, "LO", latin)],
                    [(0x00400007, "LO", utf8)],
                ],
            ),
            (0x00401008, "LO", utf8),
        ]
    )
    first, second = found["00400275"]["Value"]
    assert first["00400007"]["Value"] == second["00400007"]["Value"] == ["é"]
    assert found["00401008"]["Value"] == ["é"]


def test_text_that_its_character_set_does_not_have_is_said() -> None:
    parts: list[str] = []
    writer = JsonWriter(parts.append)
    elements: list[WritableElement] = [
        (0x00080005, "CS", b"ISO_IR 192"), (0x00104000, "LT", b"\xff\xfe"),
    ]  # fmt: skip
    writer.data_set(write_data_set(elements, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    assert json.loads("".join(parts))
    assert any("character set" in what for what in writer.forgiven)


# -- Bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize("vr", ["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
def test_bytes_are_base64_in_little_endian(vr: str) -> None:
    raw = bytes(range(16))
    little = written([(TAG, vr, raw)])
    assert little == {KEY: {"vr": vr, "InlineBinary": "AAECAwQFBgcICQoLDA0ODw=="}}
    width = {"OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}.get(vr, 1)
    swapped = b"".join(raw[at : at + width][::-1] for at in range(0, 16, width))
    assert written([(TAG, vr, swapped)], EXPLICIT_BIG) == little
    read = read_model(read_json(json.dumps(little).encode())[0])
    assert read.elements[TAG].value == raw


def test_bytes_of_odd_length_are_kept() -> None:
    data = b"\x09\0\x01\x10OB\0\0\x03\0\0\0abc"
    assert json.loads(json_of(data, EXPLICIT_LITTLE)) == {KEY: {"vr": "OB", "InlineBinary": "YWJj"}}


def test_no_bytes_are_no_value() -> None:
    assert written([(TAG, "UN", b""), (0x7FE00010, "OW", b"")]) == {
        KEY: {"vr": "UN"}, "7FE00010": {"vr": "OW"},
    }  # fmt: skip


def test_bulk_data_is_left_out_inline_or_named() -> None:
    seen: list[BulkValue] = []

    def place(value: BulkValue) -> str | Placement:
        seen.append(value)
        return f"urn:{value.path_text}"

    icon: list[WritableElement] = [(0x7FE00010, "OB", b"ab")]
    elements: list[WritableElement] = [
        (0x00081140, "SQ", [[], [(0x00880200, "SQ", [icon])]]),
        (0x00091001, "OB", bytes(1_024)),
        (0x00091002, "UN", bytes(1_026)),
        (0x54000100, "SQ", [[(0x54001010, "OW", bytes(4_000))]]),
        (0x60003000, "OW", bytes(32)),
        (0x7FE00001, "OV", bytes(8)),
        (0x7FE00010, "OB", Fragments((b"", b"abcd"))),
    ]
    named = written(elements, bulk=place)
    inner = named["00081140"]["Value"][1]["00880200"]["Value"][0]
    assert inner["7FE00010"] == {"vr": "OB", "BulkDataURI": "urn:00081140/2/00880200/1/7FE00010"}
    assert named["00091002"]["BulkDataURI"] == "urn:00091002"
    assert named["54000100"]["Value"][0]["54001010"]["BulkDataURI"] == "urn:54000100/1/54001010"
    assert "InlineBinary" in named["00091001"]
    assert "InlineBinary" in named["60003000"]
    assert "InlineBinary" in named["7FE00001"]
    assert [value.is_encapsulated for value in seen] == [False, False, False, True]
    without = written(elements, bulk=left_out)
    assert "7FE00010" not in without
    assert without["54000100"] == {"vr": "SQ", "Value": [{}]}
    assert "InlineBinary" in written(elements)["7FE00010"]


# -- Structure ---------------------------------------------------------------------------


def test_empty_sequences_and_items() -> None:
    assert written([(0x00081140, "SQ", []), (0x00400275, "SQ", [[]])]) == {
        "00081140": {"vr": "SQ"}, "00400275": {"vr": "SQ", "Value": [{}]},
    }  # fmt: skip
    for pretty in (False, True):
        read = read_model(
            read_json(
                json_of(
                    write_data_set([(0x00400275, "SQ", [[], []])], EXPLICIT_LITTLE),
                    EXPLICIT_LITTLE, is_pretty=pretty,
                )
            )[0]
        )  # fmt: skip
        assert read.elements[0x00400275].value == [{}, {}]


def nested(depth: int) -> list[WritableElement]:
    elements: list[WritableElement] = [(0x00080050, "SH", b"A1")]
    for _ in range(depth):
        elements = [(0x00400275, "SQ", [elements])]
    return elements


def test_nesting_of_64_is_written_and_read_and_65_is_not() -> None:
    deepest = written(nested(64))
    read_model(deepest)
    with pytest.raises(DataSetLimitError):
        written(nested(65))
    with pytest.raises(ModelError, match="nested deeper"):
        read_model({"00400275": {"vr": "SQ", "Value": [deepest]}})


def test_group_lengths_and_padding_are_left_out() -> None:
    found = written(
        [(0x00080000, "UL", bytes(4)), (0x00080060, "CS", b"CT"), (0xFFFCFFFC, "OB", bytes(8))]
    )
    assert list(found) == ["00080060"]


def test_group_0002_comes_from_the_file_only() -> None:
    data = write_data_set(
        [(0x00020010, "UI", b"1.2\0"), (0x00080060, "CS", b"CT")], EXPLICIT_LITTLE
    )
    parts: list[str] = []
    writer = JsonWriter(parts.append)
    writer.data_set(data, EXPLICIT_LITTLE, {0x00020000: bytes(4), 0x00020010: b"1.2.840.10008.1.2"})
    assert json.loads("".join(parts)) == {
        "00020010": {"vr": "UI", "Value": ["1.2.840.10008.1.2"]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
    }
    assert any("group 0002" in what for what in writer.forgiven)


def test_out_of_order_and_twice() -> None:
    """The last of a tag counts, and all are in order, however long the text is."""
    bulk = b"\x09\0\x00\x20OB\0\0\x00\x00\x08\x00" + bytes(0x80000)
    one = b"\x08\0\x60\0CS\x02\0CT"
    for data in (bulk[:8] + b"\2\0\0\0ab" + one + one[:-2] + b"MR", bulk + one + one[:-2] + b"MR"):
        assert list(json.loads(json_of(data, EXPLICIT_LITTLE)))[:1] == ["00080060"]
        assert json.loads(json_of(data, EXPLICIT_LITTLE))["00080060"]["Value"] == ["MR"]


def test_out_of_order_within_items() -> None:
    item = b"\x08\0\x60\0CS\x02\0CT\x08\0\x50\0SH\x02\0A1"
    value = b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    data = b"\x40\0\x75\x02SQ\0\0" + len(value).to_bytes(4, "little") + value
    (inner,) = json.loads(json_of(data, EXPLICIT_LITTLE))["00400275"]["Value"]
    assert list(inner) == ["00080050", "00080060"]


def test_un_of_unknown_length_holds_a_sequence() -> None:
    inner = write_data_set([(0x00080050, None, b"A1")], IMPLICIT_LITTLE)
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    data = b"\x40\0\x75\x02UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert json.loads(json_of(data, EXPLICIT_LITTLE)) == {
        "00400275": {"vr": "SQ", "Value": [{"00080050": {"vr": "SH", "Value": ["A1"]}}]}
    }


def test_a_un_that_the_dictionary_knows_is_what_it_was() -> None:
    assert written([(0x00100010, "UN", b"A^B "), (0x00111001, "UN", b"ab")]) == {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]},
        "00111001": {"vr": "UN", "InlineBinary": "YWI="},
    }


# -- VRs that implicit VR does not say ---------------------------------------------------


@pytest.mark.parametrize(("representation", "vr", "value"), [(0, "US", 65_535), (1, "SS", -1)])
def test_us_or_ss(representation: int, vr: str, value: int) -> None:
    found = written(
        [(0x00280103, None, bytes((representation, 0))), (0x00280106, None, b"\xff\xff")],
        IMPLICIT_LITTLE,
    )
    assert found["00280106"] == {"vr": vr, "Value": [value]}


def test_a_table_is_ow_and_so_are_pixels() -> None:
    found = written(
        [(0x00281201, None, b"\1\0"), (0x00283006, None, b"\1\0"), (0x7FE00010, None, b"ab")],
        IMPLICIT_LITTLE,
    )
    assert {one["vr"] for one in found.values()} == {"OW"}


def test_private_elements_without_a_vr() -> None:
    """By creator; without one, UN; two creators in one group; a private sequence."""
    item = write_data_set([(0x00080050, None, b"A1")], IMPLICIT_LITTLE)
    value = b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    found = written(
        [
            (0x00190010, None, b"GEMS_ACQU_01"),
            (0x00191002, None, b"\2\0\0\0"),
            (0x00191102, None, b"\2\0\0\0"),
            (0x20010010, None, b"Philips Imaging DD 001"),
            (0x20010011, None, b"nobody knows"),
            (0x20011068, None, value),
            (0x20011168, None, value),
        ],
        IMPLICIT_LITTLE,
    )
    assert found["00190010"] == {"vr": "LO", "Value": ["GEMS_ACQU_01"]}
    assert found["00191002"] == {"vr": "SL", "Value": [2]}
    assert found["00191102"]["vr"] == "UN"
    assert found["20011068"]["Value"] == [{"00080050": {"vr": "SH", "Value": ["A1"]}}]
    assert found["20011168"]["vr"] == "UN"


# -- What is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no JSON"), ("{", "no JSON"), ("[1]", "no data set"), ('"x"', "no data set"),
        ('{"00080060":{"vr":"CS"},"00080060":{"vr":"CS"}}', "twice"),
        ('{"00080060":{"vr":"CS","vr":"SH"}}', "twice"),
        ("[" * 100_000, "too deep"),
        ('{"x":{"vr":"CS"}}', "no tag"), ('{"00080060":1}', "expected an object"),
        ('{"00080060":{"vr":"XX"}}', "none of PS3.5"), ('{"00080060":{"vr":5}}', "none of PS3.5"),
        ('{"00280010":{"vr":"US","Value":[70000]}}', r"\(0028,0010\)"),
        ('{"00280010":{"vr":"US","Value":["x"]}}', r"\(0028,0010\)"),
        ('{"00280010":{"vr":"US","Value":[null]}}', r"\(0028,0010\)"),
        ('{"00280010":{"vr":"US","Value":[true]}}', r"\(0028,0010\)"),
        ('{"00280010":{"vr":"US","Value":[1e999999999]}}', r"\(0028,0010\)"),
        ('{"00080060":{"vr":"CS","Value":[{}]}}', r"\(0008,0060\)"),
        ('{"00080060":{"vr":"CS","Value":["王"]}}', "beyond ASCII"),
        ('{"00100010":{"vr":"PN","Value":[{"Alfabetic":"x"}]}}', r"\(0010,0010\)"),
        ('{"00104000":{"vr":"LT","Value":["a","b"]}}', "one value"),
        ('{"7FE00010":{"vr":"OW","InlineBinary":"%%%"}}', "Base64"),
        ('{"7FE00010":{"vr":"OW","InlineBinary":5}}', "no text"),
        ('{"7FE00010":{"vr":"OW","Value":[1]}}', "InlineBinary or BulkDataURI"),
        ('{"7FE00010":{"vr":"OW","InlineBinary":"","BulkDataURI":"x"}}', "one of them"),
        ('{"7FE00010":{"vr":"OW","BulkDataURI":"http://x/"}}', "elsewhere"),
        ('{"00400275":{"vr":"SQ","Value":[1]}}', r"\(0040,0275\)\[0\]"),
        ('{"00400275":{"vr":"SQ","Value":[{"00080060":{"vr":"X"}}]}}',
         r"\(0040,0275\)\[0\]\.\(0008,0060\)"),
        ('{"00041220":{"vr":"SQ"}}', "DICOMDIR"), ('{"00000002":{"vr":"UI"}}', "messages"),
        ('{"00400275":{"vr":"SQ","Value":[{"00020010":{"vr":"UI"}}]}}', "head of a file"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_named(text: str, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        read_model(read_json(text.encode())[0])


def test_bytes_that_are_no_utf_8() -> None:
    with pytest.raises(ModelError, match="UTF-8"):
        read_json(b'{"00080060":{"vr":"CS","Value":["\xff"]}}')


def test_messages_show_no_value() -> None:
    with pytest.raises(ModelError) as raised:
        read_model(read_json(b'{"00280010":{"vr":"US","Value":["SECRET^NAME"]}}')[0])
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"00100010":{"vr":"PN","Value":["A^B"]}}', '{"00100010":{"Value":["A^B"]}}',
        '{"00100010":{"vr":"pn","Value":[{"Alphabetic":"A^B"}]}}',
        '{"00100010":{"vr":"PN","Value":"A^B"}}', '{"PatientName":{"vr":"PN","Value":["A^B"]}}',
        '{"(0010,0010)":{"vr":"PN","Value":["A^B"]}}',
    ],
)  # fmt: skip
def test_what_is_meant_is_taken(text: str) -> None:
    read = read_model(read_json(text.encode())[0])
    encode_texts(read)
    assert read.elements[0x00100010].value == b"A^B"


# -- Whole objects -----------------------------------------------------------------------


DATA = Path(pydicom.__file__).parent / "data" / "test_files"
OBJECTS = [path for path in sorted(DATA.glob("*.dcm")) if path.stat().st_size < 200_000]


def round_trip(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes] | None:
    content = path.read_bytes()
    try:
        head = read_file_head(content)
    except DataSetError:
        return None
    encoding = encoding_of(head.transfer_syntax_uid)
    if encoding.deflated:
        return None
    meta = head.meta.elements if head.meta is not None else None
    parts: list[str] = []
    JsonWriter(parts.append, tolerance=Tolerance.SALVAGE).data_set(
        content[head.data_set_offset :], encoding, meta
    )
    text = "".join(parts)
    target = BytesIO()
    try:
        write_model_file(read_model(read_json(text.encode())[0]), target)
    except ModelError:
        return None
    again = target.getvalue()
    head = read_file_head(again)
    back = json_of(again[head.data_set_offset :], encoding_of(head.transfer_syntax_uid))
    first = {key: value for key, value in json.loads(text).items() if key > "0003"}
    return first, json.loads(back), again


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_an_object_comes_back_the_same(path: Path) -> None:
    result = round_trip(path)
    if result is None:
        assert path.name in EXCEPTIONS
        return
    first, again, content = result
    for key in ("7FE00010",):
        if key in first and key in again:
            again[key]["vr"] = first[key]["vr"]  # encapsulated pixels are OB
    assert first == again
    theirs = pydicom.dcmread(BytesIO(content), force=True)
    original = pydicom.dcmread(path, force=True)
    for element in original:
        if element.tag in (0x7FE00010, 0xFFFCFFFC):
            continue
        if element.tag.element and element.VR not in ("SQ", "UN"):
            assert str(theirs[element.tag].value) == str(element.value) or element.VM > 1


#: Deflated, no Part 10 file, or an object without UIDs: no file can be made of it.
EXCEPTIONS = {
    "empty_charset_LEI.dcm", "image_dfl.dcm", "meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm",
    "no_meta.dcm",
}  # fmt: skip


def test_pydicom_reads_what_we_write() -> None:
    compared = 0
    for path in OBJECTS:
        result = round_trip(path)
        if result is None:
            continue
        ours = {key: one for key, one in result[0].items() if not key.startswith("FFFC")}
        try:
            pydicom.Dataset.from_json(json.dumps(ours))
        except ValueError:
            # A number that is none in the file already: pydicom does not read it there, either.
            with pytest.raises((ValueError, TypeError)):
                pydicom.dcmread(path).to_json_dict()
            continue
        compared += 1
    assert compared > 20


def test_a_memoryview_is_as_good_as_bytes() -> None:
    data = write_data_set(
        [(0x00080060, "CS", b"CT"), (0x7FE00010, "OW", bytes(4))], EXPLICIT_LITTLE
    )
    assert json_of(memoryview(data), EXPLICIT_LITTLE) == json_of(data, EXPLICIT_LITTLE)


def test_text_is_handed_on_before_it_is_all_there() -> None:
    elements: list[WritableElement] = [(0x00090010, "LO", b"X")]
    elements += [(0x00091000 + number, "OB", bytes(60_000)) for number in range(40)]
    parts: list[str] = []
    JsonWriter(parts.append).data_set(write_data_set(elements, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    assert len(parts) > 5
    assert len(json.loads("".join(parts))) == 41


def test_only_what_is_wanted_is_written() -> None:
    data = write_data_set(
        [(0x00080060, "CS", b"CT"), (0x00400275, "SQ", [nested(2), []]), (0x00401008, "LO", b"x")],
        EXPLICIT_LITTLE,
    )
    assert list(
        json.loads(json_of(data, EXPLICIT_LITTLE, wants=lambda tag: tag == 0x00401008))
    ) == ["00401008"]


def test_what_the_reader_makes_can_be_read() -> None:
    read = read_model(
        read_json(b'{"00400275":{"vr":"SQ","Value":[{"00080060":{"vr":"CS","Value":["CT"]}}]}}')[0]
    )
    encode_texts(read)
    target = BytesIO()
    read.meta.update({0x00020002: "1.2", 0x00020003: "1.3"})
    write_model_file(read, target)
    data = target.getvalue()
    assert read_data_set(data[data.index(b"\x40\0\x75\x02") :], EXPLICIT_LITTLE)


@pytest.mark.parametrize(
    "text",
    [
        b'{"00081030": {"vr": "LO", "Value": ["\\ud800"]}}',
        b'{"00081110": {"vr": "SQ", "Value": [{"00081030": {"vr": "LO", "Value": ["a\\udfff"]}}]}}',
    ],
)
@pytest.mark.parametrize("preferred", [(), ("ISO_IR 192",), ("ISO_IR 100",)])
def test_half_a_character_is_none(text: bytes, preferred: tuple[str, ...]) -> None:
    model = read_model(read_json(text)[0])
    with pytest.raises(ModelError, match="no character"):
        encode_texts(model, preferred)
