"""Typed access: attributes by path, read when they are asked for; changes, and the new file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pydicom
import pytest

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    Fragments,
    NotDicomError,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.data_set import open_dicom
from isocenter.services.dicom.model_edits import NoSuchValueError

SYNTAXES = {
    EXPLICIT_LITTLE: "1.2.840.10008.1.2.1",
    IMPLICIT_LITTLE: "1.2.840.10008.1.2",
    EXPLICIT_BIG: "1.2.840.10008.1.2.2",
    DEFLATED_LITTLE: "1.2.840.10008.1.2.1.99",
}
CT = "1.2.840.10008.5.1.4.1.1.2"
ALL = pytest.mark.parametrize("encoding", SYNTAXES)


def make(path: Path, encoding: Encoding = EXPLICIT_LITTLE) -> Path:
    number = "big" if encoding.big_endian else "little"
    item: list[WritableElement] = [
        (0x00400007, "LO", "Schädel".encode("latin-1")),
        (0x00400009, "SH", b"S1"),
    ]
    elements: list[WritableElement] = [
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00080008, "CS", b"ORIGINAL\\PRIMARY"),
        (0x00080016, "UI", CT.encode()),
        (0x00080018, "UI", b"1.2.3"),
        (0x00100010, "PN", "Müller^Ä".encode("latin-1")),
        (0x00104000, "LT", b"a\\b"),
        (0x00190010, "LO", b"GEMS_ACQU_01"),
        (0x00191002, "SL", (7).to_bytes(4, number)),
        (0x00280010, "US", (512).to_bytes(2, number)),
        (0x00280030, "DS", b"0.500000\\0.5"),
        (0x00400275, "SQ", [item, [(0x00400009, "SH", b"S2")]]),
        (0x7FE00010, "OW", (258).to_bytes(2, number) * 2),
    ]
    head = write_file_meta(CT, "1.2.3", SYNTAXES[encoding])
    path.write_bytes(head + write_data_set(elements, encoding))
    return path


@ALL
def test_values_by_tag_keyword_and_path(tmp_path: Path, encoding: Encoding) -> None:
    with open_dicom(make(tmp_path / "ct", encoding)) as ct:
        assert ct.transfer_syntax_uid == SYNTAXES[encoding]
        assert ct.text("PatientName") == "Müller^Ä"
        assert ct.texts(0x00080008) == ["ORIGINAL", "PRIMARY"]
        assert ct.texts("PatientComments") == ["a\\b"]
        assert ct.number("Rows") == 512
        assert ct.numbers("0028,0030") == [0.5, 0.5]
        assert ct.text("PixelSpacing") == "0.500000\\0.5"
        assert ct.items("RequestAttributesSequence") == 2
        assert ct.text("RequestAttributesSequence[0].00400007") == "Schädel"
        assert ct.text("(0040,0275)[1].ScheduledProcedureStepID") == "S2"
        assert ct.text("RequestAttributesSequence[2].00400009", "none") == "none"
        assert ct.text("PatientID") == ""
        assert ct.number("InstanceNumber") is None
        assert "PatientName" in ct
        assert "PatientID" not in ct
        tag = ct.private_tag(0x0019, "GEMS_ACQU_01", 0x02)
        assert tag == 0x00191002
        assert ct.number(tag) == 7
        assert ct.private_tag(0x0019, "NOBODY", 0x02) is None
        assert b"".join(ct.attribute("PixelData").pieces()) == b"\2\1\2\1"  # type: ignore[union-attr]


def test_all_attributes_in_their_order(tmp_path: Path) -> None:
    with open_dicom(make(tmp_path / "ct")) as ct:
        found = list(ct)
        names = [attribute.name for attribute in found]
        assert names[-4:] == [
            "(0040,0275)[0].(0040,0007)", "(0040,0275)[0].(0040,0009)",
            "(0040,0275)[1].(0040,0009)", "(7FE0,0010)",
        ]  # fmt: skip
        assert [ct.attribute(name) for name in names] == found
        by_keyword = {attribute.keyword: attribute for attribute in found}
        assert by_keyword["RequestAttributesSequence"].items == 2
        assert by_keyword["PixelData"].length == 4
        assert by_keyword["PixelData"].texts == []


def test_what_has_no_numbers(tmp_path: Path) -> None:
    with open_dicom(make(tmp_path / "ct")) as ct:
        for name in ("PatientName", "PixelData", "RequestAttributesSequence"):
            with pytest.raises(NoSuchValueError) as raised:
                ct.numbers(name)
            assert "Müller" not in str(raised.value)
        for name in ("NoKeyword", "RequestAttributesSequence[0]", "Rows[0].Columns", "["):
            with pytest.raises(KeySyntaxError):
                ct.text(name)


def test_fragments_are_found_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "jpeg"
    fragments = Fragments((b"", b"abcd", b"ef"))
    data = write_data_set(
        [(0x00080018, "UI", b"1.2"), (0x7FE00010, "OB", fragments)], EXPLICIT_LITTLE
    )
    path.write_bytes(write_file_meta(CT, "1.2", "1.2.840.10008.1.2.4.50") + data)
    with open_dicom(path) as jpeg:
        pixels = jpeg.attribute("PixelData")
        assert pixels is not None
        assert pixels.is_encapsulated
        found = [data[start:end] for start, end in pixels.fragments()]
        assert tuple(found) == fragments


def test_a_large_file_costs_what_its_headers_cost(tmp_path: Path) -> None:
    path = make(tmp_path / "large")
    size = 300 << 20
    whole = path.read_bytes()[:-16]
    with path.open("wb") as file:
        file.write(whole + b"\xe0\x7f\x10\0OW\0\0" + size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    tracemalloc.start()
    try:
        with open_dicom(path) as large:
            assert large.attribute("PixelData").length == size  # type: ignore[union-attr]
            large.set("PatientID", "P1")
            large.save(tmp_path / "changed")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert (tmp_path / "changed").stat().st_size >= size


@ALL
def test_changes_are_in_the_new_file_only(tmp_path: Path, encoding: Encoding) -> None:
    path = make(tmp_path / "ct", encoding)
    before = path.read_bytes()
    with open_dicom(path) as ct:
        ct.set("PatientID", "P1")
        ct.set("PatientName", "Möller^X")
        ct.set("Rows", 256)
        ct.set("PixelSpacing", 0.25, "0.250000")
        ct.set("AccessionNumber")
        ct.set("RequestAttributesSequence[0].ScheduledProcedureStepID", "S9")
        ct.set("RequestAttributesSequence[2].00400009", "S3")
        ct.set("ReferencedStudySequence[0].ReferencedSOPInstanceUID", "1.9")
        ct.set("0041,1010", b"ab", vr="OB")
        assert ct.remove("PatientComments")
        assert not ct.remove("PatientComments")
        assert ct.remove("RequestAttributesSequence[0].00400007")
        assert not ct.remove("RequestAttributesSequence[7].00400007")
        assert ct.text("PatientName") == "Müller^Ä"
        ct.save(tmp_path / "new")
    assert path.read_bytes() == before
    new = pydicom.dcmread(tmp_path / "new")
    assert new.file_meta.TransferSyntaxUID == SYNTAXES[encoding]
    assert (new.PatientID, str(new.PatientName), new.Rows) == ("P1", "Möller^X", 256)
    assert new[0x00280030].value == [0.25, 0.25]
    assert not new.AccessionNumber
    assert [item[0x00400009].value for item in new[0x00400275]] == ["S9", "S2", "S3"]
    assert 0x00400007 not in new[0x00400275][0]
    assert new.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.9"
    assert new[0x00411010].value == b"ab"
    assert "PatientComments" not in new
    number = 258 if not encoding.big_endian else 513
    assert new.PixelData == number.to_bytes(2, "little") * 2


def test_what_was_not_changed_goes_on_byte_for_byte(tmp_path: Path) -> None:
    path = make(tmp_path / "ct")
    with open_dicom(path) as ct:
        ct.save(tmp_path / "new")
    before, after = path.read_bytes(), (tmp_path / "new").read_bytes()
    mark = b"\x08\0\x05\0"
    assert after[after.index(mark) :] == before[before.index(mark) :]


def test_changes_that_cannot_be(tmp_path: Path) -> None:
    path = make(tmp_path / "ct")
    with open_dicom(path) as ct:
        for name, value in (
            ("Rows", "many"), ("Rows", -1), ("Modality", "王"), ("PatientName[0].Rows", 1),
            ("RequestAttributesSequence[5].00400009", "x"), ("PatientName", True),
            ("RequestAttributesSequence[0].Rows", 70_000),
        ):  # fmt: skip
            with pytest.raises((NoSuchValueError, KeySyntaxError)):
                ct.set(name, value)  # type: ignore[arg-type]
        ct.save(tmp_path / "new")
    before, after = path.read_bytes(), (tmp_path / "new").read_bytes()
    assert after.endswith(before[-200:])


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with open_dicom(make(tmp_path / "ct")) as ct:
        ct.remove("SOPInstanceUID")
        with pytest.raises(Exception, match=r"0008,0018"):
            ct.save(tmp_path / "new")
    assert [one.name for one in tmp_path.iterdir()] == ["ct"]


def test_how_much_is_forgiven(tmp_path: Path) -> None:
    path = make(tmp_path / "ct")
    whole = path.read_bytes()
    with open_dicom(path, tolerance=Tolerance.STRICT) as ct:
        assert not ct.forgiven
    path.write_bytes(whole[:-2])
    with open_dicom(path) as ct:
        assert "longer than what holds it" in next(iter(ct.forgiven))
        assert ct.number("Rows") == 512
        with pytest.raises(DataSetError):
            ct.save(tmp_path / "new")
    assert [one.name for one in tmp_path.iterdir()] == ["ct"]
    for tolerance in (Tolerance.STRICT, Tolerance.USUAL):
        with pytest.raises(DataSetError), open_dicom(path, tolerance=tolerance):
            pass
    path.write_bytes(whole[132 + 12 :])
    with pytest.raises(DataSetError), open_dicom(path, tolerance=Tolerance.STRICT):
        pass
    path.write_bytes(b"no DICOM")
    with pytest.raises(NotDicomError), open_dicom(path):
        pass
