"""What the archive makes of odd files is what DCMTK and pydicom read."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import trio

from isocenter.engine.dataset import write_data_set, write_file_meta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.file_import import import_directory
from isocenter.storage.objects.files.store import open_file_store
from services.archive_support import CT, data_set, opened, uid
from support.odd_files import Ids, odd_files
from support.processes import run, served_archive


@pytest.mark.interop("dcmdump")
async def test_odd_files_are_right_once_they_are_archived(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    expected = {}
    for number, name in enumerate(odd_files(Ids(CT, uid(1)), lambda e: write_data_set([], e)), 1):
        ids = Ids(CT, uid(number))
        file = odd_files(ids, lambda e, number=number: data_set(number, encoding=e))[name]  # type: ignore[misc]
        (source / name).write_bytes(file.content)
        expected[uid(number)] = file
    async with opened(await open_file_store(tmp_path / "data")) as archive:
        report = await import_directory(archive, [source])
        assert report.imported == len(expected)
    seen = set()
    for path in (tmp_path / "data" / "objects").rglob("*.dcm"):
        theirs = pydicom.dcmread(path)
        file = expected[theirs.SOPInstanceUID]
        assert theirs.file_meta.TransferSyntaxUID == file.transfer_syntax_uid
        assert theirs.SeriesInstanceUID == "1.2.3.4"
        dump = await trio.run_process(
            ["dcmdump", "-Un", "+E", "-M", "+P", "0002,0010", "+P", "0020,000e", str(path)],
            capture_stdout=True,
            capture_stderr=True,
        )
        assert f"[{file.transfer_syntax_uid}]".encode() in dump.stdout
        assert b"[1.2.3.4]" in dump.stdout
        assert b"W:" not in dump.stderr
        seen.add(theirs.SOPInstanceUID)
    assert seen == set(expected)


@pytest.mark.interop("storescu", "findscu", "getscu")
def test_dcmtk_sends_and_gets_objects_with_odd_uids(tmp_path: Path) -> None:
    odds = ["1.2.A", "1.2.", "1..2", "urn:oid:1.2", "{A1B2-c}", "1.2_3"]
    for number, odd in enumerate(odds):
        head = write_file_meta(CT, odd, EXPLICIT_VR_LITTLE_ENDIAN)
        data = data_set(1, study=odd, series=odd, instance=odd)
        (tmp_path / f"{number}.dcm").write_bytes(head + data)
    (tmp_path / "got").mkdir()
    with served_archive(tmp_path / "archive") as archive:
        where = ["-aec", "ISOCENTER", "127.0.0.1", str(archive.port)]
        sent_all = run("storescu", *where, *sorted(tmp_path.glob("*.dcm")))
        assert sent_all.returncode == 0, sent_all.stdout
        for odd in odds:
            study = ["-S", "-k", "0008,0052=STUDY", "-k", f"0020,000D={odd}"]
            assert f"[{odd}" in run("findscu", *study, *where).stdout
            got_one = run("getscu", *study, "-od", tmp_path / "got", *where)
            assert got_one.returncode == 0, got_one.stdout
    sent = {path.read_bytes()[-80:] for path in tmp_path.glob("*.dcm")}
    got = [path.read_bytes()[-80:] for path in (tmp_path / "got").iterdir()]
    assert len(got) == len(odds)
    assert set(got) == sent
