from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    CharacterSetError,
    character_set_of,
    choose_character_set,
    decode_numbers,
    decode_text,
    encode_numbers,
    encode_text,
    is_character_set,
)

#: The examples of PS3.5 Annexes H, I, J and K: character set, bytes, text.
STANDARD_EXAMPLES = [
    (
        ("", "ISO 2022 IR 87"),
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        ("ISO 2022 IR 13", "ISO 2022 IR 87"),
        (
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
            b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
        ),
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        ("", "ISO 2022 IR 149"),
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        ("ISO_IR 192",),
        b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=",
        "Wang^XiaoDong=王^小東=",
    ),
    (("GB18030",), b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    (
        ("", "ISO 2022 IR 58"),
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    (("ISO_IR 100",), b"\xc4neas^R\xfcdiger", "Äneas^Rüdiger"),
    (("ISO_IR 144",), b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    (("ISO_IR 126",), b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    (("ISO_IR 166",), b"\xb9\xd2\xc2", "นาย"),
]


@pytest.mark.parametrize(("character_set", "raw", "text"), STANDARD_EXAMPLES)
def test_examples_of_the_standard(character_set: tuple[str, ...], raw: bytes, text: str) -> None:
    assert decode_text(raw, "PN", character_set) == text
    assert decode_text(encode_text(text, "PN", character_set), "PN", character_set) == text


def test_japanese_is_encoded_as_the_standard_prints_it() -> None:
    for character_set, raw, text in STANDARD_EXAMPLES[:3]:
        assert encode_text(text, "PN", character_set) == raw


def test_a_delimiter_brings_back_the_initial_set() -> None:
    raw = b"\x1b-F\xc4\xe9^\xe4"
    assert decode_text(raw, "PN", ("ISO 2022 IR 100", "ISO 2022 IR 126")) == "Δι^ä"
    assert decode_text(raw, "LO", ("ISO 2022 IR 100", "ISO 2022 IR 126")) == "Δι^δ"


def test_a_backslash_byte_within_a_character_is_no_delimiter() -> None:
    raw = "构\\x".encode("gb18030")
    assert decode_text("誠\\".encode("gb18030") + raw, "LO", ("GB18030",)) == "誠\\构\\x"
    assert decode_text(b"\x1b$B!@\x1b(B", "LO", ("", "ISO 2022 IR 87")) == "＼"  # second byte 40H


@pytest.mark.parametrize(
    ("vr", "raw", "text"),
    [
        ("LO", b" A ", "A"),
        ("LO", b" A \\ B \0", "A\\B"),
        ("LO", b"\\", ""),
        ("LT", b" A  ", " A"),
        ("UI", b"1.2.3\0", "1.2.3"),
        ("CS", b"ORIGINAL \\PRIMARY", "ORIGINAL\\PRIMARY"),
        ("CS", b"\xc4", "Ä"),
        ("LO", b"", ""),
    ],
)
def test_padding(vr: str, raw: bytes, text: str) -> None:
    assert decode_text(raw, vr) == text


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"\x1b", b"$B", b"(B", b"$)C", b"-F", b"^", b"\\", b"\xb1"])).map(
        b"".join
    ),
    st.sampled_from(["PN", "LO", "LT", "CS", "UI"]),
    st.lists(
        st.sampled_from(["", "ISO_IR 192", "ISO 2022 IR 87", "ISO 2022 IR 149", "rot13", "zlib"]),
        max_size=3,
    ).map(tuple),
)
def test_decoding_never_raises(raw: bytes, vr: str, character_set: tuple[str, ...]) -> None:
    assert isinstance(decode_text(raw, vr, character_set), str)


@pytest.mark.parametrize(
    ("raw", "terms"),
    [
        (None, ()),
        (b"", ()),
        (b"ISO_IR 6 ", ()),
        (b"\\ISO 2022 IR 6", ()),
        (b"ISO_IR 100", ("ISO_IR 100",)),
        (b"ISO-IR 100", ("ISO_IR 100",)),
        (b"ISO IR 192 ", ("ISO_IR 192",)),
        (b"\\ISO2022_IR_87", ("", "ISO 2022 IR 87")),
        (b"\\ISO 2022 IR 149 ", ("", "ISO 2022 IR 149")),
        (b"iso_ir 100", ("ISO_IR 100",)),
        (b"ISO_IR100", ("ISO_IR 100",)),
        (b"ISO_IR_100\0", ("ISO_IR 100",)),
        (b"ISO  IR-144", ("ISO_IR 144",)),
        (b"IR 144", ("ISO_IR 144",)),
        (b"ISO-2022-IR-100", ("ISO 2022 IR 100",)),
        (b"UTF-8", ("ISO_IR 192",)),
        (b"utf8 ", ("ISO_IR 192",)),
        (b"ISO 10646", ("ISO_IR 192",)),
        (b"ISO8859-1", ("ISO_IR 100",)),
        (b"ISO_8859_5", ("ISO_IR 144",)),
        (b"iso-8859-15", ("ISO_IR 203",)),
        (b"8859-2", ("ISO_IR 101",)),
        (b"Latin-1", ("ISO_IR 100",)),
        (b"GB 18030", ("GB18030",)),
        (b"gb2312", ("GBK",)),
        (b"Shift_JIS", ("ISO_IR 13",)),
        (b"us-ascii", ()),
        (b"iso ir 6", ()),
        # Nobody knows these.
        (b"ISO_IR 999", ()),
        (b"ISO 8859-99", ()),
        (b"WINDOWS-1251", ()),
        (b"rot13", ()),
        (b"\xff\xfe", ()),
        (b"ISO_IR 100\\FOO", ("ISO_IR 100",)),
        (b"FOO\\ISO 2022 IR 87", ()),
    ],
)
def test_specific_character_set(raw: bytes | None, terms: tuple[str, ...]) -> None:
    assert character_set_of(raw) == terms
    default = ("ISO_IR 144",)
    assert character_set_of(raw, default) == (terms or default)


