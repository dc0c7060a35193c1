"""HL7 messages read as text: delimiters, escapes, character sets, and what is none."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.integration.hl7.character_sets import codec_of, codec_of_all
from isocenter.services.integration.hl7.errors import Hl7Error, Location
from isocenter.services.integration.hl7.message import (
    MOST_DELIMITERS,
    Delimiters,
    Message,
    header_of,
    read_message,
)
from services.integration.hl7.samples import ORM, changed

HEAD = "MSH|^~\\&|A|B|C|D|2026||ORM^O01|7|P|2.5\r"


def pid5(text: str) -> Message:
    return read_message(f"{HEAD}PID|||||{text}\r".encode())


def test_fields_are_counted_as_HL7_counts_them() -> None:
    message = read_message(ORM.encode())
    msh, pid = message.header, message.first("PID")
    assert (msh.text(1), msh.text(3), msh.text(9), msh.text(9, 2)) == ("|", "RIS", "ORM", "O01")
    assert pid is not None
    assert (pid.text(3), pid.text(3, 4), pid.text(3, 5)) == ("PAT4711", "HOSPITAL", "PI")
    assert (pid.text(5), pid.text(5, 1, 2), pid.text(5, 2)) == ("Muster", "von", "Erika")
    assert (pid.text(99), pid.text(5, 99), pid.text(5, 1, 99)) == ("", "", "")
    assert pid.text(5, 2, 2) == ""
    assert [str(obx.place(5)) for obx in message.all("OBX")] == ["OBX-5", "OBX-5 (the 2. one)"]


def test_a_field_without_divisions_is_its_own_first_part() -> None:
    pid = pid5("Name").first("PID")
    assert pid is not None
    assert pid.text(5) == "Name"
    assert (pid.text(5, 2), pid.text(5, 1, 2), pid.text(5, repetition=2)) == ("", "", "")
    assert (pid.repetitions(5), pid.repetitions(4), pid.repetitions(50)) == (1, 0, 0)


def test_null_is_empty() -> None:
    pid = pid5('""^A').first("PID")
    assert pid is not None
    assert (pid.text(5), pid.text(5, 2)) == ("", "A")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("a\\.br\\b\\H\\c\\N\\d", "a bcd"),
        ("\\X41\\\\X42\\", "AB"),
        ("\\XZZ\\x\\C2842\\\\Zlocal\\", "x"),
        ("open \\end", "open \\end"),
    ],
)
def test_escape_sequences(escaped: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        pid = pid5(escaped).first("PID")
        assert pid is not None
        assert pid.text(5) == text
    assert not caplog.records  # the library would log what it cannot read


def test_other_delimiters() -> None:
    message = read_message(b"MSH$%*!@$A$B$C$D$2026$$ORM%O01$7$P$2.5\rPID$$$1%x@y*2$$A!S!B\r")
    pid = message.first("PID")
    assert pid is not None
    assert (pid.text(3), pid.text(3, 2, 2), pid.text(3, repetition=2)) == ("1", "y", "2")
    assert pid.text(5) == "A%B"
    assert message.header.delimiters == Delimiters("$", "%", "*", "!", "@")


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_ends_of_lines_are_ends_of_segments(end: str) -> None:
    message = read_message(ORM.replace("\r", end).encode())
    assert [segment.name for segment in message.segments][:4] == ["MSH", "PID", "PV1", "AL1"]


def test_a_line_feed_within_a_text_ends_nothing() -> None:
    message = read_message(b"MSH|^~\\&|A\rNTE|1||two\nlines\rPID|1\r")
    assert [segment.name for segment in message.segments] == ["MSH", "NTE", "PID"]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("8859/5", "iso8859-5"),
        ("UNICODE UTF-8", "utf-8"), ("UTF-8", "utf-8"), ("ISO IR87", "iso2022_jp_ext"),
        ("GB 18030-2000", "gb18030"), ("KS X 1001", "euc_kr"), ("ISO-8859-1", "latin-1"),
    ],
)  # fmt: skip
def test_character_sets(name: str, codec: str) -> None:
    text = {"iso8859-5": "Иванов", "iso2022_jp_ext": "山田", "gb18030": "张", "euc_kr": "김"}.get(
        codec, "Müller"
    )
    data = changed(changed(ORM, "PID", 5, f"{text}^X"), "MSH", 18, name).encode(codec)
    pid = read_message(data).first("PID")
    assert pid is not None
    assert pid.text(5) == text
    assert pid.text(5, 2) == "X"


@pytest.mark.parametrize(
    "names", ["ASCII~ISO IR87", "~ISO IR87", "ISO IR14~ISO IR87~ISO IR159", "ISO IR6~ISO IR87"]
)
def test_several_character_sets_of_one_message(names: str) -> None:
    data = changed(changed(ORM, "PID", 5, "Yamada^Tarou~山田^太郎"), "MSH", 18, names)
    pid = read_message(data.encode("iso2022_jp")).first("PID")
    assert pid is not None
    assert [pid.text(5, 2, repetition=n) for n in (1, 2)] == ["Tarou", "太郎"]
    assert codec_of_all(["ASCII", "UNICODE UTF-8"]) == "utf-8"
    with pytest.raises(Hl7Error, match="not known"):
        read_message(changed(ORM, "MSH", 18, "8859/1~8859/5").encode())


@pytest.mark.parametrize("name", ["", "ASCII", "UNICODE UTF-8", "8859/1", "KS X 1001"])
def test_escape_sequences_of_another_character_set_are_no_text(name: str) -> None:
    data = changed(changed(ORM, "PID", 5, "山田^X"), "MSH", 18, name).encode("iso2022_jp")
    with pytest.raises(Hl7Error, match="not in the character set") as caught:
        read_message(data)
    assert caught.value.place == Location("MSH", 18)


def test_the_default_counts_only_where_nothing_is_said() -> None:
    data = changed(ORM, "PID", 5, "Müller").encode("latin-1")
    pid = read_message(data, "8859/1").first("PID")
    assert pid is not None
    assert pid.text(5) == "Müller"
    with pytest.raises(Hl7Error, match=r"hl7\.character_set") as caught:
        read_message(data)
    assert caught.value.place == Location("MSH", 18)
    with pytest.raises(Hl7Error, match=r"not in the character set of the message$"):
        read_message(changed(ORM, "MSH", 18, "UNICODE UTF-8").encode() + b"\xff", "8859/1")
    assert codec_of("EBCDIC") is None
    with pytest.raises(Hl7Error, match="not known"):
        read_message(changed(ORM, "MSH", 18, "EBCDIC").encode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"PID|1", b"MSH", b"MSH|", b"MSH|^~\\&", b"MSH|^^^^|A", b"MSHA^~\\&A",
        b"GET / HTTP/1.1",
        b"MSH|^~\\&|A\r<xml/>\r", b"MSH|^~\\&|A\rpid|1\r", b"\x16\x03\x01",
        b"MSH|^~\\&|A\rMSH",
        b"MSH|^~\\&|A\rMSH|^~\\&|B\r", b"MSH|^~\\&|A\rBHS|\r", b"BHS|^~\\&|A\r",
    ],
)  # fmt: skip
def test_what_is_no_message_is_rejected(data: bytes) -> None:
    with pytest.raises(Hl7Error) as caught:
        read_message(data)
    assert caught.value.is_reject


def test_the_header_alone_is_enough_to_answer() -> None:
    header = header_of(b"MSH|^~\\&|A|B|C|D|2026||ORM^O01|7|P|2.5\r<<< broken \xff")
    assert header is not None
    assert header.header.text(10) == "7"
    assert header_of(b"<xml/>") is None


def test_delimiters_are_bounded() -> None:
    with pytest.raises(Hl7Error, match="more than"):
        read_message((HEAD + "NTE|1\r" + "|" * MOST_DELIMITERS).encode())


@given(st.text(alphabet='MSHPIDORC|^~\\&\r\n\x1b"X41. ', max_size=200), st.booleans())
def test_any_text_is_read_or_refused(text: str, with_head: bool) -> None:
    try:
        message = read_message(((HEAD if with_head else "") + text).encode())
    except Hl7Error:
        return
    for segment in message.segments:
        for field in range(8):
            for component in range(1, 4):
                segment.text(field or 1, component, 2)
            segment.repetitions(field)
            segment.as_sent(field)
