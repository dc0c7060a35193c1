"""Which files hold objects: yes, no, or may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding, write_data_set
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.file_import import import_directory
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.cli import main
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    DamagedFileError,
    NotDicomFileError,
    identify,
    identify_early,
)
from isocenter.services.dicom.objects import DicomObject
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, data_set, data_set_of, opened, uid
from services.cli_support import archive_server
from support.odd_files import (
    JPEG_LOSSLESS,
    PREAMBLE,
    Ids,
    OddFile,
    group_0002,
    meta_element,
    odd_files,
)

Output = pytest.CaptureFixture[str]

IDS = Ids(CT, uid(1))
MANY = odd_files(IDS, lambda encoding: data_set(1, encoding=encoding))
WORKLIST = "1.2.840.10008.5.1.4.31"


def odd(number: int, name: str) -> OddFile:
    return odd_files(Ids(CT, uid(number)), lambda encoding: data_set(number, encoding=encoding))[
        name
    ]


# --- Yes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANY)
def test_odd_files_hold_objects(name: str) -> None:
    file = MANY[name]
    found = identify(file.content)
    assert file.content[found.data_set_offset :] == file.data_set
    assert found.transfer_syntax_uid == file.transfer_syntax_uid
    assert (found.sop_class_uid, found.sop_instance_uid) == (CT, uid(1))
    assert bool(found.forgiven) is (name not in {"padded transfer syntax", "private information"})
    # The head of a long one says the same.
    long = identify((file.content + bytes(HEAD_BYTES))[:HEAD_BYTES])
    assert long.data_set_offset == found.data_set_offset


@pytest.mark.parametrize("name", MANY)
def test_first_bytes_say_the_same_or_nothing(name: str) -> None:
    content = MANY[name].content
    whole = identify(content)
    early = [identify_early(content[:end]) for end in range(0, len(content), 3)]
    assert all(one is None or one == whole for one in early)
    assert any(early) is (name in {"padded transfer syntax", "private information"})


@pytest.mark.parametrize("content", [b"", b"GIF89a" * 99, data_set(1), PREAMBLE])
def test_first_bytes_of_what_may_be_anything_say_nothing(content: bytes) -> None:
    assert identify_early(content) is None


async def test_odd_files_are_imported_byte_for_byte_and_can_be_reindexed(tmp_path: Path) -> None:
    """What they say wrong is not said again: the archive's own header is right."""
    source = tmp_path / "source"
    source.mkdir()
    for number, name in enumerate(MANY, 1):
        (source / name).write_bytes(odd(number, name).content)
    async with opened(await open_file_store(tmp_path / "data")) as archive:
        report = await import_directory(archive, [source])
        assert (report.imported, report.files) == (len(MANY), len(MANY)), report
        told = dict(report.forgiven.named)
        assert told[str(source / "length too small")] == "group length wrong"
        for again in (False, True):
            for number, name in enumerate(MANY, 1):
                file = odd(number, name)
                stored = (await archive.index.get([uid(number)]))[uid(number)]
                assert stored.transfer_syntax_uid == file.transfer_syntax_uid, name
                assert await data_set_of(archive, stored) == file.data_set
                # It can be opened to be sent: file and index agree.
                await (await stored_object(stored, archive.open).open()).__aexit__()
            if not again:
                rebuilt = await reindex(archive)
                assert (rebuilt.indexed, rebuilt.damaged.count) == (len(MANY), 0)


def test_odd_files_are_sent(tmp_path: Path, capsys: Output) -> None:
    for number, name in enumerate(MANY, 1):
        (tmp_path / name).write_bytes(odd(number, name).content)
    with archive_server() as server:
        assert main(["storescu", server.peer, str(tmp_path), "-q"]) == 0, capsys.readouterr().err
        assert main(["findscu", server.peer, "-S", "-k", "0008,0052=STUDY", "-k", "0020,1208"]) == 0
    assert f"NumberOfStudyRelatedInstances: {len(MANY)}\n" in capsys.readouterr().out