@given(st.binary(max_size=80))
def test_whatever_is_declared_can_be_read_and_answered_by(raw: bytes) -> None:
    terms = character_set_of(raw)
    assert terms == character_set_of("\\".join(terms).encode())
    assert isinstance(decode_text(b"\xc4\x1b$B;3", "PN", terms), str)
    assert choose_character_set(["Łódź"], terms) in (terms, ("ISO_IR 192",))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("ISO_IR 144", True),
        ("utf-8", True),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", True),
        ("ISO_IR 999", False),
        ("ISO_IR 100\\FOO", False),
        ("ISO_IR 100\\" * 20, False),
    ],
)
def test_what_is_a_character_set(text: str, is_one: bool) -> None:
    assert is_character_set(text) is is_one


def test_latin_9() -> None:
    assert decode_text(b"\xa4", "LO", ("ISO_IR 203",)) == "€"
    assert encode_text("€", "LO", ("ISO_IR 203",)) == b"\xa4"


def test_what_cannot_be_encoded_is_an_error_without_the_text() -> None:
    for vr, character_set in [("PN", ()), ("PN", ("ISO_IR 100",)), ("CS", ("ISO_IR 192",))]:
        with pytest.raises(CharacterSetError) as raised:
            encode_text("Łódź", vr, character_set)
        assert "Łódź" not in str(raised.value)


def test_the_smallest_sufficient_character_set_is_chosen() -> None:
    assert choose_character_set(["DOE", ""], ("ISO_IR 100",)) == ()
    assert choose_character_set(["DOE", "MÜLLER"], ("ISO_IR 100",)) == ("ISO_IR 100",)
    assert choose_character_set(["山田"], ("", "ISO 2022 IR 87")) == ("", "ISO 2022 IR 87")
    assert choose_character_set(["山田", "é"], ("ISO_IR 100",)) == ("ISO_IR 192",)
    assert choose_character_set(["é"]) == ("ISO_IR 192",)
    assert choose_character_set(["é"], ("no such set",)) == ("ISO_IR 192",)


@given(
    st.text("aä^=\\山田ヤδж한ü ", max_size=20),
    st.sampled_from(
        [
            ("ISO_IR 192",),
            ("GB18030",),
            ("", "ISO 2022 IR 87", "ISO 2022 IR 149"),
            ("ISO 2022 IR 100", "ISO 2022 IR 126", "ISO 2022 IR 87", "ISO 2022 IR 144"),
            ("ISO 2022 IR 13", "ISO 2022 IR 159"),
        ]
    ),
    st.sampled_from(["PN", "LO", "LT"]),
)
def test_what_was_encoded_is_decoded(text: str, character_set: tuple[str, ...], vr: str) -> None:
    try:
        raw = encode_text(text, vr, character_set)
    except CharacterSetError:
        return
    assert decode_text(raw, vr, character_set) == decode_text(text.encode(), vr, ("ISO_IR 192",))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("vr", sorted(NUMBER_VRS))
def test_numbers(vr: str, big_endian: bool) -> None:
    text = "0.5\\-2.0" if vr in ("FL", "FD") else "7\\8"
    raw = encode_numbers(text, vr, big_endian=big_endian)
    assert decode_numbers(raw, vr, big_endian=big_endian) == text
    assert decode_numbers(raw[:-1], vr, big_endian=big_endian) == text.split("\\", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("vr", "text"), [("US", "-1"), ("US", "65536"), ("US", "x"), ("FL", "1e99")]
)
def test_numbers_that_do_not_fit(vr: str, text: str) -> None:
    with pytest.raises(ValueError):
        encode_numbers(text, vr, big_endian=False)
