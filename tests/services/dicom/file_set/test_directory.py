"""Directories of file-sets: built, written, read again, and read where they are damaged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.file_set.directory import Directory, FileSetError, new_directory
from isocenter.services.dicom.file_set.directory_reader import ReadDirectory, read_directory
from isocenter.services.dicom.file_set.directory_writer import encode_directory
from isocenter.services.dicom.file_set.file_ids import fault_of, found_file, is_file_set_id
from isocenter.services.dicom.file_set.file_set_builder import DirectoryBuilder
from isocenter.services.dicom.file_set.record_building import RecordScan
from isocenter.services.dicom.file_set.record_types import RECORD_TYPES, record_type_of
from isocenter.services.dicom.file_set.verification import check_directory
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES
from support.file_sets import file_set_in

CT = "1.2.840.10008.5.1.4.1.1.2"
REPORT = "1.2.840.10008.5.1.4.1.1.88.22"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
SYNTAXES = {
    EXPLICIT_LITTLE: "1.2.840.10008.1.2.1",
    IMPLICIT_LITTLE: "1.2.840.10008.1.2",
    EXPLICIT_BIG: "1.2.840.10008.1.2.2",
}


def elements(
    number: int = 1, study: str = "1.2", series: str = "1.2.1", patient: bytes = b"P1", **more: Any
) -> dict[int, WritableElement]:
    found: dict[int, WritableElement] = {
        0x00080016: (0x00080016, "UI", more.get("sop_class", CT).encode()),
        0x00080018: (0x00080018, "UI", f"{series}.{number}".encode()),
        0x00080020: (0x00080020, "DA", b"20260102"),
        0x00080030: (0x00080030, "TM", b"101112"),
        0x00080050: (0x00080050, "SH", b""),
        0x00080060: (0x00080060, "CS", b"CT"),
        0x00100010: (0x00100010, "PN", b"Doe^Jane"),
        0x00100020: (0x00100020, "LO", patient),
        0x0020000D: (0x0020000D, "UI", study.encode()),
        0x0020000E: (0x0020000E, "UI", series.encode()),
        0x00200010: (0x00200010, "SH", b"S1"),
        0x00200011: (0x00200011, "IS", b"1"),
        0x00200013: (0x00200013, "IS", str(number).encode()),
    }
    for element in more.get("and_", ()):
        found[element[0]] = element
    return {tag: one for tag, one in found.items() if tag not in more.get("without", ())}


def scan(encoding: Encoding = EXPLICIT_LITTLE, **more: Any) -> RecordScan:
    found = RecordScan(SYNTAXES[encoding])
    one = elements(**more)
    found.feed(write_data_set([one[tag] for tag in sorted(one)], encoding))
    found.finish()
    return found


def read(data: bytes) -> ReadDirectory:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_directory(file)


def sample() -> Directory:
    builder = DirectoryBuilder(new_directory("CD_1"))
    for study in ("1.2", "1.3"):
        for series in ("1", "2"):
            for number in (1, 2, 3):
                builder.add(scan(number=number, study=study, series=f"{study}.{series}"))
    builder.add(scan(number=9, study="1.9", series="1.9.1", patient=b"P2"))
    return builder.directory


def shape(directory: Directory) -> list[tuple[int, str, str]]:
    return [(len(above), one.type, "\\".join(one.file_id)) for above, one in directory.walk()]


def test_what_was_written_is_read_again() -> None:
    directory = sample()
    again = read(encode_directory(directory))
    assert again.findings == []
    assert shape(again.directory) == shape(directory)
    assert again.directory.file_set_id == "CD_1"
    assert again.directory.sop_instance_uid == directory.sop_instance_uid
    assert encode_directory(again.directory) == encode_directory(directory)
    assert [one.file_id for _, one in directory.references()][3] == (
        "DICOM", "PA000001", "ST000001", "SE000002", "IM000001",
    )  # fmt: skip
    found: list[str] = []
    check_directory(again.directory, found.append)
    assert found == []


def test_pydicom_finds_each_record_where_the_offsets_say(tmp_path: Path) -> None:
    directory = sample()
    for number, (_, record) in enumerate(directory.references()):
        record.sop_instance_uid = generate_uid(entropy_srcs=[str(number)])
        path = tmp_path.joinpath(*record.file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "DICOMDIR").write_bytes(encode_directory(directory))
    file_set = file_set_in(tmp_path / "DICOMDIR")
    assert len(file_set) == 13
    assert file_set.ID == "CD_1"
    assert len(file_set.find(PatientID="P1", load=False)) == 12
    found = file_set.find(StudyInstanceUID="1.3")
    assert len(found) == 6


@pytest.mark.parametrize("encoding", SYNTAXES)
def test_keys_of_every_encoding_become_explicit_little_endian(encoding: Encoding) -> None:
    rows = (200).to_bytes(2, "big" if encoding.big_endian else "little")
    code = [
        (0x00080100, "SH", b"126000"),
        (0x00080102, "SH", b"DCM"),
        (0x00080104, "LO", b"Imaging Report"),
    ]
    modifier = [(0x0040A010, "CS", b"HAS CONCEPT MOD"), (0x0040A043, "SQ", [code])]
    content = [(0x0040A010, "CS", b"CONTAINS"), (0x0040A160, "UT", b"x" * 999)]
    builder = DirectoryBuilder(new_directory())
    image = builder.add(scan(encoding, and_=[(0x00280010, "US", rows)]))
    assert image.keys[0x00280010] == (0x00280010, "US", b"\xc8\0")
    report = builder.add(
        scan(
            encoding,
            number=2,
            sop_class=REPORT,
            and_=[
                (0x0040A043, "SQ", [code]),
                (0x0040A073, "SQ", [[(0x0040A030, "DT", b"20260103")]]),
                (0x0040A730, "SQ", [modifier, content]),
            ],
        )
    )
    again = read(encode_directory(builder.directory)).directory
    (made,) = [one for _, one in again.references() if one.type == "SR DOCUMENT"]
    assert made.file_id == report.file_id
    assert len(made.keys[0x0040A730][2]) == 1, "all, and only, what modifies the title"
    assert made.raw(0x0040A030) == b"20260103"
    assert made.raw(0x0040A493) == b"UNVERIFIED", "made up"
    assert builder.additions.invented == {
        "CompletionFlag": 1, "VerificationFlag": 1,
    } | dict.fromkeys(("ContentDate", "ContentTime"), 1)  # fmt: skip


def test_what_an_object_does_not_say_is_made_up_or_refused() -> None:
    without = (0x00080020, 0x00080030, 0x00100020, 0x00200010, 0x00200011, 0x00200013)
    builder = DirectoryBuilder(new_directory())
    builder.add(scan(without=without, and_=[(0x00080023, "DA", b"20250607")]))
    builder.add(scan(without=without, number=2))
    directory = read(encode_directory(builder.directory)).directory
    (patient,) = directory.roots
    assert patient.raw(0x00100020).startswith(b"UNKNOWN-")
    assert patient.children[0].raw(0x00080020) == b"20250607"
    assert builder.additions.invented["StudyID"] == 2
    found: list[str] = []
    check_directory(directory, found.append)
    assert found == []
    strict = DirectoryBuilder(new_directory(), is_strict=True)
    with pytest.raises(FileSetError, match="has no value for PatientID, StudyDate"):
        strict.add(scan(without=without))
    assert not strict.directory.roots


@pytest.mark.parametrize("missing", [0x00080018, 0x00080016, 0x0020000D, 0x0020000E])
def test_an_object_without_uids_is_refused(missing: int) -> None:
    builder = DirectoryBuilder(new_directory())
    with pytest.raises(FileSetError, match="without which no directory can name it"):
        builder.add(scan(without=(missing,)))
    assert not builder.directory.roots


def test_one_record_for_each_patient_study_and_instance() -> None:
    builder = DirectoryBuilder(new_directory())
    builder.add(scan())
    with pytest.raises(FileSetError, match="has this SOP instance already"):
        builder.add(scan())
    builder.add(scan(number=2, patient=b"P2"))
    builder.add(scan(number=3, and_=[(0x00100010, "PN", b"Other^Name")]))
    assert [one.type for _, one in builder.directory.walk()] == [
        "PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE", "IMAGE",
    ]  # fmt: skip
    assert (builder.additions.other_patients, builder.additions.other_names) == (1, 1)


def test_text_keeps_its_bytes_and_says_its_character_set() -> None:
    name = "Ωμέγα".encode("iso8859-7")
    declared = (0x00080005, "CS", b"ISO_IR 126")
    builder = DirectoryBuilder(new_directory())
    builder.add(scan(and_=[declared, (0x00100010, "PN", name)]))
    directory = read(encode_directory(builder.directory)).directory
    (patient,) = directory.roots
    assert patient.raw(0x00100010) == name
    assert patient.raw(0x00080005) == b"ISO_IR 126"
    assert 0x00080005 not in patient.children[0].keys


@pytest.mark.parametrize("kind", ["", "-bigEnd", "-implicit", "-reordered"])
def test_what_pydicom_ships_is_read(kind: str) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    with (folder / f"DICOMDIR{kind}").open("rb") as file:
        found = read_directory(file)
    assert found.findings == []
    files = [found_file(folder, one.file_id) for _, one in found.directory.references()]
    assert len(files) == 31
    assert None not in files
    again = read(encode_directory(found.directory))
    assert shape(again.directory) == shape(found.directory)
    assert again.findings == []


def damaged(at: int, value: int) -> ReadDirectory:
    """A sample in which the n-th record's link to the next one, or (negative) the first root's
    offset, is another."""
    data = bytearray(encode_directory(sample()))
    tag = b"\x04\0\x00\x14UL\x04\0"
    place = -1
    for _ in range(at + 1):
        place = data.index(tag, place + 1)
    data[place + 8 : place + 12] = value.to_bytes(4, "little")
    return read(bytes(data))


def test_wrong_links_are_named_and_their_records_found() -> None:
    directory = sample()
    first = read(encode_directory(directory)).directory.roots[0].offset
    for record in range(5):
        for value in (1, 12345, first, 0xFFFFFFFF):
            found = damaged(record, value)
            assert found.findings, (record, value)
            assert len(list(found.directory.references())) == 13, (record, value)


def test_a_directory_without_any_link_is_read_by_its_order() -> None:
    data = encode_directory(sample())
    for tag in (b"\x04\0\x00\x14UL\x04\0", b"\x04\0\x20\x14UL\x04\0", b"\x04\0\x00\x12UL\x04\0"):
        at = data.find(tag)
        while at >= 0:
            data = data[: at + 8] + bytes(4) + data[at + 12 :]
            at = data.find(tag, at + 1)
    found = read(data)
    assert shape(found.directory) == shape(sample())
    assert "no link leads to the PATIENT record" in " ".join(found.findings)


def test_a_cut_directory_gives_what_is_there() -> None:
    data = encode_directory(sample())
    for length in range(400, len(data), 487):
        found = read(data[:length])
        assert found.findings
        for _, record in found.directory.walk():
            assert record.type


def test_what_is_no_directory() -> None:
    head = write_file_meta(CT, "1.2.3", "1.2.840.10008.1.2.1")
    with pytest.raises(FileSetError, match="is no DICOMDIR"):
        read(head + write_data_set([(0x00080016, "UI", CT.encode())], EXPLICIT_LITTLE))


def test_every_storage_sop_class_has_a_type_of_record() -> None:
    expected = {
        "CT Image Storage": "IMAGE",
        "Segmentation Storage": "IMAGE",
        "Enhanced US Volume Storage": "IMAGE",
        "RT Image Storage": "IMAGE",
        "RT Dose Storage": "RT DOSE",
        "RT Ion Plan Storage": "RT PLAN",
        "RT Physician Intent Storage": "RADIOTHERAPY",
        "X-Ray Radiation Dose SR Storage": "SR DOCUMENT",
        "Waveform Annotation SR Storage": "SR DOCUMENT",
        "12-lead ECG Waveform Storage": "WAVEFORM",
        "Key Object Selection Document Storage": "KEY OBJECT DOC",
        "Encapsulated STL Storage": "ENCAP DOC",
        "Surface Segmentation Storage": "SURFACE",
        "Microscopy Bulk Simple Annotations Storage": "ANNOTATION",
        "Color Softcopy Presentation State Storage": "PRESENTATION",
        "Visual Acuity Measurements Storage": "MEASUREMENT",
        "Raw Data Storage": "RAW DATA",
    }
    by_name = {name: uid for uid, name in STORAGE_SOP_CLASSES.items()}
    for name, type_ in expected.items():
        assert record_type_of(by_name[name], has_rows=False).name == type_, name
    assert record_type_of("1.2.3.4", has_rows=True).name == "IMAGE"
    assert record_type_of("1.2.3.4", has_rows=False).name == "PRIVATE"
    assert record_type_of("1.2.840.10008.5.1.4.38.1", has_rows=False).is_root
    letters = [one.letters for one in RECORD_TYPES.values() if not one.is_root]
    assert len(set(letters)) == len(letters)


def test_names_of_files(tmp_path: Path) -> None:
    assert not fault_of(("DICOM", "A_1"))
    assert "9 components" in fault_of(("A",) * 9)
    for wrong in ("abc", "LONGERNAME", "A.B", "", "A-B"):
        assert "component" in fault_of((wrong,))
    assert is_file_set_id("CD 1_A")
    assert not is_file_set_id("cd")
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "im000001.;1").touch()
    assert found_file(tmp_path, ("DICOM", "IM000001")) == tmp_path / "dicom" / "im000001.;1"
    for outside in (("..", tmp_path.name, "dicom"), ("DICOM", "..", ".."), ("/etc/passwd",)):
        assert found_file(tmp_path / "dicom", outside) is None


def test_a_private_record_says_which_one_it_is() -> None:
    builder = DirectoryBuilder(new_directory())
    record = builder.add(scan(sop_class="1.2.3.4"))
    assert record.type == "PRIVATE"
    assert record.raw(0x00041432) == b"1.2.3.4"
    assert b"\x04\0\x32\x14UI" in encode_directory(builder.directory)
