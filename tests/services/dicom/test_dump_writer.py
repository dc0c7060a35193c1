"""Dumps: lines, values, what is shown and what is not."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    Fragments,
    write_data_set,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.dump_names import Quoting
from isocenter.services.dicom.dump_writer import ANSI, DumpOptions, DumpWriter
from isocenter.services.dicom.text_dump import read_dump


def dump(
    data: Sequence[WritableElement] | bytes,
    options: DumpOptions | None = None,
    encoding: Encoding = EXPLICIT_LITTLE,
) -> list[str]:
    raw = data if isinstance(data, bytes) else write_data_set(data, encoding)
    parts: list[str] = []
    DumpWriter(parts.append, options).data_set(memoryview(raw), encoding)
    return "".join(parts).splitlines()


def one(tag: int, vr: str, value: bytes, options: DumpOptions | None = None) -> str:
    (line,) = dump([(tag, vr, value)], options)
    return line


def test_the_columns_of_dcmdump() -> None:
    assert one(0x00080060, "CS", b"CT") == (
        "(0008,0060) CS [CT]                                     #   2, 1 Modality"
    )
    assert one(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2") == (
        "(0008,0016) UI =CTImageStorage                          #  26, 1 SOPClassUID"
    )
    assert one(0x00080050, "SH", b"") == (
        "(0008,0050) SH (no value available)                     #   0, 0 AccessionNumber"
    )


@pytest.mark.parametrize(
    ("tag", "vr", "value", "shown"),
    [
        (0x00280010, "US", b"\x00\x02", "512"),
        (0x00280009, "AT", b"\x54\x00\x10\x00", "(0054,0010)"),
        (0x00180088, "FL", struct.pack("<f", 0.1), "0.1"),
        (0x00181041, "OB", b"\x01\xff", "01\\ff"),
        (0x7FE00010, "OW", b"\x01\x02\x03\x04", "0201\\0403"),
        (0x7FE00001, "OV", struct.pack("<QQ", 0, 5_000_000_000), "0\\5000000000"),
        (0x00080008, "CS", b"A\\B ", "[A\\B]"),
        (0x00104000, "LT", b" two\r\nlines", "[ two\\x0d\\x0alines]"),
        (0x00100010, "PN", "Müller".encode("latin-1"), "[Müller]"),
    ],
)  # fmt: skip
def test_a_value_of_each_kind(tag: int, vr: str, value: bytes, shown: str) -> None:
    assert one(tag, vr, value)[15:].startswith(shown)


def test_numbers_and_words_in_big_endian() -> None:
    lines = dump(
        [(0x00280010, "US", b"\x02\x00"), (0x7FE00010, "OW", b"\x02\x01")], None, EXPLICIT_BIG
    )
    assert lines[0][15:].startswith("512 ")
    assert lines[1][15:].startswith("0201 ")


def test_long_values_are_cut_unless_they_are_asked_for() -> None:
    text = b"x" * 100
    assert one(0x00104000, "LT", text)[15:].startswith("[" + "x" * 66 + "... #")
    assert one(0x00104000, "LT", text, DumpOptions(is_whole=True))[15:].startswith(f"[{'x' * 100}]")
    assert one(0x00181041, "OB", bytes(24))[15:].startswith("\\".join(["00"] * 22) + "... #")
    assert one(0x00281101, "US", bytes(200))[15:].startswith("\\".join(["0"] * 34) + "... #")


def test_how_many_values_there_are() -> None:
    assert "#  22, 3 " in one(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\AXIAL")
    assert "#   6, 3 " in one(0x00281101, "US", bytes(6))
    assert "# 600000,300000" in one(0x00081160, "UC", b"1\\" * 299_999 + b"11")


def test_sequences_with_what_ends_them() -> None:
    defined = dump([(0x00400275, "SQ", [[(0x00400007, "LO", b"skull ")]])])
    assert [line.partition(" # ")[0].rstrip() for line in defined] == [
        "(0040,0275) SQ (Sequence with explicit length #=1)",
        "  (fffe,e000) na (Item with explicit length #=1)",
        "    (0040,0007) LO [skull]",
        "  (fffe,e00d) na (ItemDelimitationItem for re-encoding)",
        "(fffe,e0dd) na (SequenceDelimitationItem for re-encod.)",
    ]
    undefined = dump(
        bytes.fromhex("40007502 53510000 ffffffff feff00e0 ffffffff")
        + write_data_set([(0x00400007, "LO", b"skull ")], EXPLICIT_LITTLE)
        + bytes.fromhex("feff0de0 00000000 feffdde0 00000000")
    )
    assert [line.partition(" # ")[0].rstrip() for line in undefined] == [
        "(0040,0275) SQ (Sequence with undefined length #=1)",
        "  (fffe,e000) na (Item with undefined length #=1)",
        "    (0040,0007) LO [skull]",
        "  (fffe,e00d) na (ItemDelimitationItem)",
        "(fffe,e0dd) na (SequenceDelimitationItem)",
    ]
    assert "# u/l, 1 " in undefined[0]
    assert "# u/l, 1 " in undefined[1]


def test_fragments_with_their_offset_table() -> None:
    table = struct.pack("<II", 0, 12)
    lines = dump([(0x7FE00010, "OB", Fragments((table, b"\xff\xd8ab", b"\xff\xd8")))])
    assert lines[0].startswith("(7fe0,0010) OB (PixelSequence #=3)")
    assert lines[1].startswith("  (fffe,e000) pi 00\\00\\00\\00\\0c\\00\\00\\00 ")
    assert lines[3].startswith("  (fffe,e000) pi ff\\d8 ")
    assert lines[4].startswith("(fffe,e0dd) na (SequenceDelimitationItem) ")


def test_private_elements_have_their_creator_and_its_name() -> None:
    data: list[WritableElement] = [
        (0x00090010, "LO", b"GEMS_IDEN_01"),
        (0x00091001, "LO", b"GE_GENESIS_FF"),
        (0x000910FF, "LO", b"nobody knows"),
        (0x00091101, "LO", b"nobody's"),
    ]
    for encoding in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        lines = dump(data, None, encoding)
        assert lines[0].endswith(" PrivateCreator")
        assert lines[1].endswith(" LO [GE_GENESIS_FF]                          #  14, 1 "
                                 "Full fidelity (GEMS_IDEN_01)")  # fmt: skip
        assert lines[2].endswith(" Unknown Tag & Data (GEMS_IDEN_01)")
        assert lines[3].endswith(" Unknown Tag & Data")
    assert dump(data, DumpOptions(has_private=False)) == []


NESTED: list[WritableElement] = [
    (0x00100020, "LO", b"1"),
    (0x00101002, "SQ", [[(0x00100020, "LO", b"2")], [(0x00100020, "LO", b"3")]]),
    (0x00400275, "SQ", [[(0x00321064, "SQ", [[(0x00080100, "SH", b"4")]])]]),
]


def test_what_is_wanted_is_found_in_sequences_with_all_below_it() -> None:
    ids = dump(NESTED, DumpOptions(wanted=lambda path, tag, scope: tag == 0x00100020))
    assert [line[:18].rstrip() for line in ids] == [
        "(0010,0020) LO [1]", "(0010,0020) LO [2]", "(0010,0020) LO [3]",
    ]  # fmt: skip
    options = DumpOptions(wanted=lambda path, tag, scope: tag == 0x00321064, has_path=True)
    lines = dump(NESTED, options)
    assert lines[0].startswith("(0040,0275).(0032,1064) SQ ")
    assert lines[2].startswith("    (0008,0100) SH [4]")
    assert lines[-1].startswith("(fffe,e0dd) na ")
    first = DumpOptions(wanted=lambda path, tag, scope: tag == 0x00100020, first_only=True)
    assert len(dump(NESTED, first)) == 1


def test_what_is_below_a_depth_is_left_closed() -> None:
    assert [line[:11] for line in dump(NESTED, DumpOptions(deepest=0))] == [
        "(0010,0020)", "(0010,1002)", "(fffe,e0dd)", "(0040,0275)", "(fffe,e0dd)",
    ]  # fmt: skip
    assert not any("[4]" in line for line in dump(NESTED, DumpOptions(deepest=1)))
    assert any("(0032,1064)" in line for line in dump(NESTED, DumpOptions(deepest=1)))


def test_it_ends_at_an_element() -> None:
    assert len(dump(NESTED, DumpOptions(stop_before=0x00101002))) == 1
    assert dump(NESTED, DumpOptions(stop_after=0x00101002))[-1].startswith("(fffe,e0dd)")


def test_pixels_are_left_out() -> None:
    data: list[WritableElement] = [(0x00280010, "US", b"\1\0"), (0x7FE00010, "OW", b"\1\0")]
    assert len(dump(data, DumpOptions(has_pixels=False))) == 1


def test_nothing_in_a_file_moves_the_cursor() -> None:
    hostile = b"a\x1b[2J\x9b\n(0010,0020) LO [x]"
    line = one(0x00080060, "CS", hostile)
    assert line.startswith("(0008,0060) CS [a\\x1b[2J\\x9b\\x0a(0010,0020) LO [x]]")
    spoofed = one(0x00104000, "LT", "a\u202eb".encode(), None)
    assert "\u202e" not in spoofed
    creator = dump([(0x00090010, "LO", b"\x1b[2J"), (0x00091001, "LO", b"x")])
    assert all(line.isprintable() for line in creator)


def test_quoting() -> None:
    value = "ä".encode("latin-1")
    assert "[&#228;]" in one(0x00100010, "PN", value, DumpOptions(quoting=Quoting.MARKUP))
    assert "[\\303\\244]" in one(0x00100010, "PN", value, DumpOptions(quoting=Quoting.OCTAL))


def test_a_tree_of_names() -> None:
    lines = dump(NESTED, DumpOptions(is_tree=True))
    assert lines[0] == "PatientID                         [1]"
    assert lines[2] == "| Item                            (Item with explicit length #=1)"
    assert not any("Delimitation" in line for line in lines)


def test_colors_are_the_only_difference() -> None:
    colored = "".join(dump(NESTED, DumpOptions(colors=ANSI)))
    for name in ("comment", "tag", "vr", "value", "length", "count", "name", "end"):
        colored = colored.replace(getattr(ANSI, name), "")
    assert colored == "".join(dump(NESTED))


def test_what_is_cut_is_shown_as_far_as_it_goes() -> None:
    raw = write_data_set([(0x00100010, "PN", b"A"), (0x00104000, "LT", b"x" * 50)], EXPLICIT_LITTLE)
    parts: list[str] = []
    writer = DumpWriter(parts.append)
    writer.data_set(memoryview(raw[:-20]), EXPLICIT_LITTLE)
    assert len(parts) == 2
    assert writer.forgiven
    with pytest.raises(DataSetError):
        DumpWriter(parts.append, tolerance=Tolerance.STRICT).data_set(
            memoryview(raw[:-20]), EXPLICIT_LITTLE
        )


def test_a_dump_can_be_read_back() -> None:
    """As ``dump2dcm`` reads those of ``dcmdump``."""
    data = [*NESTED[1:], (0x00540081, "US", b"\7\0")]
    text = "\n".join(dump(data, DumpOptions(is_whole=True)))
    assert read_dump(text.encode(), "a dump").encode("1.2.840.10008.1.2.1") == write_data_set(
        data, EXPLICIT_LITTLE
    )


def test_records_of_a_directory_have_their_offset() -> None:
    raw = write_data_set([(0x00041220, "SQ", [[(0x00041430, "CS", b"PATIENT ")]])], EXPLICIT_LITTLE)
    parts: list[str] = []
    DumpWriter(parts.append).data_set(memoryview(raw), EXPLICIT_LITTLE, 384)
    assert parts[1].endswith("Item at byte 396\n")
