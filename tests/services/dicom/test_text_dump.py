"""Text dumps: what they say, and what is refused.  DCMTK's own opinion: tests/interop."""

from __future__ import annotations

import pytest

from isocenter.engine.limits import Limits
from isocenter.services.dicom.text_dump import DumpSyntaxError, is_dump, read_dump
from isocenter.services.service_classes.worklist.entry import parse_entry

ENTRY = b"""\
# Dicom-Data-Set
(0008,0005) CS  [ISO_IR 100]   # comment ] is none
(0008,0050) SH  A1
(0010,0010) PN  [M\xdcLLER^J\xd6RG]
(0010,0020) LO  PAT1           # comment
(0020,000d) UI  1.2.3

(0040,1001) SH  RP1
(0040,0100) SQ (Sequence with undefined length)
  (fffe,e000) -
    (0040,0009) SH  SPS1
    (0040,0001) AE  CT_01\\CT_02
    (0040,0002) DA [20261124]
    (0040,0003) TM 0930
    (0008,0060) CS  CT
    (0040,0007) LO  (no value available)
    (0040,0008) SQ
      (fffe,e000) -
        (0008,0100) SH  CHEST # 1
      (fffe,e00d) -
    (fffe,e0dd) -
  (fffe,e00d) -
(fffe,e0dd) -
"""


def test_a_dump_is_an_entry() -> None:
    assert is_dump(ENTRY)
    entry = parse_entry(read_dump(ENTRY, "a.dump"), "a.dump")
    assert entry.text(0x00100010) == "MÜLLER^JÖRG"
    assert entry.text(0x00100020) == "PAT1"
    assert entry.step_text(0x00400001) == "CT_01\\CT_02"
    assert entry.step_text(0x00400007) == ""
    assert list(entry.attributes.elements) == sorted(entry.attributes.elements)
    assert list(entry.step) == sorted(entry.step)


@pytest.mark.parametrize(
    ("line", "tag", "text"),
    [
        (b"(0010,0020) LO [a]b] ]", 0x00100020, "a]b]"),
        (b"(0010,0020) LO a b  # c", 0x00100020, "a b"),
        (b"(0010,0020) [a#b] # c", 0x00100020, "a#b"),
        (b"( 0010 , 0020 )LO[x]", 0x00100020, "x"),
        (b"(0010,0020) LO", 0x00100020, ""),
        (b"(0010,0020) x", 0x00100020, "x"),
        (b"(0010,0020) LO x\r", 0x00100020, "x"),
        (b"(0010,0020) LO x\n(0010,0020) LO y", 0x00100020, "x"),
        (b"(0010,21c0) US 4", 0x001021C0, "4"),
        (b"(0028,0010) US 256\\12", 0x00280010, "256\\12"),
        (b"(0008,0016) UI =CTImageStorage", 0x00080016, "1.2.840.10008.5.1.4.1.1.2"),
        (b"(0009,1003) FD 1.5", 0x00091003, "1.5"),
    ],
)
def test_values(line: bytes, tag: int, text: str) -> None:
    assert read_dump(line + b"\n", "a.dump").text(tag) == text


@pytest.mark.parametrize(
    ("line", "tag", "value"),
    [
        (b"(0028,0009) AT (3004,000c)\\(0010,0010)", 0x00280009, b"\x04\x30\x0c\0\x10\0\x10\0"),
        (b"(0009,1001) OB 01\\2\\ff", 0x00091001, b"\x01\x02\xff\0"),
        (b"(0009,1001) OW 0102\\ff", 0x00091001, b"\x02\x01\xff\0"),
    ],
)
def test_binary_values(line: bytes, tag: int, value: bytes) -> None:
    assert read_dump(line, "a.dump").elements[tag].value == value


def test_of_two_sequences_the_first_counts() -> None:
    one = b"(0040,0100) SQ\n(fffe,e000) -\n(0040,0001) AE X\n(fffe,e00d) -\n(fffe,e0dd) -\n"
    read = read_dump(one + one.replace(b"X", b"Y"), "a.dump")
    assert [item[0x00400001].value for item in read.items(0x00400100)] == [b"X "]


def test_what_is_not_of_the_data_set_is_left_out() -> None:
    text = b"(0002,0010) UI =LittleEndianExplicit\n(0010,0000) UL 8\n(fffc,fffc) OB 0\n"
    assert not read_dump(text, "a.dump").elements


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"(0010,0020) LO x\ngarbage", "line 2: no tag"),
        (b"xx (0010,0020) LO x", "line 1: no tag"),
        (b"(0010,002) LO x", "line 1: no tag"),
        (b"(0010,0020) ZZ x", "(0010,0020): ZZ is no VR"),
        (b"(0040,1003) LOW", "(0040,1003): is LO the VR?"),
        (b"(0010,0020) LO [x", "(0010,0020): the value has no ]"),
        (b"(0010,0020) LO <x>", "(0010,0020): a value that begins with <"),
        (b"(0028,0010) US x", "(0028,0010): the value is none of VR US"),
        (b"(0028,0010) US 65536", "(0028,0010): the value is none of VR US"),
        (b"(0028,0009) AT 1", "(0028,0009): the value is none of VR AT"),
        (b"(0009,1001) OB 100", "(0009,1001): the value is none of VR OB"),
        (b"(0009,1001) OF 1", "(0009,1001): values of VR OF"),
        (b"(0009,1001) x", "(0009,1001) is not in the data dictionary"),
        (b"(0020,000d) UI =Nothing", "(0020,000D): no UID is called that"),
        (b"(0000,0002) UI 1.2", "(0000,0002) is no attribute"),
        (b"(fffe,e000) -", "begins an item outside"),
        (b"(0040,0100) SQ\n(0040,0001) AE X", "in none of its items"),
        (b"(0040,0100) SQ\n(fffe,e000) -\n(0040,0001) AE X\n", "(0040,0100) is not ended"),
        (b"(0040,0100) SQ\n(fffe,e000) -\n(fffe,e00d) -\n", "(0040,0100) is not ended"),
        (b"(0040,0100) SQ\n(fffe,e000) -\n(fffe,e0dd) -\n", "an item is open still"),
        (b"(0040,0100) SQ\n(fffe,e000) -\n(fffe,e000) -\n", "begins an item outside"),
        (b"(fffe,e00d) -", "ends an item, and none is open"),
        (b"(fffe,e0dd) -", "ends a sequence, and none is open"),
        (b"(0040,0100) SQ X", "is a sequence"),
    ],
)
def test_a_fault_names_line_and_key_and_no_value(text: bytes, said: str) -> None:
    with pytest.raises(DumpSyntaxError) as caught:
        read_dump(text, "a.dump")
    assert str(caught.value).startswith("a.dump")
    assert said in str(caught.value)


def test_nesting_and_size_are_bounded() -> None:
    deep = b"(0040,0100) SQ\n(fffe,e000) -\n" * 100
    with pytest.raises(DumpSyntaxError, match="deeper than 64"):
        read_dump(deep, "a.dump")
    many = b"".join(b"(0009,10%02x) LO %b\n" % (number, b"x" * 200) for number in range(100))
    with pytest.raises(DumpSyntaxError, match="longer than 4096"):
        read_dump(many, "a.dump", Limits(identifier=4096))