async def test_a_file_that_the_archive_did_not_write_is_not_indexed(tmp_path: Path) -> None:
    """Whoever put it there shall import it; nothing could be read back by what it says."""
    async with opened(await open_file_store(tmp_path / "data")) as archive:
        folder = tmp_path / "data" / "objects"
        folder.mkdir(exist_ok=True)
        for number, name in ((1, "no transfer syntax"), (2, "no preamble"), (3, "two preambles")):
            (folder / f"{uid(number)}.dcm").write_bytes(odd(number, name).content)
        report = await reindex(archive)
        assert (report.indexed, report.foreign.count) == (0, 3), report


# --- No, and may be ---------------------------------------------------------------------------

NOT = {
    "empty": b"",
    "text": b"Dear colleague, the images are in the other folder." * 20,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "zeros": bytes(5000),
    "numbers that ascend": b"".join(
        number.to_bytes(2, "little") + bytes(6) for number in range(1, 40)
    ),
    "numbers that break off": b"".join(
        number.to_bytes(2, "little") + bytes(6) for number in range(1, 10)
    )
    + b"\x10\0\0\0\xff\xff\xff\xff"
    + bytes(20),
    "DICOMDIR": PREAMBLE
    + group_0002(Ids("1.2.840.10008.1.3.10", "1.2"), EXPLICIT_VR_LITTLE_ENDIAN)
    + data_set(1),
    "DICOMDIR alone": write_data_set([(0x0004_1130, "CS", b"SET ")], EXPLICIT_LITTLE),
    "worklist entry": PREAMBLE
    + group_0002(Ids(WORKLIST, "1.2"), EXPLICIT_VR_LITTLE_ENDIAN)
    + write_data_set([(0x0008_0005, "CS", b"ISO_IR 100")], EXPLICIT_LITTLE),
    "worklist entry of DCMTK": PREAMBLE
    + group_0002(Ids("1.2.276.0.7230010.3.1.0.1", "1.2"), EXPLICIT_VR_LITTLE_ENDIAN)
    + write_data_set([(0x0008_0005, "CS", b"ISO_IR 100")], EXPLICIT_LITTLE),
}
MAY_BE = {
    "cut short": PREAMBLE + group_0002(IDS, "")[:40],
    "prefix alone": PREAMBLE,
    "prefix and rubbish": PREAMBLE + b"\xff" * 100,
    "no preamble, cut short": group_0002(IDS, "", wrong_by=None)[:30],
    "no transfer syntax, no data set": PREAMBLE + group_0002(IDS, "") + b"nothing",
    "ACR-NEMA": write_data_set(
        [(0x0008_0000, "UL", bytes(4)), (0x0008_0020, "DA", b"1990.01.02")], IMPLICIT_LITTLE
    ),
    "explicit, no instance": write_data_set([(0x0008_0005, "CS", b"ISO_IR 100")], EXPLICIT_LITTLE),
    "object without instance": PREAMBLE
    + group_0002(IDS, IMPLICIT_VR_LITTLE_ENDIAN)
    + write_data_set([(0x0008_0005, "CS", b"ISO_IR 100")], IMPLICIT_LITTLE),
    "an element that runs on": write_data_set([(0x0008_0005, "CS", b"A ")], EXPLICIT_LITTLE)
    + b"\x08\0\x16\0SQ\0\0\xff\xff\xff\xff\x08\0\x18\0UI\0\0",
    "the same behind a header": PREAMBLE
    + group_0002(IDS, EXPLICIT_VR_LITTLE_ENDIAN)
    + b"\x08\0\x16\0SQ\0\0\xff\xff\xff\xff\x08\0\x18\0UI\0\0",
    "two transfer syntaxes": PREAMBLE
    + group_0002(IDS, IMPLICIT_VR_LITTLE_ENDIAN, more=meta_element(0x10, "1.2.3"))
    + data_set(1, encoding=IMPLICIT_LITTLE),
    "two files in one": PREAMBLE
    + group_0002(IDS, IMPLICIT_VR_LITTLE_ENDIAN)
    + PREAMBLE
    + group_0002(IDS, EXPLICIT_VR_LITTLE_ENDIAN)
    + data_set(1),
}


@pytest.mark.parametrize("content", NOT.values(), ids=NOT)
def test_files_that_hold_no_objects(content: bytes) -> None:
    with pytest.raises(NotDicomFileError) as caught:
        identify(content)
    assert not isinstance(caught.value, DamagedFileError)


@pytest.mark.parametrize("content", MAY_BE.values(), ids=MAY_BE)
def test_files_that_could_be_and_cannot_be_taken(content: bytes) -> None:
    with pytest.raises(DamagedFileError):
        identify(content)


@pytest.mark.parametrize(("kind", "code"), [(NOT, 0), (MAY_BE, 1)], ids=["no objects", "may be"])
def test_the_exit_code_of_import(
    kind: dict[str, bytes], code: int, tmp_path: Path, capsys: Output
) -> None:
    """0: nothing was left behind that could be an image; each of the others is named."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "good").write_bytes(MANY["no length"].content)
    for name, content in kind.items():
        (source / name).write_bytes(content)
    assert main(["import", "--data-dir", str(tmp_path / "data"), str(source)]) == code
    captured = capsys.readouterr()
    assert "1 imported" in captured.out
    assert "imported all the same: " in captured.err
    for name in kind:
        assert f"{'damaged' if code else 'not DICOM'}: {source / name} (" in captured.err


@pytest.mark.parametrize(("kind", "code"), [(NOT, 0), (MAY_BE, 1)], ids=["no objects", "may be"])
def test_the_exit_code_of_storescu(
    kind: dict[str, bytes], code: int, tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "good").write_bytes(MANY["no length"].content)
    for name, content in kind.items():
        (tmp_path / name).write_bytes(content)
    report = tmp_path / "report.json"
    with archive_server() as server:
        call = ["storescu", server.peer, str(tmp_path), "--report-file", str(report)]
        assert main(call) == code
    assert "1 sent" in capsys.readouterr().err
    outcomes = {
        Path(entry["path"]).name: entry["outcome"]
        for entry in map(json.loads, report.read_text().splitlines())
    }
    for name in kind:
        assert outcomes[name] == ("damaged" if code else "not DICOM")


def with_fragments(before: int, encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    """A data set with compressed pixels behind some bytes of something else."""
    head = b"" if encoding.implicit_vr else b"OB\0\0"
    data = data_set(1, encoding=encoding, pixels=b"")
    data += write_data_set([(0x7FDF_0010, "OB", bytes(before))], encoding)
    data += b"\xe0\x7f\x10\0" + head + b"\xff" * 4 + b"\xfe\xff\0\xe0" + bytes(4)
    return data + b"\xfe\xff\0\xe0\4\0\0\0\xff\xd8\xff\xd9\xfe\xff\xdd\xe0" + bytes(4)


#: So much that the mark lies across what is read at once.
ACROSS = HEAD_BYTES + (1 << 20)


@pytest.mark.parametrize("before", [0, 1000, HEAD_BYTES, *range(ACROSS - 420, ACROSS, 40)])
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
async def test_compressed_pixels_need_a_transfer_syntax(
    before: int, encoding: Encoding, tmp_path: Path
) -> None:
    """No elements show how pixels are compressed; a wrong label would be found by nobody."""
    data = with_fragments(before, encoding)
    for content in (data, PREAMBLE + group_0002(IDS, "") + data):
        (tmp_path / "file").write_bytes(content)
        async with opened(MemoryStore()) as archive:
            report = await import_directory(archive, [tmp_path])
            assert (report.imported, report.damaged.count) == (0, 1)
            assert "compressed" in report.damaged.named[0][1]
        with pytest.raises(DamagedFileError, match="compressed"):
            await DicomObject.from_file(tmp_path / "file")
    if not encoding.implicit_vr:
        (tmp_path / "file").write_bytes(PREAMBLE + group_0002(IDS, JPEG_LOSSLESS) + data)
        async with opened(MemoryStore()) as archive:
            report = await import_directory(archive, [tmp_path])
            stored = (await archive.index.get([uid(1)]))[uid(1)]
            assert stored.transfer_syntax_uid == JPEG_LOSSLESS


async def test_a_dicomdir_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(NOT["DICOMDIR"])
    async with opened(MemoryStore()) as archive:
        report = await import_directory(archive, [tmp_path])
    assert [reason for _, reason in report.not_dicom.named] == [
        "a DICOMDIR names objects and is none"
    ]
